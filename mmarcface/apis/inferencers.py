"""What mmpretrain's inferencers need for our model: galleries, samples and pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose, DefaultSampler, default_collate
from mmengine.registry import DefaultScope
from mmpretrain.apis import ImageRetrievalInferencer
from mmpretrain.datasets import remove_transform
from mmpretrain.registry import DATASETS, TRANSFORMS
from torch.utils.data import DataLoader

from mmarcface.datasets import AlignFace, IdentityRecords, LoadImageFromFile
from mmarcface.datasets.formats.image_files import find_images, log_left_out
from mmarcface.datasets.formats.landmarks import are_exchanged
from mmarcface.datasets.transforms.align_face import EXCHANGED
from mmarcface.datasets.wrappers import pipeline_of, with_pipeline


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
        prototype: prototype as mmpretrain takes it (the path of a folder, a list, the config of a
            data set, a data set or a data loader), or the path of a ``.rec`` file, or embeddings,
            (G, D), or the path of a file that :meth:`EmbeddingRetriever.dump_prototype` wrote. A
            list is of images as :func:`image_sample` takes them. A data set without a pipeline gets
            the inferencer's.
        cache: file that keeps the embeddings; see ``prototype_cache`` of the model.
        batch_size: images embedded at a time.

    Returns:
        The data set of the gallery, in which a match is looked up.

    Raises:
        FileNotFoundError: if the prototype is a path and nothing is there.
        ValueError: if the gallery is empty, see :func:`image_sample` and
            :func:`refuse_unknown_landmarks`, or :meth:`EmbeddingRetriever.prepare_prototype`.
    """
    model = inferencer.model
    if isinstance(prototype, Path):
        prototype = str(prototype)
    try:
        dataset = _prepare(prepare, inferencer, prototype, cache, batch_size)
    except BaseException:
        # Without a gallery the model embeds all the same.
        model.prototype, model.prototype_cache = None, None
        raise
    inferencer.own_gallery = model.prototype, cache, model.gallery
    return dataset


def take_gallery(inferencer: ImageRetrievalInferencer) -> None:
    """Have a model search the gallery of an inferencer, where another one gave it its own.

    Args:
        inferencer: the one that is about to search.
    """
    model = inferencer.model
    prototype, cache, gallery = getattr(inferencer, 'own_gallery', (None, None, None))
    if prototype is None or model.prototype is prototype:
        return
    model.prototype, model.prototype_cache = prototype, cache
    model.prepare_prototype(gallery)


def _prepare(
    prepare: Callable,
    inferencer: ImageRetrievalInferencer,
    prototype: Any,
    cache: str | None,
    batch_size: int,
) -> BaseDataset:
    model = inferencer.model
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
    pipeline, listed = [LoadImageFromFile(), inferencer.pipeline], []
    if is_path:
        folder = prototype
        prototype, others = find_images(folder)
        if not prototype:
            raise ValueError(f'the gallery is empty: there are no images in {folder}')
        log_left_out(folder, others)
    if isinstance(prototype, list):
        if not prototype:
            raise ValueError('the gallery is empty: prototype is a list of no images')
        listed = [image for image in prototype if isinstance(image, (str, Path))]
        prototype = _data_set(list(map(image_sample, prototype)), pipeline)
    elif isinstance(prototype, dict):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            prototype = DATASETS.build(prototype)
    if hasattr(prototype, 'get_data_info'):
        if not getattr(pipeline_of(prototype), 'transforms', True):
            prototype = with_pipeline(prototype, Compose(pipeline))
        # mmpretrain takes no wrappers.
        sampler = DefaultSampler(prototype, shuffle=False)
        prototype = DataLoader(prototype, batch_size, sampler=sampler, collate_fn=default_collate)
    dataset = getattr(prototype, 'dataset', None)
    if hasattr(dataset, 'get_data_info'):
        refuse_unknown_landmarks(
            pipeline_of(dataset), (dataset.get_data_info(place) for place in range(len(dataset)))
        )
    for path in map(str, listed):
        if '://' not in path and not Path(path).is_file():
            raise FileNotFoundError(f'image {path} of the gallery does not exist')
    return prepare(prototype, None, batch_size)


