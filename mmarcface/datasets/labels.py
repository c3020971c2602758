"""The classes of all samples of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from .lazy_samples import LazySamples


def labels_of(dataset: Dataset | Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The class of each sample, in the order of the data set.

    Args:
        dataset: a data set of ours, of mmpretrain or of mmengine, a wrapper of theirs or of torch's
            (``ConcatDataset``, ``Subset``); or a list of samples, as ``get_data_info`` gives them.

    Returns:
        Labels, (N,), int64.

    Raises:
        ValueError: if a sample has no label, or one that is no integer.
    """
    if hasattr(dataset, 'cumulative_sizes'):
        return np.concatenate([labels_of(part) for part in dataset.datasets])
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[list(dataset.indices)]
    number = len(dataset)  # Loads the samples of a data set that has not done so.
    samples = getattr(dataset, 'data_list', dataset)
    if isinstance(samples, LazySamples):
        return samples.labels.astype(np.int64)
    sample = getattr(dataset, 'get_data_info', None) or dataset.__getitem__
    labels = [sample(place).get('gt_label') for place in range(number)]
    for place, label in enumerate(labels):
        if not isinstance(label, int | np.integer):
            raise ValueError(
                f'gt_label must be an integer in {type(dataset).__name__}, got {label!r} at place '
                f'{place}'
            )
    return np.array(labels, np.int64)


def num_classes_of(metainfo: Mapping[str, Any], labels: np.ndarray) -> int:
    """How many classes there are, by their names and by the labels.

    Args:
        metainfo: ``metainfo`` of the data set.
        labels: labels of its samples, (N,).
    """
    return max(len(metainfo.get('classes') or ()), 1 + int(max(labels, default=-1)))
