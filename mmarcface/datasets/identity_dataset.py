"""Data sets to train on."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import expanduser

import numpy as np
from mmengine.dataset import force_full_init

from .formats.keep_list import fingerprint_samples
from .formats.text_lists import read_lines
from .labels import labels_of
from .lazy_samples import LazySamples
from .sample_ids import refuse_repeated_ids, sample_id_of
from .subsets import SubsettableDataset


class IdentityDataset(SubsettableDataset):
    """A data set with a class for each sample, to train on.

    :class:`FilteredDataset` trains on those of its samples that a keep-list names.

    Args:
        *args: see :class:`mmpretrain.datasets.BaseDataset`.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        ValueError: if there is a ``filter_file``, which only :class:`FilteredDataset` takes.
    """

    def __init__(self, *args, **kwargs):
        if 'filter_file' in kwargs:
            raise ValueError(
                f'{type(self).__name__} takes no filter_file: wrap it, as '
                f"dict(type='mmarcface.FilteredDataset', filter_file={kwargs['filter_file']!r}, "
                f'dataset=dict(type={type(self).__name__!r}, ...), pipeline=[...])'
            )
        self._fingerprint = None
        super().__init__(*args, **kwargs)

    def sample_id(self, sample: dict) -> str:
        """The name of a sample, which differs from all others and stays where the data moves.

        Args:
            sample: one from ``load_data_list`` or ``get_data_info``.

        Returns:
            Its ``sample_id`` if it has one, else its path relative to ``data_root`` or the prefix
            of images; for an image inside a larger file the file's name and the key.
        """
        return sample_id_of(sample, list(filter(None, (self.data_root, self.img_prefix))))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the whole data set, before a list or ``indices`` choose from it."""
        if self._fingerprint is None:
            metainfo = self._metainfo
            # Samples that are left out have to be read again.
            self._metainfo = dict(metainfo)
            ids, labels = self._ids_and_labels(self.load_data_list())
            self._fingerprint = fingerprint_samples(ids, labels.tolist())
            self._metainfo = metainfo
        return self._fingerprint

    def filter_data(self) -> Sequence[dict]:
        """All samples; lazy ones take no memory as they are, and are not serialized."""
        samples = super().filter_data()
        if isinstance(samples, LazySamples):
            self.serialize_data = False
        return samples

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """The sample at a place; mmengine copies it, and one of arrays is made each time."""
        if isinstance(self.data_list, LazySamples):
            place = self._place(idx)
            return self.data_list[place] | dict(sample_idx=place)
        return super().get_data_info(idx)

    def get_gt_labels(self) -> np.ndarray:
        """Classes of all samples, (N,)."""
        return labels_of(self)

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

    def _ids_and_labels(self, samples: Sequence[dict]) -> tuple[list[str], np.ndarray]:
        """Names and classes of samples as they were loaded."""
        ids = [self.sample_id(sample) for sample in samples]
        refuse_repeated_ids(ids)
        return ids, labels_of(samples)
