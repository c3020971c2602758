"""CurricularFace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce

from mmarcface.functional.arguments import check_number
from mmarcface.functional.losses import target_cosines
from mmarcface.functional.margins import arcface
from mmarcface.functional.nontarget import curricularface_nontarget
from mmarcface.registry import MODELS

from .class_margins import ClassMargins
from .margin_head import MarginHead


@MODELS.register_module()
class CurricularFaceHead(MarginHead):
    """ArcFace whose hard classes weigh little at first and more as training comes on.

    `CurricularFace <https://arxiv.org/abs/2004.00288>`_; see
    :func:`mmarcface.functional.curricularface_nontarget`. t is the running mean of the target
    cosines, over all processes together, and part of the checkpoint.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        margin: margin m in radians, in [0, pi/2]: a number, one per class, or a text file with one
            per class, a number a line.
        momentum: weight of a batch in t, in (0, 1].
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
        momentum: float = 0.01,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        check_number('momentum', momentum, above=0, maximum=1)
        self.momentum = momentum
        self.margins = ClassMargins(margin, num_classes, maximum=math.pi / 2)
        self.register_buffer('t', torch.zeros(()))

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """cos(theta + m): arguments as :class:`MarginHead`'s, all (N,)."""
        return arcface(cosines, self.margins(labels))

    def class_loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict:
        """``dict(loss=...)`` of embeddings (N, in_channels) and labels (N,); keeps t."""
        cosines = target_cosines(embeddings, self.weight, labels, self.num_subcenters)
        if self.training:
            self._observe(cosines)
        limit = arcface(cosines, self.margins(labels))[:, None]
        # A copy of t: the backward pass may come after its next update.
        return super().class_loss(
            embeddings, labels, curricularface_nontarget(limit, self.t.clone())
        )

    def _observe(self, cosines: torch.Tensor) -> None:
        sums = torch.stack([torch.full_like(cosines.sum(), len(cosines)), cosines.sum()])
        all_reduce(sums)
        if sums[0] > 0:
            self.t.lerp_((sums[1] / sums[0]).to(self.t.dtype), self.momentum)
