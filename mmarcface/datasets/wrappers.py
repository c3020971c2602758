"""Data sets inside of mmengine's, mmpretrain's and torch's wrappers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from torch.utils.data import Dataset

# Those that give a sample several times.
REPEATING = RepeatDataset, ClassBalancedDataset


def pipeline_of(dataset: Dataset | dict) -> Any:
    """How a data set prepares its samples.

    Args:
        dataset: a data set or its config, in wrappers or not; of several data sets joined by a
            wrapper, such as ConcatDataset, the first counts.

    Returns:
        The pipeline, as data set or config have it; None where there is none.
    """
    get = dataset.get if isinstance(dataset, dict) else lambda name: getattr(dataset, name, None)
    pipeline = get('pipeline')
    if pipeline is not None:
        return pipeline
    inside = get('datasets') or filter(None, [get('dataset')])
    return next(filter(None, map(pipeline_of, inside)), None)


def with_pipeline(dataset: Dataset, pipeline: Callable[[dict], Any]) -> Dataset:
    """The same samples, prepared in another way.

    Args:
        dataset: a data set, in wrappers or not; it stays as it is.
        pipeline: prepares a sample.

    Returns:
        A shallow copy of the data set and its wrappers. A RepeatDataset is left away, as it has
        nothing that the data set inside does not have.

    Raises:
        ValueError: if there is no data set with a pipeline inside.
    """
    if isinstance(dataset, RepeatDataset):
        return with_pipeline(dataset.dataset, pipeline)
    other = copy.copy(dataset)
    if hasattr(dataset, 'pipeline'):
        other.pipeline = pipeline
    elif hasattr(dataset, 'datasets'):
        other.datasets = [with_pipeline(part, pipeline) for part in dataset.datasets]
    elif hasattr(dataset, 'dataset'):
        other.dataset = with_pipeline(dataset.dataset, pipeline)
    else:
        raise ValueError(
            'the data set must have a pipeline, or be a wrapper of data sets that have one (as '
            f'dataset or datasets), got {type(dataset).__name__}'
        )
    return other
