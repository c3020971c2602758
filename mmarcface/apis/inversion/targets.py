"""The targets of an inversion: classes, embeddings or images, checked against the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.apis import FeatureExtractor

from .model import InversionModel

TARGETS = 'targets must be classes (N,), whole numbers, or embeddings (N, D), or a list of images'


@dataclass(frozen=True)
class Targets:
    """The targets of N images.

    Attributes:
        labels: the classes of the targets, or None for embeddings.
        vectors: unit vectors that the embeddings should come close to, (N, D): centers of the
            classes, or embeddings; None for a head without centers.
    """

    labels: list[int] | None
    vectors: torch.Tensor | None

    def __getitem__(self, part: range) -> Targets:
        """The targets of a range."""
        rows = slice(part.start, part.stop)
        return Targets(
            self.labels and self.labels[rows], None if self.vectors is None else self.vectors[rows]
        )

    def __add__(self, classes: Targets) -> Targets:
        """These targets followed by classes; by their centers alone if these are embeddings.

        Raises:
            ValueError: if these are embeddings and the classes have no centers.
        """
        if self.vectors is not None and classes.vectors is None:
            raise ValueError('companions of embeddings need a head with centers')
        vectors = None
        if self.vectors is not None:
            vectors = torch.cat([self.vectors, classes.vectors])
        return Targets(self.labels and self.labels + classes.labels, vectors)

    def __len__(self) -> int:
        return len(self.labels if self.vectors is None else self.vectors)


def resolve_targets(net: InversionModel, targets: Any) -> Targets:
    """Targets of any kind, checked against the model.

    Args:
        net: model that is inverted.
        targets: targets as :func:`mmarcface.apis.invert` takes them.

    Raises:
        ValueError: if they are of another kind, or do not fit the model.
    """
    if isinstance(targets, (list, tuple)) and any(
        isinstance(t, (str, Path, dict)) or (isinstance(t, np.ndarray) and t.ndim == 3)
        for t in targets
    ):
        targets = _embed(net, targets)
    if isinstance(targets, list):
        # NumPy reads lists of arrays, but no tensors on a GPU.
        targets = [t.detach().cpu() if isinstance(t, torch.Tensor) else t for t in targets]
    try:
        targets = torch.as_tensor(np.asarray(targets) if isinstance(targets, list) else targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f'{TARGETS}; got {type(targets).__name__} ({error})') from error
    if targets.numel() == 0:
        raise ValueError('there are no targets')
    probe = _probe(net)
    if targets.dim() == 1 and not targets.is_floating_point() and targets.dtype != torch.bool:
        return _classes(net, targets.tolist(), probe)
    if targets.dim() != 2 or not targets.is_floating_point():
        raise ValueError(f'{TARGETS}; got {targets.dtype} of shape {tuple(targets.shape)}')
    if targets.shape[1] != probe.shape[1]:
        raise ValueError(
            f'target embeddings are {targets.shape[1]} wide and those of the model '
            f'{probe.shape[1]}: they are of another model'
        )
    norms = targets.float().norm(dim=1)
    bad = (~torch.isfinite(norms) | (norms == 0)).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f'target embedding {row} has the norm {float(norms[row])}: it must be finite and '
            'not zero'
        )
    return Targets(None, F.normalize(targets.to(net.device, torch.float)))


def _classes(net: InversionModel, labels: list[int], probe: torch.Tensor) -> Targets:
    if net.head is None:
        raise ValueError(
            f'{type(net.model).__name__} has no head, and so no classes: give head=, the weights '
            'of the classes, (classes, width); or embeddings as targets'
        )
    number = getattr(net.head, 'num_classes', None)
    for label in labels:
        if not 0 <= label < (math.inf if number is None else number):
            raise ValueError(f'target classes must be in [0, {number}), got {label}')
    if net.centers is None:
        return Targets(labels, None)
    if net.centers.shape[1] != probe.shape[1]:
        raise ValueError(
            f'the classes of the head are {net.centers.shape[1]} wide and the embeddings of the '
            f'model {probe.shape[1]}'
        )
    vectors = net.centers[torch.tensor(labels, device=net.device)].to(net.device, torch.float)
    zero = (vectors.norm(dim=1) == 0).nonzero()
    if len(zero):
        raise ValueError(
            f'the center of class {labels[int(zero[0])]} is zero: it was never learned'
        )
    return Targets(labels, F.normalize(vectors))


@torch.no_grad()
def _probe(net: InversionModel) -> torch.Tensor:
    """The embedding of one gray image, to see that the model runs."""
    image = torch.zeros(1, len(net.mean), *net.size, device=net.device)
    try:
        embedding = net.embeddings(net.feats(image))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f'{type(net.model).__name__} does not take images of {net.size} (height, width) with '
            f'{len(net.mean)} channels: {error}'
        ) from error
    if not torch.isfinite(embedding).all():
        raise ValueError(f'{type(net.model).__name__} gives embeddings that are not finite')
    return embedding


def _embed(net: InversionModel, images: Sequence) -> torch.Tensor:
    if getattr(net.model, '_config', None) is None:
        raise ValueError(
            'images as targets need the test pipeline of the model: build it with '
            'mmarcface.apis.get_model, or give embeddings'
        )
    extract = FeatureExtractor(net.model)
    embeddings = []
    for number, image in enumerate(images):
        try:
            (feats,) = extract([image])
        except (RuntimeError, ValueError) as error:
            name = image if isinstance(image, (str, Path)) else f'image {number}'
            raise ValueError(f'the model does not take {name}: {error}') from error
        embeddings.append(net.embeddings(tuple(feat[None] for feat in feats))[0])
    return torch.stack(embeddings)
