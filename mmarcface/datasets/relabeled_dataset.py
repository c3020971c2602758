"""Samples of another data set under labels of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmarcface.registry import DATASETS

from .class_names import class_names
from .identity_dataset import IdentityDataset
from .labels import labels_of
from .lazy_samples import LazySamples
from .sample_ids import LazySampleIds


class RelabeledDataset(IdentityDataset):
    """Samples of another data set; subclasses choose among them, or change their labels.

    A sample is taken from the other data set when it is asked for.

    Args:
        dataset: config of the data set, ours or not; its pipeline is not used.
        **kwargs: see :class:`IdentityDataset`; ``pipeline`` prepares the samples.

    Raises:
        ValueError: if the data set has samples without a class or a name; else as the data set.
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
        return RelabeledSamples.from_dataset(dataset)


@dataclass
class RelabeledSamples(LazySamples):
    """Samples of a data set, under other labels.

    Args:
        dataset: the data set.
        ids: names of all its samples.
        places: places of the chosen samples in the data set, (N,).
        labels: new classes of the samples, (N,).
    """

    dataset: BaseDataset
    ids: LazySampleIds
    places: np.ndarray
    labels: np.ndarray

    @classmethod
    def from_dataset(cls, dataset: BaseDataset) -> RelabeledSamples:
        """All samples of a data set, under the labels that they have there.

        Args:
            dataset: the data set.
        """
        return cls(dataset, LazySampleIds(dataset), np.arange(len(dataset)), labels_of(dataset))

    def make(self, place: int) -> dict:
        """See :meth:`LazySamples.make`."""
        origin = int(self.places[place])
        sample = self.dataset.get_data_info(origin)
        sample_id = self.ids.id_of(origin, sample)
        return sample | dict(gt_label=int(self.labels[place]), sample_id=sample_id)

    def take(self, places: np.ndarray | slice, labels: np.ndarray) -> RelabeledSamples:
        """See :meth:`LazySamples.take`."""
        return RelabeledSamples(self.dataset, self.ids, self.places[places], labels)
