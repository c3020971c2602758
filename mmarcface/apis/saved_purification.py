"""What a purification leaves in a folder: lists, a summary, figures."""

from __future__ import annotations

from pathlib import Path

import mmengine
import numpy as np
import torch
from mmengine.dataset import BaseDataset

from mmarcface.datasets.keep_list import write_list
from mmarcface.visualization import Dropped, draw_angles, draw_dropped, draw_subcenters

from .purification import Purification

FORMATS = ('csv', 'parquet')
# Of the contact sheet.
MOST_CLASSES, MOST_IN_ROW = 12, 12


def save_purification(
    purification: Purification,
    dataset: BaseDataset,
    folder: str | Path,
    format: str = 'csv',
    about: dict | None = None,
) -> dict:
    """Write what was found.

    The folder gets ``keep.csv``, which data sets take as ``filter_file``: ``sample``, ``label`` to
    train under, ``given_label``, ``angle`` to the dominant centre of the given class in degrees,
    ``centre``, the nearest one of the given class, and ``data_set``; ``drop.csv``, the same of the
    samples that are left out, the most suspicious first; ``summary.json``; and the figures
    ``angles.png``, ``subcenters.png`` and ``dropped.png``.

    Args:
        purification: of :func:`purify`.
        dataset: the same data set; its images are read for ``dropped.png``.
        folder: made where it is missing; files of the same names are replaced.
        format: of the lists, 'csv' or 'parquet'.
        about: more for the summary, such as the config.

    Returns:
        The summary: :meth:`Purification.report` and ``about``.

    Raises:
        ValueError: if ``format`` is unknown, or every sample is to be dropped.
        ImportError: if the package ``pyarrow`` or ``matplotlib`` is not installed.
    """
    if format not in FORMATS:
        raise ValueError(f'format must be one of {FORMATS}, got {format!r}')
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = (about or {}) | purification.report()
    dropped = purification.dropped
    suspicious = torch.argsort(purification.angles, descending=True, stable=True)
    _write(purification, (~dropped).nonzero().squeeze(1), folder / f'keep.{format}')
    _write(purification, suspicious[dropped[suspicious]], folder / f'drop.{format}')
    mmengine.dump(report, folder / 'summary.json', indent=1)
    truth = purification.true_labels
    figures = dict(
        angles=draw_angles(
            purification.angles.numpy(),
            purification.threshold,
            purification.other_angles.numpy(),
            None if truth is None else (truth != purification.labels).numpy(),
        ),
        subcenters=draw_subcenters(purification.counts.numpy()),
    )
    rows = _rows(purification, dataset)
    if rows:
        figures['dropped'] = draw_dropped(rows, dataset.metainfo.get('classes'))
    for name, figure in figures.items():
        figure.savefig(folder / f'{name}.png', dpi=100)
    return report


def _write(purification: Purification, places: torch.Tensor, path: Path) -> None:
    columns = dict(
        label=purification.new_labels,
        given_label=purification.labels,
        angle=purification.angles,
        centre=purification.nearest,
    )
    columns = {name: values[places].numpy() for name, values in columns.items()}
    names = [purification.names[place] for place in places.tolist()]
    write_list(path, dict(sample=names) | columns, purification.data_set)


def _rows(purification: Purification, dataset: BaseDataset) -> list[Dropped]:
    """For the contact sheet, the classes with the largest share of samples not kept."""
    labels, angles, out = purification.labels, purification.angles, ~purification.keep
    rows = []
    for found in purification.report()['classes_by_dropped'][:MOST_CLASSES]:
        label = found['label']
        own = (labels == label).nonzero().squeeze(1)
        own = own[torch.argsort(angles[own], stable=True)]
        kept, not_kept = own[~out[own]], own[out[own]].flip(0)
        shown = not_kept[:MOST_IN_ROW].tolist()
        rows.append(
            Dropped(
                label=label,
                typical=_image(dataset, int(kept[0])) if len(kept) else None,
                images=[_image(dataset, place) for place in shown],
                angles=angles[shown].tolist(),
                proposed=None
                if purification.proposed is None
                else purification.proposed[shown].tolist(),
                total=len(not_kept),
            )
        )
    return rows


def _image(dataset: BaseDataset, place: int) -> np.ndarray:
    """A sample's image as the pipeline's first transform that gives one reads it."""
    sample = dataset.get_data_info(place)
    for transform in dataset.pipeline.transforms:
        if 'img' in sample:
            break
        sample = transform(sample)
    return sample['img']
