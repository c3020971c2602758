"""Same or not the same: two images, and a threshold that is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmpretrain.apis.base import BaseInferencer

from mmarcface.evaluation.thresholds import choose_threshold, load_thresholds, thresholds_file
from mmarcface.functional.arguments import check_number
from mmarcface.manifest import difference_of_makers

from .inferencers import pipeline_after_loading, query_samples


class VerificationInferencer(BaseInferencer):
    """Says of pairs of images whether they show the same identity.

    >>> verify = VerificationInferencer('iresnet18-arcface_orl', pretrained='epoch_120.pth')
    >>> verify([('anna1.jpg', 'anna2.jpg')])  # doctest: +SKIP
    [{'is_same': True, 'similarity': 0.81, 'threshold': 0.55, 'far': 0.01}]

    Args:
        model: name, config or model, as :func:`mmpretrain.get_model` takes them.
        pretrained: path of the checkpoint; a model that is built already has its weights.
        threshold: lowest cosine that counts as the same identity; by default the one that
            ``tools/test.py`` found, from the file beside the checkpoint.
        thresholds: path of that file, where it is elsewhere.
        far: false acceptance rate, in [0, 1], of the threshold to take from the file: one that
            ``tools/test.py`` was asked for. By default the lowest with enough pairs to tell.
        benchmark: the set of pairs in the file, such as 'verification/lfw', where it has several.
        device: device that the model runs on.
        **kwargs: changes of the model's config, such as ``head=None``.

    Raises:
        FileNotFoundError: if there is no threshold; it says how to make one.
        ValueError: if the file is of other weights, or has no such FAR or benchmark.
    """

    def __init__(
        self,
        model: BaseModel | str | Config,
        pretrained: bool | str | Path = True,
        threshold: float | None = None,
        thresholds: str | Path | None = None,
        far: float | None = None,
        benchmark: str | None = None,
        device: str | None = None,
        **kwargs: Any,
    ):
        if isinstance(pretrained, Path):
            pretrained = str(pretrained)
        super().__init__(model, pretrained=pretrained, device=device, **kwargs)
        self.far = None
        if threshold is not None:
            check_number('threshold', threshold, minimum=-1, maximum=1)
        else:
            if thresholds is None and not isinstance(pretrained, str):
                raise FileNotFoundError(
                    'which threshold? Give a checkpoint as pretrained, beside which tools/test.py '
                    'has written its thresholds, or name that file, or a threshold'
                )
            path = thresholds or thresholds_file(pretrained)
            found = load_thresholds(path)
            difference = difference_of_makers(found.model, found.contract, self.model)
            if difference:
                raise ValueError(
                    f'{path} holds thresholds of another model, which differs in {difference}: '
                    'run tools/test.py again with this config and checkpoint'
                )
            calibration = choose_threshold(found.sets, far, benchmark, str(path))
            threshold, self.far = calibration.threshold, calibration.wanted_far
        self.threshold = float(threshold)

    def __call__(
        self,
        pairs: Sequence[tuple[str | np.ndarray | dict, str | np.ndarray | dict]],
        batch_size: int = 32,
    ) -> list[dict]:
        """Compare pairs of images; one that is named in many pairs is embedded once.

        Args:
            pairs: pairs of paths, or of images as arrays, (H, W, 3), uint8 in [0, 255], BGR; or of
                ``dict(img=..., landmarks=...)``, one of these with the landmarks that
                :class:`AlignFace` needs, (5, 2) or (2, 2), x and y in pixels.
            batch_size: images embedded at a time.

        Returns:
            For each pair ``is_same``, ``similarity`` (the cosine), ``threshold``, and ``far``, the
            false acceptance rate that the threshold was chosen for; None for one of your own.

        Raises:
            FileNotFoundError: if an image does not exist.
            ValueError: if a pair is not of two, an image cannot be read, or lacks landmarks.
        """
        images, places, compared = [], {}, []
        for pair in pairs:
            if isinstance(pair, (str, Path, dict)) or len(pair) != 2:
                raise ValueError(
                    f'pairs must be a list of pairs of images, got {pair!r} among them'
                )
            for image in pair:
                place = places.setdefault(_key(image), len(images))
                if place == len(images):
                    images.append(image)
                compared.append(place)
        embeddings = [
            F.normalize(sample.embedding.float(), dim=0).cpu()
            for batch in self.preprocess(images, batch_size)
            for sample in self.forward(batch)
        ]
        similarity = [
            float(embeddings[one] @ embeddings[other])
            for one, other in zip(compared[::2], compared[1::2], strict=True)
        ]
        return [
            dict(
                is_same=value >= self.threshold,
                similarity=value,
                threshold=self.threshold,
                far=self.far,
            )
            for value in similarity
        ]

    def preprocess(self, inputs: list, batch_size: int = 1):
        """Batches of the test pipeline's output for images as :meth:`__call__` takes them."""
        return super().preprocess(query_samples(self.pipeline, inputs), batch_size)

    def _init_pipeline(self, config: Config) -> Compose:
        return pipeline_after_loading(config)


def _key(image: str | Path | np.ndarray | dict) -> tuple | str | int:
    if isinstance(image, dict):
        return tuple(
            (name, _key(value) if name == 'img' else np.asarray(value).tobytes())
            for name, value in sorted(image.items())
        )
    return id(image) if isinstance(image, np.ndarray) else str(image)
