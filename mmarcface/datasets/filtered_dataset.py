"""What a keep-list keeps of any data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmarcface.registry import DATASETS

from .class_names import class_names
from .identity_dataset import IdentityDataset, LazySamples
from .sample_ids import SampleIds, labels_of


@DATASETS.register_module()
class FilteredDataset(IdentityDataset):
    """The samples of another data set, such as mmpretrain's CustomDataset or ImageNet.

    They are taken from it when asked for, so that it keeps what it does to have them.

    Args:
        dataset: config of the data set; its pipeline is not used.
        **kwargs: see :class:`IdentityDataset`, of which ``filter_file`` makes this of use, and
            ``pipeline`` is for the samples.

    Raises:
        ValueError: if the data set has samples without a class or a name; else as
            :class:`IdentityDataset` and the data set.
    """

    def __init__(self, dataset: dict, **kwargs):
        self.config = dataset
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> Sequence[dict]:
        """One dict for each sample, made when asked for, with its ``sample_id``."""
        dataset = DATASETS.build(self.config)
        names = class_names(dataset)
        own = {} if names is None else dict(classes=tuple(names))
        self._metainfo = dataset.metainfo | own | self._metainfo
        return BorrowedSamples.of(dataset)


@dataclass
class BorrowedSamples(LazySamples):
    """Samples of a data set, under other labels.

    Args:
        dataset: the data set.
        names: of its samples.
        places: in the data set, (N,).
        labels: new classes, (N,).
    """

    dataset: BaseDataset
    names: SampleIds
    places: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, dataset: BaseDataset) -> BorrowedSamples:
        """All samples of a data set, as they are.

        Args:
            dataset: the data set.
        """
        return cls(dataset, SampleIds(dataset), np.arange(len(dataset)), labels_of(dataset))

    def make(self, place: int) -> dict:
        """See :meth:`LazySamples.make`."""
        origin = int(self.places[place])
        sample = self.dataset.get_data_info(origin)
        name = self.names.of(origin, sample)
        return sample | dict(gt_label=int(self.labels[place]), sample_id=name)

    def take(self, places: np.ndarray | slice, labels: np.ndarray) -> BorrowedSamples:
        """See :meth:`LazySamples.take`."""
        return BorrowedSamples(self.dataset, self.names, self.places[places], labels)
