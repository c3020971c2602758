"""ArcFace and sub-center ArcFace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mmarcface.functional.margins import arcface
from mmarcface.registry import MODELS

from .class_margins import ClassMargins
from .margin_head import MarginHead


@MODELS.register_module()
class ArcFaceHead(MarginHead):
    """Additive angular margin.

    `ArcFace <https://arxiv.org/abs/1801.07698>`_, equation 3; see
    :func:`mmarcface.functional.margins.arcface`.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        margin: margin m in radians, in [0, pi/2]: a number, one per class, or a text file with one
            per class, a number a line.
        easy_margin: add the margin only where cos(theta) > 0.
        **kwargs: further arguments of :class:`MarginHead`.

    Raises:
        ValueError: if a number is out of its range or the count of margins is not that of classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        margin: float | Sequence[float] | str = 0.5,
        easy_margin: bool = False,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        self.easy_margin = easy_margin
        self.margins = ClassMargins(margin, num_classes, maximum=math.pi / 2)

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """cos(theta + m): arguments as :class:`MarginHead`'s, all (N,)."""
        return arcface(cosines, self.margins(labels), self.easy_margin)


@MODELS.register_module()
class SubCenterArcFaceHead(ArcFaceHead):
    """ArcFace with K centers per class, of which the nearest counts.

    `Sub-center ArcFace <https://doi.org/10.1007/978-3-030-58621-8_43>`_, equation 4: noisy samples
    gather on centers of their own.

    Args:
        num_classes: number of classes.
        in_channels: width of the embeddings.
        num_subcenters: number of centers per class, K.
        **kwargs: other arguments of :class:`ArcFaceHead`, which raises the same errors.
    """

    def __init__(self, num_classes: int, in_channels: int, num_subcenters: int = 3, **kwargs):
        super().__init__(num_classes, in_channels, num_subcenters=num_subcenters, **kwargs)
