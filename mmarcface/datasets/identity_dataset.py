"""Data sets to train on, of which a keep-list may choose the samples and their labels."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from os.path import expanduser

import numpy as np
from mmengine.dataset import force_full_init
from mmengine.logging import print_log

from .formats.keep_list import KeepList, fingerprint_samples, read_list
from .formats.text_lists import read_lines
from .sample_ids import num_classes_of, refuse_repeated_ids, sample_id_of
from .subsets import SharedMetainfo, SubsettableDataset

MISMATCHES = ('refuse', 'report')


class LazySamples(SharedMetainfo, Sequence):
    """Samples of which arrays tell all, so that millions take little memory and workers share it.

    Attributes:
        labels: the class of each sample, (N,).
    """

    labels: np.ndarray

    @abstractmethod
    def make(self, place: int) -> dict:
        """The sample at a place.

        Args:
            place: in [-N, N).
        """

    @abstractmethod
    def take(self, places: np.ndarray | slice, labels: np.ndarray) -> LazySamples:
        """Some of the samples.

        Args:
            places: theirs, in their new order.
            labels: their new classes.
        """

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int | slice) -> dict | LazySamples:
        if isinstance(place, slice):
            return self.take(place, self.labels[place])
        return self.make(place)


class IdentityDataset(SubsettableDataset):
    """A data set with a class for each sample, to train on all of it or on what a list keeps.

    The classes stay those of the whole data set, and the samples keep their order; ``indices``
    count what the list keeps.

    Args:
        *args: see :class:`mmpretrain.datasets.BaseDataset`.
        filter_file: path of a keep-list, ``.csv`` or ``.parquet``; only its samples are used, under
            its labels.
        filter_mismatch: what to do if the list was made for another data set, names samples that
            this one does not have, or leaves a class without samples: 'refuse', or 'report' to
            warn and use what fits.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: if there is no such list.
        ImportError: if there is a list, and the package ``pyarrow`` is not installed.
        ValueError: if the list is damaged, does not fit, keeps nothing, or has a label that is no
            class; if two samples have the same name; if ``filter_mismatch`` is unknown, or a
            benchmark is to be filtered.
    """

    def __init__(
        self,
        *args,
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
        self._fingerprint = None
        super().__init__(*args, **kwargs)

    def sample_id(self, sample: dict) -> str:
        """What a sample is called, by itself in its data set and wherever the data lies.

        Args:
            sample: from ``load_data_list`` or ``get_data_info``.

        Returns:
            Its ``sample_id`` if it has one, else its path relative to ``data_root`` or the prefix
            of images; for an image inside a larger file the file's name and the key.
        """
        return sample_id_of(sample, list(filter(None, (self.data_root, self.img_prefix))))

    @property
    def fingerprint(self) -> str:
        """That of the whole data set, before a list or ``indices`` choose from it."""
        if self._fingerprint is None:
            metainfo = self._metainfo
            # What is left out now has to be read again.
            self._metainfo = dict(metainfo)
            self._fingerprint = fingerprint_samples(*self._named(self.load_data_list()))
            self._metainfo = metainfo
        return self._fingerprint

    def filter_data(self) -> Sequence[dict]:
        """The samples that the list keeps; all where there is none."""
        samples = super().filter_data()
        if isinstance(samples, LazySamples):
            # They take no memory as they are.
            self.serialize_data = False
        if self.filter_file is None:
            return samples
        for key in {'pairs', 'templates'} & set(self._metainfo):
            raise ValueError(
                f'filter_file must be None where there are {key}, which are places among all '
                f'samples; got {self.filter_file} for {type(self).__name__}'
            )
        names, labels = self._named(samples)
        self._fingerprint = fingerprint_samples(names, labels)
        places, labels = self._choose(read_list(expanduser(self.filter_file)), names, labels)
        if isinstance(samples, LazySamples):
            return samples.take(places, labels)
        chosen = zip(places.tolist(), labels.tolist(), strict=True)
        return [samples[place] | dict(gt_label=label) for place, label in chosen]

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """The sample at a place; mmengine copies it, and one of arrays is made anew each time."""
        if isinstance(self.data_list, LazySamples):
            place = self._place(idx)
            return self.data_list[place] | dict(sample_idx=place)
        return super().get_data_info(idx)

    @force_full_init
    def get_gt_labels(self) -> np.ndarray:
        """Classes of all samples, (N,)."""
        if isinstance(self.data_list, LazySamples):
            return self.data_list.labels
        return super().get_gt_labels()

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Sequence[dict]:
        samples = self.data_list
        if not isinstance(samples, LazySamples):
            return super()._get_unserialized_subset(indices)
        places = self._keep_places(indices, len(samples))
        return samples.take(places, samples.labels[places])

    def _compat_classes(self, metainfo: dict | None, classes: str | Sequence[str] | None) -> dict:
        if isinstance(classes, str):
            classes = read_lines(expanduser(classes))
        return super()._compat_classes(metainfo, classes)

    def _named(self, samples: Sequence[dict]) -> tuple[list[str], list[int]]:
        """Names and classes of samples as they were loaded."""
        names = [self.sample_id(sample) for sample in samples]
        refuse_repeated_ids(names)
        if isinstance(samples, LazySamples):
            return names, samples.labels.tolist()
        return names, [int(sample['gt_label']) for sample in samples]

    def _choose(
        self, kept: KeepList, names: list[str], labels: list[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places of the samples that a list keeps, in ascending order, and their new classes."""
        rows = {name: row for row, name in enumerate(kept.samples)}
        found = np.array([rows.get(name, -1) for name in names], np.int64)
        places = np.flatnonzero(found >= 0)
        chosen = kept.labels[found[places]]
        here, unknown = f'this {type(self).__name__}', len(rows) - len(places)
        lost = f'all its {len(rows)} samples are in {here}'
        if unknown:
            there = set(names)
            first = next(name for name in rows if name not in there)
            lost = f'{unknown} of its {len(rows)} samples are not in {here}, the first is {first!r}'
        if kept.data_set != self._fingerprint:
            self._complain(
                f'{kept.path} was made for a data set of other samples or labels: its data_set is '
                f'{kept.data_set}, and that of {here}, of {len(names)} samples, is '
                f'{self._fingerprint}; {lost}'
            )
        if unknown:
            self._complain(f'{kept.path} must name samples of the data set: {lost}')
        if not len(places):
            raise ValueError(f'{kept.path} keeps nothing of {here}, which has {len(names)} samples')
        num_classes = num_classes_of(self._metainfo, labels)
        wrong = np.flatnonzero((chosen < 0) | (chosen >= num_classes))
        if len(wrong):
            raise ValueError(
                f'{kept.path}: labels must be in [0, {num_classes}), the classes of {here}, got '
                f'{chosen[wrong[0]]} for sample {names[places[wrong[0]]]!r}'
            )
        emptied = np.setdiff1d(labels, chosen)
        if len(emptied):
            first, classes = emptied[0], self._metainfo.get('classes') or ()
            self._complain(
                f'{kept.path} must leave samples in each class: it empties {len(emptied)} of '
                f'{len(set(labels))}, the first is {first}'
                + (f' ({classes[first]})' if first < len(classes) else '')
            )
        return places, chosen

    def _complain(self, message: str) -> None:
        if self.filter_mismatch == 'refuse':
            raise ValueError(f"{message}. To use it all the same: filter_mismatch='report'")
        print_log(message, logger='current', level=logging.WARNING)
