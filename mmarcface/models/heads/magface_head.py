"""MagFace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mmarcface.functional.arguments import are_numbers, check_number
from mmarcface.functional.margins import arcface, magface_margin, magface_regularizer
from mmarcface.functional.vectors import norms
from mmarcface.registry import MODELS

from .margin_head import MarginHead


@MODELS.register_module()
class MagFaceHead(MarginHead):
    """ArcFace with a margin that rises with the norm of the embedding, its quality.

    `MagFace <https://arxiv.org/abs/2103.06627>`_, equation 3, with the easy margin that its code
    trains with; see :func:`mmarcface.functional.margins.magface_margin`. The regularizer is a part
    of the loss of its own, ``loss_norm``.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        margin: smallest and largest margin, (l_m, u_m), in radians, 0 <= l_m <= u_m <= pi/2.
        norm_range: smallest and largest norm, (l_a, u_a), 0 < l_a < u_a.
        regularization: weight lambda_g of the regularizer, at least 0.
        easy_margin: add the margin only where cos(theta) > 0.
        **kwargs: further arguments of :class:`MarginHead`.

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        margin: Sequence[float] = (0.45, 0.8),
        norm_range: Sequence[float] = (10.0, 110.0),
        regularization: float = 35.0,
        easy_margin: bool = True,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        if not are_numbers(margin, 2):
            raise ValueError(f'margin must be two numbers, l_m and u_m, got {margin!r}')
        if not 0 <= margin[0] <= margin[1] <= math.pi / 2:
            raise ValueError(f'margin must be 0 <= l_m <= u_m <= pi/2, got {tuple(margin)}')
        if not are_numbers(norm_range, 2):
            raise ValueError(f'norm_range must be two numbers, l_a and u_a, got {norm_range!r}')
        if not 0 < norm_range[0] < norm_range[1]:
            raise ValueError(f'norm_range must be 0 < l_a < u_a, got {tuple(norm_range)}')
        check_number('regularization', regularization, minimum=0)
        self.margin = tuple(margin)
        self.norm_range = tuple(norm_range)
        self.regularization = regularization
        self.easy_margin = easy_margin

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """cos(theta + m(a)): arguments as :class:`MarginHead`'s, all (N,)."""
        margins = magface_margin(norms, *self.norm_range, *self.margin)
        return arcface(cosines, margins, self.easy_margin)

    def class_loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict:
        """``dict(loss=..., loss_norm=...)`` of embeddings (N, in_channels) and labels (N,)."""
        losses = super().class_loss(embeddings, labels)
        penalties = magface_regularizer(norms(embeddings), *self.norm_range)
        penalty = penalties.sum() / max(len(penalties), 1)
        return losses | dict(loss_norm=self.regularization * penalty)
