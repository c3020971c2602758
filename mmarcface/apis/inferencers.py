"""What stands between mmpretrain's inferencers and our model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmpretrain.apis import ImageRetrievalInferencer
from mmpretrain.datasets import CustomDataset, remove_transform
from mmpretrain.registry import TRANSFORMS

from mmarcface.datasets import IdentityRecords, LoadImageFromFile


def prepare_gallery(
    prepare: Callable,
    inferencer: ImageRetrievalInferencer,
    prototype: Any,
    cache: str | None = None,
    batch_size: int = 8,
) -> BaseDataset:
    """Give a model its gallery, for :class:`mmpretrain.ImageRetrievalInferencer`.

    Args:
        prepare: mmpretrain's own preparation, which makes a data loader of the prototype.
        inferencer: the inferencer, with its model and test pipeline.
        prototype: what mmpretrain takes (the path of a folder, a list of paths, the config of a
            data set, a data set or a data loader), or the path of a ``.rec`` file, or embeddings,
            (G, D), or the path of a file that :meth:`EmbeddingRetriever.dump_prototype` wrote. A
            data set without a pipeline gets the inferencer's.
        cache: file that keeps the embeddings; see ``prototype_cache`` of the model.
        batch_size: images embedded at a time.

    Returns:
        The data set of the gallery, in which a match is looked up.

    Raises:
        FileNotFoundError: if the prototype is a path and nothing is there.
        ValueError: if the gallery is empty, or see :meth:`EmbeddingRetriever.prepare_prototype`.
    """
    model = inferencer.model
    if isinstance(prototype, Path):
        prototype = str(prototype)
    model.prototype_cache = cache
    is_path = isinstance(prototype, str)
    if is_path and prototype.endswith('.rec'):
        prototype, is_path = IdentityRecords(prototype), False
    if isinstance(prototype, torch.Tensor) or (is_path and Path(prototype).is_file()):
        model.prototype = prototype
        model.prepare_prototype()
        number = len(model.gallery.embeddings)
        return _data_set(model.gallery.samples or [{} for _ in range(number)])
    if is_path and not Path(prototype).is_dir():
        raise FileNotFoundError(
            f'prototype {prototype} does not exist: name a folder of images or a saved gallery'
        )
    pipeline = [LoadImageFromFile(), inferencer.pipeline]
    if is_path:
        prototype = CustomDataset(data_root=prototype, with_label=False, pipeline=pipeline)
    elif isinstance(prototype, list):
        if not prototype:
            raise ValueError('the gallery is empty: prototype is a list of no images')
        prototype = _data_set([dict(img_path=str(path)) for path in prototype], pipeline)
    elif isinstance(prototype, BaseDataset) and not prototype.pipeline.transforms:
        prototype.pipeline = Compose(pipeline)
    return prepare(prototype, None, batch_size)


def read_queries(images: Iterable[str | Path | np.ndarray]) -> Iterator[np.ndarray]:
    """Read the images to search with, one at a time.

    Args:
        images: paths, or images as arrays, (H, W, 3), uint8 in [0, 255], BGR.

    Yields:
        The images as such arrays.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a file is not an image that can be read.
    """
    load = LoadImageFromFile()
    for image in images:
        is_path = isinstance(image, (str, Path))
        yield load(dict(img_path=str(image)))['img'] if is_path else image


def pipeline_after_loading(config: Config) -> Compose:
    """The test pipeline of a model, for images that are read already.

    Args:
        config: of the model, with ``test_dataloader``.
    """
    pipeline = remove_transform(config.test_dataloader.dataset.pipeline, 'LoadImageFromFile')
    return Compose([TRANSFORMS.build(transform) for transform in pipeline])


def fit_to_gallery(dispatched: tuple[dict, ...], gallery: BaseDataset) -> tuple[dict, ...]:
    """Limit ``topk``, given or by default, to the gallery, and draw only what it can show.

    Args:
        dispatched: arguments of mmpretrain's preprocess, forward, visualize and postprocess.
        gallery: the data set in which a match is looked up.

    Returns:
        The arguments, with a ``topk`` for the last two.

    Raises:
        ValueError: if ``topk`` is below 1, or matches are to be drawn and the gallery has
            embeddings alone.
    """
    preprocess, forward, visualize, postprocess = dispatched
    size = len(gallery)
    topk = visualize.get('topk', 1)
    if topk < 1:
        raise ValueError(f'topk must be at least 1, got {topk}')
    wanted = next((name for name in ('show', 'show_dir') if visualize.get(name)), None)
    if wanted and 'img_path' not in gallery.get_data_info(0):
        raise ValueError(
            f'{wanted}={visualize[wanted]!r} needs images, and this gallery has embeddings alone: '
            'give a folder, list or data set of images as prototype'
        )
    visualize['topk'] = min(visualize.get('topk', 3), size)
    postprocess['topk'] = min(postprocess.get('topk', 1), size)
    return preprocess, forward, visualize, postprocess


def _data_set(samples: list[dict], pipeline: Sequence[Callable] = ()) -> BaseDataset:
    dataset = BaseDataset(lazy_init=True, serialize_data=False, pipeline=list(pipeline))
    dataset.data_list = [sample | dict(sample_idx=i) for i, sample in enumerate(samples)]
    dataset._fully_initialized = True
    return dataset
