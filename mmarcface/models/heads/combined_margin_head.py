"""The three margins of the ArcFace paper in one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mmarcface.functional.arguments import are_numbers
from mmarcface.functional.margins import combined_margin
from mmarcface.registry import MODELS

from .margin_head import MarginHead


@MODELS.register_module()
class CombinedMarginHead(MarginHead):
    """cos(m1 * theta + m2) - m3.

    `ArcFace <https://arxiv.org/abs/1801.07698>`_, equation 4; see
    :func:`mmarcface.functional.margins.combined_margin`.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        margin: margins (m1, m2, m3): a factor in (0, 10], radians in [0, pi/2] and units of the
            cosine in [0, 2]. The paper's CM1 by default; CM2 is (0.9, 0.4, 0.15).
        **kwargs: further arguments of :class:`MarginHead`.

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        margin: Sequence[float] = (1.0, 0.3, 0.2),
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        if not are_numbers(margin, 3):
            raise ValueError(f'margin must be three numbers, m1, m2 and m3, got {margin!r}')
        m1, m2, m3 = margin
        if not (0 < m1 <= 10 and 0 <= m2 <= math.pi / 2 and 0 <= m3 <= 2):
            raise ValueError(
                f'margin must be in (0, 10], [0, pi/2] and [0, 2], got {tuple(margin)}'
            )
        self.margin = m1, m2, m3

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """cos(m1 theta + m2) - m3: arguments as :class:`MarginHead`'s, all (N,)."""
        return combined_margin(cosines, *self.margin)
