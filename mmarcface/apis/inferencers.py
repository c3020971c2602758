"""What stands between mmpretrain's inferencers and our model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset

from mmarcface.models import EmbeddingRetriever


def prepare_gallery(
    prepare: Callable,
    model: EmbeddingRetriever,
    prototype: Any,
    cache: str | None = None,
    batch_size: int = 8,
) -> BaseDataset:
    """Give a model its gallery, for :class:`mmpretrain.ImageRetrievalInferencer`.

    Args:
        prepare: mmpretrain's own preparation, which makes a data loader of the prototype.
        model: the model that is to search.
        prototype: what mmpretrain takes (the path of a folder, a list of paths, the config of a
            data set, a data set or a data loader), or embeddings, (G, D), or the path of a file
            that :meth:`EmbeddingRetriever.dump_prototype` wrote.
        cache: file that keeps the embeddings; see ``prototype_cache`` of the model.
        batch_size: images embedded at a time.

    Returns:
        The data set of the gallery, in which a match is looked up.

    Raises:
        FileNotFoundError: if the prototype is a path and nothing is there.
        ValueError: if the gallery is empty, or see :meth:`EmbeddingRetriever.prepare_prototype`.
    """
    if isinstance(prototype, Path):
        prototype = str(prototype)
    model.prototype_cache = cache
    is_path = isinstance(prototype, str)
    if isinstance(prototype, torch.Tensor) or (is_path and Path(prototype).is_file()):
        model.prototype = prototype
        model.prepare_prototype()
        number = len(model.gallery.embeddings)
        return _lookup(model.gallery.samples or [{} for _ in range(number)])
    if is_path and not Path(prototype).is_dir():
        raise FileNotFoundError(
            f'prototype {prototype} does not exist: name a folder of images or a saved gallery'
        )
    if isinstance(prototype, list) and not prototype:
        raise ValueError('the gallery is empty: prototype is a list of no images')
    return prepare(prototype, None, batch_size)


def _lookup(samples: list[dict]) -> BaseDataset:
    dataset = BaseDataset(lazy_init=True, serialize_data=False)
    dataset.data_list = [sample | dict(sample_idx=i) for i, sample in enumerate(samples)]
    dataset._fully_initialized = True
    return dataset
