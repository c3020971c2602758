"""Data sets inside of mmengine's, mmpretrain's and torch's wrappers, built or as configs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from typing import Any, TypeVar

from mmengine.dataset import BaseDataset, ClassBalancedDataset, RepeatDataset
from mmengine.registry import Registry
from torch.utils.data import Dataset

from mmarcface.registry import DATASETS

T = TypeVar('T', Dataset, dict)
# Wrappers that give a sample several times.
REPEATING = RepeatDataset, ClassBalancedDataset


def class_of(built: Any, registry: Registry = DATASETS) -> type | None:
    """The class of a data set or of its config; None for a type that is not registered.

    Args:
        built: a data set or its config; or anything else that is built from a config.
        registry: registry that knows its type.
    """
    kind = built.get('type') if isinstance(built, dict) else type(built)
    return registry.get(kind) if isinstance(kind, str) else kind


def without_repeats(dataset: T) -> T:
    """The data set inside of wrappers that give a sample several times.

    Args:
        dataset: a data set or its config, in a RepeatDataset or ClassBalancedDataset or not.

    Returns:
        The data set or config itself, and no copy.
    """
    while class_of(dataset) in REPEATING:
        dataset = _get(dataset, 'dataset')
    return dataset


def pipeline_of(dataset: Dataset | dict) -> Any:
    """How a data set prepares its samples.

    Args:
        dataset: a data set or its config, in wrappers or not; of several data sets joined by a
            wrapper, such as ConcatDataset, the first counts.

    Returns:
        The pipeline, as data set or config have it; None where there is none.
    """
    pipeline = _get(dataset, 'pipeline')
    if pipeline is not None:
        return pipeline
    inside = _get(dataset, 'datasets') or filter(None, [_get(dataset, 'dataset')])
    return next(filter(None, map(pipeline_of, inside)), None)


def with_pipeline(
    dataset: T, pipeline: Callable[[dict], Any] | list, drop: Container[type] = (RepeatDataset,)
) -> T:
    """The same samples, prepared in another way.

    Args:
        dataset: a data set or its config, in wrappers or not; it stays as it is.
        pipeline: prepares a sample; for a config the configs of the transforms.
        drop: classes of wrappers to leave out; by default RepeatDataset, which only repeats the
            samples of the data set inside.

    Returns:
        A shallow copy of the data set and its wrappers.

    Raises:
        ValueError: if there is no data set with a pipeline inside.
    """
    if class_of(dataset) in drop:
        return with_pipeline(_get(dataset, 'dataset'), pipeline, drop)
    if _prepares_samples(dataset):
        return _replace(dataset, 'pipeline', pipeline)
    for name in ('datasets', 'dataset'):
        inside = _get(dataset, name)
        if inside is not None:
            parts = inside if name == 'datasets' else [inside]
            parts = [with_pipeline(part, pipeline, drop) for part in parts]
            return _replace(dataset, name, parts if name == 'datasets' else parts[0])
    raise ValueError(
        'the data set must have a pipeline, or be a wrapper of data sets that have one (as '
        f'dataset or datasets), got {getattr(class_of(dataset), "__name__", dataset)}'
    )


def _prepares_samples(dataset: Dataset | dict) -> bool:
    """Whether a data set has a pipeline of its own, or its config may have one."""
    if not isinstance(dataset, dict):
        return hasattr(dataset, 'pipeline')
    kind = class_of(dataset)
    # Our own, such as FilteredDataset, may have data sets inside.
    return 'pipeline' in dataset or (isinstance(kind, type) and issubclass(kind, BaseDataset))


def _get(dataset: Dataset | dict, name: str) -> Any:
    return dataset.get(name) if isinstance(dataset, dict) else getattr(dataset, name, None)


def _replace(dataset: T, name: str, value: Any) -> T:
    if isinstance(dataset, dict):
        return dict(dataset, **{name: value})
    other = copy.copy(dataset)
    setattr(other, name, value)
    return other