def image_sample(image: str | Path | np.ndarray | dict) -> dict:
    """A sample for a pipeline, with all that is known of an image before it is read.

    Args:
        image: its path, or an array, (H, W, 3), uint8 in [0, 255], BGR; or
            ``dict(img=..., landmarks=...)`` of one of these and its landmarks, for
            :class:`AlignFace`, x and y in pixels, (5, 2) or (2, 2); see
            :func:`mmarcface.datasets.formats.landmarks.read_landmarks`.

    Returns:
        ``img_path`` of a path; ``img``, ``img_shape`` and ``ori_shape`` of an array; and
        ``landmarks``.

    Raises:
        ValueError: if a dict has no ``img``, or anything else than that and ``landmarks``; if an
            array is of another type or shape.
    """
    if isinstance(image, dict):
        if 'img' not in image or not image.keys() <= {'img', 'landmarks'}:
            raise ValueError(
                'an image must be a path, an array or dict(img=..., landmarks=...), got a dict of '
                f'{", ".join(map(str, image)) or "nothing"}'
            )
        sample = image_sample(image['img'])
        if 'landmarks' in image:
            sample |= dict(landmarks=np.asarray(image['landmarks'], float), landmarks_given=True)
        return sample
    if isinstance(image, (str, Path)):
        return dict(img_path=str(image))
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or not image.size
    ):
        kind = type(image).__name__
        if isinstance(image, np.ndarray):
            kind = f'{image.dtype} of shape {image.shape}'
        raise ValueError(
            'an image must be a path or an array (H, W, 3), uint8 in [0, 255], BGR, as cv2.imread '
            f'gives it; got {kind}'
        )
    shape = image.shape[:2]
    return dict(img=image, img_shape=shape, ori_shape=shape)


def query_samples(
    pipeline: Compose, images: Iterable[str | Path | np.ndarray | dict]
) -> Iterator[dict]:
    """The samples of images to search with or to compare, read one at a time.

    Args:
        pipeline: transforms of the images.
        images: images as :func:`image_sample` takes them.

    Returns:
        The samples, all of which have ``img``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a file is not an image that can be read; at once, before any is read, see
            :func:`image_sample` and :func:`refuse_unknown_landmarks`.
    """
    samples = list(map(image_sample, images))
    refuse_unknown_landmarks(pipeline, samples)
    return map(LoadImageFromFile(), samples)


def refuse_unknown_landmarks(pipeline: Compose, samples: Iterable[dict]) -> None:
    """Refuse images that a pipeline cannot align, before any is embedded.

    Args:
        pipeline: transforms, with or without one that aligns.
        samples: images as the pipeline gets them, which need not be read yet.

    Raises:
        ValueError: if an image has no landmarks where :class:`AlignFace` needs them; if left and
            right are exchanged in landmarks that were given with an image.
    """
    aligning = list(_aligning(pipeline))
    for sample in samples if aligning else ():
        for align in aligning:
            points = align.landmarks_of(sample)
            if 'landmarks_given' in sample and are_exchanged(points):
                text = f'{EXCHANGED}, got {points.tolist()} of {sample.get("img_path", "an array")}'
                if len(points) == 2:
                    text += '. If the image is upside down, turn it or give five points'
                raise ValueError(text)


def _aligning(transform: Callable) -> Iterator[AlignFace]:
    """Each AlignFace in a pipeline, however deep."""
    if isinstance(transform, AlignFace):
        yield transform
    inside = getattr(transform, 'transforms', ())
    for part in inside if isinstance(inside, (list, tuple)) else [inside]:
        yield from _aligning(part)


def pipeline_after_loading(config: Config) -> Compose:
    """The test pipeline of a model, for images that are read already.

    Args:
        config: config of the model, with ``test_dataloader``, whose data set may be wrapped.

    Raises:
        ValueError: if the config has no test pipeline.
    """
    loader = config.get('test_dataloader') or {}
    pipeline = pipeline_of(loader.get('dataset', {}))
    if pipeline is None:
        raise ValueError(
            'the config must have a test_dataloader, whose data set has the pipeline that prepares '
            f'images; {config.filename or "this one"} has none'
        )
    pipeline = remove_transform(pipeline, 'LoadImageFromFile')
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
    option = next((name for name in ('show', 'show_dir') if visualize.get(name)), None)
    if option and 'img_path' not in gallery.get_data_info(0):
        raise ValueError(
            f'{option}={visualize[option]!r} needs images in files, and this gallery has none: '
            'give a folder, list or data set of them as prototype'
        )
    visualize['topk'] = min(visualize.get('topk', 3), size)
    postprocess['topk'] = min(postprocess.get('topk', 1), size)
    return preprocess, forward, visualize, postprocess


def _data_set(samples: list[dict], pipeline: Sequence[Callable] = ()) -> BaseDataset:
    dataset = BaseDataset(lazy_init=True, serialize_data=False, pipeline=list(pipeline))
    dataset.data_list = [sample | dict(sample_idx=i) for i, sample in enumerate(samples)]
    dataset._fully_initialized = True
    return dataset
