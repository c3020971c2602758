"""A second model, the judge, says whom generated images show."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmpretrain.apis.base import BaseInferencer
from numpy.typing import ArrayLike
from torch import nn

from mmarcface.apis.inferencers import pipeline_after_loading
from mmarcface.datasets import LoadImageFromFile, labels_of
from mmarcface.functional.inversion_metrics import (
    RealEmbeddings,
    evaluate_inversions,
    nearest_image_rms,
)
from mmarcface.models import embed_images
from mmarcface.registry import DATASETS

BATCH_SIZE = 64
MAX_EMBEDDED = 50_000
MAX_COMPARED = 20_000
MAX_BYTES = 1 << 30
MAX_YARDSTICKS = 500


class InversionEvaluator(BaseInferencer):
    """Measures how many generated images show the identity that they are meant to show.

    The evaluator asks a second model, the judge, and compares with real images. The judge should
    have another architecture, loss and seed than the inverted model, and must not take part in
    making or choosing the images: many images satisfy the net that they were made from, and are
    recognized by no other net and by no person.

    >>> evaluator = InversionEvaluator('judge.py', dict(type='mmarcface.ORLFaces'), 'epoch_120.pth')
    >>> evaluator.refuse_same_weights(model)  # doctest: +SKIP
    >>> evaluator.evaluate(images, labels)['attack_accuracy']  # doctest: +SKIP
    0.95

    Args:
        model: name, config or model, as :func:`mmpretrain.get_model` takes them; it embeds as
            :func:`mmarcface.models.embed_images` says.
        real: data set of real images, or its config, whose label i is identity i. Its images show
            the same kind of thing as the generated ones, cropped alike. To see whether generated
            images are copies, give the training set of the inverted model. Its pipeline is not
            used.
        pretrained: path of the checkpoint; not needed for a model that is already built.
        device: device that the judge runs on.
        far: false acceptance rates, in [0, 1], at which acceptance is reported.
        identities: labels that will be asked about. If there are more than 50,000 real images,
            50,000 are embedded: those of these identities, and others drawn with a fixed seed.

    Raises:
        ValueError: if the model was built without its config, which has the test pipeline.
    """

    def __init__(
        self,
        model: BaseModel | str | Config,
        real: BaseDataset | dict,
        pretrained: bool | str | Path | None = True,
        device: str | None = None,
        far: Sequence[float] = (1e-2, 1e-3),
        identities: Sequence[int] = (),
    ):
        if isinstance(model, BaseModel) and not hasattr(model, '_config'):
            raise ValueError(
                'model must come with its config, whose test pipeline prepares the images: build '
                f'it with mmpretrain.get_model; got a bare {type(model).__name__}'
            )
        if isinstance(pretrained, Path):
            pretrained = str(pretrained)
        super().__init__(model, pretrained=pretrained, device=device)
        if isinstance(real, dict):
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                real = DATASETS.build(real)
        self.real = real
        self.far = far
        self.identities = identities
        self._yardsticks = {}

    def evaluate(self, images: np.ndarray, labels: ArrayLike) -> dict[str, Any]:
        """Evaluate generated images.

        Args:
            images: images, (N, H, W, 3), uint8 in [0, 255], BGR; gray ones have three equal
                channels.
            labels: the identity that each image is meant to show, (N,), whole numbers.

        Returns:
            The report of :func:`mmarcface.functional.inversion_metrics.evaluate_inversions`, with
            the ``name`` of each identity if the data set has it, and:

            - ``nearest_image_rms``: root-mean-square difference of the pixels, in [0, 255], of a
              generated image and the most similar real one, resized to its size; mean over the
              images, and ``nearest_image_rms_min`` the minimum;
            - ``nearest_image_rms_real``: the mean for a real image (at most 500, drawn with a
              fixed seed) and the most similar other one;
            - ``nearest_image_ratio``: ``nearest_image_rms`` by ``nearest_image_rms_real``, near 0
              for copies.

            If the real images are more than 20,000, or 1 GiB, pixels are compared with a part
            of them, drawn with a fixed seed, and ``notes`` says so.

        Raises:
            ValueError: if the images have another shape or type, the data set has no labels, or
                see :func:`mmarcface.functional.inversion_metrics.evaluate_inversions`.
        """
        images = _check_images(images)
        samples = (
            dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
            for image in images
        )
        report = evaluate_inversions(self._embed(samples), labels, self.reference)
        classes = self.real.metainfo.get('classes', ())
        for identity in report['per_identity']:
            if identity['label'] < len(classes):
                identity['name'] = str(classes[identity['label']])
        height, width = images.shape[1:3]
        if (height, width) not in self._yardsticks:
            self._yardsticks[height, width] = self._read_yardstick(height, width)
        real, between_real = self._yardsticks[height, width]
        nearest = nearest_image_rms(images, real)
        if len(self.reference.vectors) < len(self.real):
            report['notes'].append(
                f'{len(self.reference.vectors)} of the {len(self.real)} real images were embedded'
            )
        if len(real) < len(self.real):
            report['notes'].append(
                f'pixels were compared with {len(real)} of the {len(self.real)} real images'
            )
        return report | dict(
            nearest_image_rms=float(nearest.mean()),
            nearest_image_rms_min=float(nearest.min()),
            nearest_image_rms_real=between_real,
            # Real images may all be equal.
            nearest_image_ratio=float(nearest.mean()) / between_real if between_real else None,
        )

    __call__ = evaluate

    @cached_property
    def reference(self) -> RealEmbeddings:
        """The judge's embeddings of the real images, computed once.

        Raises:
            ValueError: if they have no labels.
        """
        # The data set is read twice, as its samples may hold their images.
        labels = np.asarray(self._labels)
        places = np.arange(len(labels))
        if len(labels) > MAX_EMBEDDED:
            order = np.random.default_rng(0).permutation(len(labels))
            asked = np.isin(labels[order], self.identities)
            places = np.concatenate([order[asked], order[~asked]])[:MAX_EMBEDDED]
        samples = (self.real.get_data_info(int(place)) for place in places)
        # The judge has other classes, and a preprocessor may check labels against them.
        unlabeled = (
            {key: value for key, value in sample.items() if key != 'gt_label'} for sample in samples
        )
        return RealEmbeddings(self._embed(unlabeled), labels[places], self.far)

    def refuse_same_weights(self, model: nn.Module) -> None:
        """Refuse a model that is the judge itself.

        Args:
            model: the inverted model, any module.

        Raises:
            ValueError: if all weight matrices of the judge are among those of the model, under any
                name and with any preprocessing.
        """
        own = _digests(self._encoder)
        if own and own <= _digests(model):
            raise ValueError(
                'the judge is the model itself: it has the same weights, and a model always '
                'recognizes images that were optimized for it; give one that was trained apart'
            )

    def pair_with_real(
        self, images: np.ndarray, labels: ArrayLike
    ) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """The generated images of each identity beside a real one, for ``draw_audit``.

        Args:
            images: images, (N, H, W, 3), uint8, BGR.
            labels: identity that each image is meant to show, (N,), whole numbers.

        Returns:
            The first real image of each identity, (H, W, 3), and the generated ones, by label.

        Raises:
            ValueError: if there are no real images of a label.
        """
        images = _check_images(images)
        labels, size = np.asarray(labels), images.shape[1:3]
        real, first = np.unique(self._labels, return_index=True)
        first = dict(zip(real.tolist(), first.tolist(), strict=True))
        asked = np.unique(labels).tolist()
        absent = [label for label in asked if label not in first]
        if absent:
            raise ValueError(f'labels must be among those of the real images, got {absent[0]}')
        return {
            label: (self._read([first[label]], *size)[0], images[labels == label])
            for label in asked
        }

    @cached_property
    def _labels(self) -> list[int]:
        return labels_of(self.real).tolist()

    @property
    def _encoder(self) -> nn.Module:
        for name in ('image_encoder', 'backbone'):
            if hasattr(self.model, name):
                return getattr(self.model, name)
        return self.model

    def _init_pipeline(self, config: Config) -> Compose:
        return Compose([LoadImageFromFile(), pipeline_after_loading(config)])

    @torch.no_grad()
    def _embed(self, samples: Iterable[dict]) -> torch.Tensor:
        """The judge's embeddings, (N, D), as in testing."""
        embeddings = []
        for batch in self.preprocess(samples, BATCH_SIZE):
            inputs = self.model.data_preprocessor(batch, False)['inputs']
            embeddings.append(embed_images(self.model, inputs).float().cpu())
        # Without images the metrics raise the error.
        return torch.cat(embeddings) if embeddings else torch.empty(0, 0)

    def _read(self, places: Iterable[int], height: int, width: int) -> np.ndarray:
        load = LoadImageFromFile()
        images = (load(self.real.get_data_info(int(place)))['img'] for place in places)
        size = (width, height)
        return np.stack([mmcv.imresize(image, size, interpolation='area') for image in images])

    def _read_yardstick(self, height: int, width: int) -> tuple[np.ndarray, float]:
        """Real images of a size, and their mean distance to the most similar other one."""
        random = np.random.default_rng(0)
        number = len(self.real)
        places = np.arange(number)
        limit = min(MAX_COMPARED, MAX_BYTES // (3 * height * width))
        if number > limit:
            places = np.sort(random.choice(number, limit, replace=False))
        real = self._read(places, height, width)
        some = np.arange(len(real))
        if len(real) > MAX_YARDSTICKS:
            some = random.choice(len(real), MAX_YARDSTICKS, replace=False)
        return real, float(nearest_image_rms(real[some], real, leave_out=some).mean())


def _check_images(images: ArrayLike) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(
            f'images must be (N, H, W, 3), uint8, at least one, got {images.shape}, {images.dtype}'
        )
    return images


def _digests(model: nn.Module) -> set[bytes]:
    """Hashes of the matrices and kernels, as every net has vectors of ones and zeros."""
    return {
        hashlib.sha256(weight.detach().float().cpu().contiguous().numpy()).digest()
        for weight in model.parameters()
        if weight.ndim > 1
    }
