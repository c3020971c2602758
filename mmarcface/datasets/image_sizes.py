"""Batches of images of one size.

torch refuses images of unequal size without naming one. mmpretrain's preprocessor pads them where
it gets a list, and an embedding then depends on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader


class EqualSizeCollate:
    """A collate function that first refuses images of unequal size.

    Args:
        collate: function that makes a batch of samples.

    Raises:
        ValueError: when called, if the images of two samples differ in size; it names both.
    """

    def __init__(self, collate: Callable[[Sequence[Any]], Any]):
        self.collate = collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        return self.collate(refuse_unequal_sizes(samples))


def require_equal_sizes(loader: DataLoader) -> DataLoader:
    """Let a loader refuse images of unequal size.

    Args:
        loader: loader that is changed in place, unless it refuses them already.
    """
    if not isinstance(loader.collate_fn, EqualSizeCollate):
        loader.collate_fn = EqualSizeCollate(loader.collate_fn)
    return loader


def refuse_unequal_sizes(samples: Sequence[Any]) -> Sequence[Any]:
    """Refuse a batch of images of unequal size.

    Args:
        samples: samples as pipelines give them, with the image, (C, H, W), as ``inputs``.

    Returns:
        The samples.

    Raises:
        ValueError: if two images differ in size; it names both.
    """
    sizes = {}
    for place, sample in enumerate(samples):
        image = sample.get('inputs') if isinstance(sample, dict) else None
        if isinstance(image, torch.Tensor):
            sizes.setdefault(tuple(image.shape), place)
    if len(sizes) > 1:
        one, other = (
            f'{_name(samples[place], place)} is {" x ".join(map(str, size))}'
            for size, place in list(sizes.items())[:2]
        )
        height, width = next(iter(sizes))[-2:]
        advice = f"dict(type='Resize', scale=({width}, {height}))"
        if len({size[-2:] for size in sizes}) == 1:
            advice = "LoadImageFromFile with color_type='color'"
        raise ValueError(
            f'the images of a batch must have one size after the transforms: {one} and {other} '
            '(channels x height x width). Add a transform that gives them one to the pipeline, '
            f'before PackInputs, such as {advice}'
        )
    return samples


def _name(sample: dict, place: int) -> str:
    return getattr(sample.get('data_samples'), 'img_path', None) or f'image {place} of the batch'
