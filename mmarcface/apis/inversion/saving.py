"""Writes an inversion to a folder: images, a grid, an animation, a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import mmengine
import numpy as np
from PIL import Image

from mmarcface.visualization import draw_convergence, image_grid

from .evaluator import InversionEvaluator
from .result import Inversion

# Rows of the grid; all images have files of their own.
MAX_ROWS = 400


def save_inversion(
    inversion: Inversion,
    folder: str | Path,
    names: Sequence[str] | None = None,
    evaluator: InversionEvaluator | None = None,
    identities: Sequence[int] | None = None,
    about: dict | None = None,
) -> dict:
    """Write the images and the report of an inversion to a folder.

    The folder gets ``images/NAME_0.png`` and so on, ``grid.png`` with a row for each of the first
    400 targets, ``convergence.gif``, the same over time, ``convergence.png``, the terms over time,
    and ``report.json``.

    Args:
        inversion: result of :func:`mmarcface.apis.invert`.
        folder: path of the folder, which is made if missing; files of the same names are replaced.
        names: names of the targets, (N,), the same for several images of one target; by default
            'label3' for class 3, 'target3' for the fourth embedding.
        evaluator: its judge says whom the images show; none by default.
        identities: the identity that each image is meant to show, (N,), for the evaluator; the
            classes by default.
        about: further entries of the report, such as the config.

    Returns:
        The report: that of the inversion, ``about``, the ``files``, and that of the evaluator.

    Raises:
        ValueError: if there are not as many names as images, a name is not that of a file, or the
            evaluator has neither ``identities`` nor classes.
    """
    labels = inversion.labels
    if names is None:
        kind = 'target' if labels is None else 'label'
        names = [f'{kind}{n}' for n in (range(len(inversion.images)) if labels is None else labels)]
    if len(names) != len(inversion.images):
        raise ValueError(f'{len(inversion.images)} images have {len(names)} names')
    for name in names:
        # OpenCV gives no error if it cannot write an image.
        if not name or Path(name).name != name:
            raise ValueError(f'names must be those of files, without folders, got {name!r}')
    identities = labels if identities is None else identities
    if evaluator is not None and identities is None:
        raise ValueError('the evaluator has to know whom the images are to show: give identities')
    report = inversion.report() | (about or {})

    folder = Path(folder)
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        rows.setdefault(name, []).append(index)
    files = [''] * len(names)
    for name, indices in rows.items():
        for number, index in enumerate(indices):
            files[index] = f'images/{name}_{number}.png'
            cv2.imwrite(str(folder / files[index]), inversion.images[index])
    shown = dict(list(rows.items())[:MAX_ROWS])
    cv2.imwrite(str(folder / 'grid.png'), _grid(inversion.images, shown))
    # The frames have only the first images; take the same number of each target if possible.
    kept = [[i for i in indices if i < inversion.frames.shape[1]] for indices in rows.values()]
    fewest = min(map(len, kept))
    kept = {str(n): indices[: fewest or None] for n, indices in enumerate(kept) if indices}
    frames = [_grid(frame, kept)[..., ::-1] for frame in inversion.frames]
    first, *others = map(Image.fromarray, frames)
    durations = [120] * len(others) + [1500]
    first.save(
        folder / 'convergence.gif', save_all=True, append_images=others, duration=durations, loop=0
    )
    draw_convergence(inversion.history).savefig(folder / 'convergence.png', dpi=100)
    report['files'] = files
    mmengine.dump(report, folder / 'report.json', indent=1)
    if evaluator is not None:
        report |= evaluator(inversion.images, identities)
        mmengine.dump(report, folder / 'report.json', indent=1)
    return report


def _grid(images: np.ndarray, rows: dict[str, list[int]]) -> np.ndarray:
    """A row for each target, filled up with white; or about a square if each has one image."""
    columns = max(map(len, rows.values()))
    if columns == 1:
        order = [index for indices in rows.values() for index in indices]
        return image_grid(images[order], int(np.ceil(len(order) ** 0.5)))
    # The last image, -1, is white.
    images = np.concatenate([images, np.full_like(images[:1], 255)])
    order = [i for indices in rows.values() for i in indices + [-1] * (columns - len(indices))]
    return image_grid(images[order], columns)
