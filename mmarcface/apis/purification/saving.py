"""Writing the result of a purification: lists, a summary, figures."""

from __future__ import annotations

from pathlib import Path

import mmengine
import numpy as np
import torch
from mmengine.dataset import BaseDataset

from mmarcface.datasets.formats.keep_list import write_keep_list
from mmarcface.visualization import DroppedRow, draw_angles, draw_dropped, draw_subcenters

from .result import Purification

FORMATS = ('csv', 'parquet')
# Files that an earlier call may have left.
FILES = (
    *(f'{name}.{format}' for name in ('keep', 'drop') for format in FORMATS),
    *('summary.json', 'angles.png', 'subcenters.png', 'dropped.png'),
)
# Size of the contact sheet.
MAX_CLASSES, MAX_IN_ROW = 12, 12


def save_purification(
    purification: Purification,
    dataset: BaseDataset,
    folder: str | Path,
    format: str = 'csv',
    about: dict | None = None,
) -> dict:
    """Write the result of a purification into a folder.

    The folder gets ``keep.csv``, the ``filter_file`` of a ``FilteredDataset``, with the columns
    ``sample``, ``label`` to train under, ``given_label``, ``angle`` to the dominant center of the
    given class in degrees, ``centre``, the nearest one of the given class, and ``data_set``;
    ``drop.csv``, the same of the samples that are left out, the most suspicious first;
    ``summary.json``; and the figures ``angles.png``, ``subcenters.png`` and ``dropped.png``.

    Args:
        purification: result of :func:`purify`.
        dataset: the data set that was purified; its images are read for ``dropped.png``.
        folder: folder of the files, which is made where it is missing; files of the same names are
            replaced.
        format: format of the lists, 'csv' or 'parquet'.
        about: further entries of the summary, such as the config.

    Returns:
        The summary: :meth:`Purification.report` and ``about``.

    Raises:
        ValueError: if ``format`` is unknown, or every sample is to be dropped.
        ImportError: if the package ``pyarrow`` or ``matplotlib`` is not installed.
    """
    if format not in FORMATS:
        raise ValueError(f'format must be one of {FORMATS}, got {format!r}')
    dropped = purification.dropped
    if dropped.all():
        raise ValueError(
            f'all {len(dropped)} samples would be dropped at {purification.threshold} degrees: '
            'nothing is written'
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    report = (about or {}) | purification.report()
    suspicious = torch.argsort(purification.angles, descending=True, stable=True)
    _write(purification, (~dropped).nonzero().squeeze(1), folder / f'keep.{format}')
    _write(purification, suspicious[dropped[suspicious]], folder / f'drop.{format}')
    mmengine.dump(report, folder / 'summary.json', indent=1)
    truth = purification.true_labels
    draw_angles(
        purification.angles.numpy(),
        purification.threshold,
        purification.nontarget_angles.numpy() if len(purification.nontarget_angles) else None,
        None if truth is None else (truth != purification.labels).numpy(),
        (~purification.keep).numpy(),
    ).savefig(folder / 'angles.png', dpi=100)
    draw_subcenters(purification.subcenter_counts.numpy()).savefig(
        folder / 'subcenters.png', dpi=100
    )
    labels = [found['label'] for found in report['classes_by_dropped'][:MAX_CLASSES]]
    if labels:
        rows = [_row(purification, dataset, label) for label in labels]
        names = dataset.metainfo.get('classes')
        draw_dropped(rows, names).savefig(folder / 'dropped.png', dpi=100)
    return report


def _write(purification: Purification, places: torch.Tensor, path: Path) -> None:
    columns = dict(
        label=purification.new_labels,
        given_label=purification.labels,
        angle=purification.angles,
        centre=purification.nearest_subcenters,
    )
    columns = {name: values[places].numpy() for name, values in columns.items()}
    names = [purification.sample_ids[place] for place in places.tolist()]
    write_keep_list(path, dict(sample=names) | columns, purification.fingerprint)


def _row(purification: Purification, dataset: BaseDataset, label: int) -> DroppedRow:
    """The row of a class on the contact sheet."""
    angles, proposed = purification.angles, purification.proposed_labels
    own = (purification.labels == label).nonzero().squeeze(1)
    own = own[torch.argsort(angles[own], stable=True)]
    kept, not_kept = own[purification.keep[own]], own[~purification.keep[own]].flip(0)
    shown = not_kept[:MAX_IN_ROW].tolist()
    return DroppedRow(
        label=label,
        typical=_image(dataset, int(kept[0])) if len(kept) else None,
        images=[_image(dataset, place) for place in shown],
        angles=angles[shown].tolist(),
        proposed=None if proposed is None else proposed[shown].tolist(),
        total=len(not_kept),
    )


def _image(dataset: BaseDataset, place: int) -> np.ndarray:
    """A sample's image as the pipeline reads it, before other transforms, BGR, uint8."""
    sample = dataset.get_data_info(place)
    for transform in dataset.pipeline.transforms:
        if 'img' in sample:
            break
        sample = transform(sample)
    image = np.asarray(sample['img']).clip(0, 255).astype(np.uint8)
    image = image[..., None] if image.ndim == 2 else image
    return image.repeat(3, axis=2) if image.shape[2] == 1 else image
