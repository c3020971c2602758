"""What a keep-list keeps of any data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os.path import expanduser

import numpy as np
from mmengine.logging import print_log

from mmarcface.registry import DATASETS

from .formats.keep_list import KeepList, fingerprint_samples, read_keep_list
from .labels import num_classes_of
from .relabeled_dataset import RelabeledDataset

MISMATCHES = ('refuse', 'report')


@DATASETS.register_module()
class FilteredDataset(RelabeledDataset):
    """The samples of a data set that a keep-list names, under the labels of the list.

    The data set may be any: ours, mmpretrain's CustomDataset or ImageNet, a ConcatDataset. Its
    classes stay what they are, and the samples keep their order.

    >>> train = dict(
    ...     type='mmarcface.FilteredDataset',
    ...     dataset=dict(type='mmarcface.IdentityFolder', data_root='data/faces'),
    ...     filter_file='purification/keep.csv',
    ... )

    Args:
        dataset: config of the data set; its pipeline is not used.
        filter_file: path of a keep-list, ``.csv`` or ``.parquet``; all samples are used without.
        filter_mismatch: action if the list was made for another data set, names samples that
            this one does not have, or leaves a class without samples: 'refuse', or 'report' to
            warn and use what fits.
        **kwargs: see :class:`IdentityDataset`; ``pipeline`` prepares the samples, and ``indices``
            count those that the list keeps.

    Raises:
        FileNotFoundError: if there is no such list.
        ImportError: if there is a list, and the package ``pyarrow`` is not installed.
        ValueError: if the list is damaged, does not fit, keeps nothing, or has a label that is no
            class; if the data set has samples without a class or a name, or two of the same name;
            if ``filter_mismatch`` is unknown, or a benchmark is to be filtered; else as the data
            set.
    """

    def __init__(
        self,
        dataset: dict,
        filter_file: str | None = None,
        filter_mismatch: str = 'refuse',
        **kwargs,
    ):
        if filter_mismatch not in MISMATCHES:
            raise ValueError(
                f'filter_mismatch must be one of {list(MISMATCHES)}, got {filter_mismatch!r}'
            )
        self.filter_file = filter_file
        self.filter_mismatch = filter_mismatch
        super().__init__(dataset, **kwargs)

    def filter_data(self) -> Sequence[dict]:
        """The samples that the list keeps; all where there is none."""
        samples = super().filter_data()
        if self.filter_file is None:
            return samples
        for key in {'pairs', 'templates'} & set(self._metainfo):
            raise ValueError(
                f'filter_file must be None where there are {key}, which are places among all '
                f'samples; got {self.filter_file} for {type(samples.dataset).__name__}'
            )
        ids, labels = self._ids_and_labels(samples)
        self._fingerprint = fingerprint_samples(ids, labels.tolist())
        kept = read_keep_list(expanduser(self.filter_file))
        return samples.take(*self._choose(kept, ids, labels, type(samples.dataset).__name__))

    def _choose(
        self, kept: KeepList, ids: list[str], labels: np.ndarray, dataset: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places of the samples that a list keeps, in ascending order, and their new classes."""
        rows = {name: row for row, name in enumerate(kept.samples)}
        found = np.array([rows.get(name, -1) for name in ids], np.int64)
        places = np.flatnonzero(found >= 0)
        chosen = kept.labels[found[places]]
        here, unknown = f'this {dataset}', len(rows) - len(places)
        lost = f'all its {len(rows)} samples are in {here}'
        if unknown:
            there = set(ids)
            first = next(name for name in rows if name not in there)
            lost = f'{unknown} of its {len(rows)} samples are not in {here}, the first is {first!r}'
        if kept.data_set != self._fingerprint:
            self._complain(
                f'{kept.path} was made for a data set of other samples or labels: its data_set is '
                f'{kept.data_set}, and that of {here}, of {len(ids)} samples, is '
                f'{self._fingerprint}; {lost}'
            )
        if unknown:
            self._complain(f'{kept.path} must name samples of the data set: {lost}')
        if not len(places):
            raise ValueError(f'{kept.path} keeps nothing of {here}, which has {len(ids)} samples')
        num_classes = num_classes_of(self._metainfo, labels)
        wrong = np.flatnonzero((chosen < 0) | (chosen >= num_classes))
        if len(wrong):
            raise ValueError(
                f'{kept.path}: labels must be in [0, {num_classes}), the classes of {here}, got '
                f'{chosen[wrong[0]]} for sample {ids[places[wrong[0]]]!r}'
            )
        emptied = np.setdiff1d(labels, chosen)
        if len(emptied):
            first, classes = emptied[0], self._metainfo.get('classes') or ()
            self._complain(
                f'{kept.path} must leave samples in each class: it empties {len(emptied)} of '
                f'{len(np.unique(labels))}, the first is {first}'
                + (f' ({classes[first]})' if first < len(classes) else '')
            )
        return places, chosen

    def _complain(self, message: str) -> None:
        if self.filter_mismatch == 'refuse':
            raise ValueError(f"{message}. To use it all the same: filter_mismatch='report'")
        print_log(message, logger='current', level=logging.WARNING)
