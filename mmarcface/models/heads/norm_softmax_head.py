"""NormFace: softmax over scaled cosines, without a margin."""

from __future__ import annotations

import torch

from mmarcface.registry import MODELS

from .margin_head import MarginHead


@MODELS.register_module()
class NormSoftmaxHead(MarginHead):
    """Softmax over s * cos(theta).

    `NormFace <https://arxiv.org/abs/1704.06369>`_, equation 9. Arguments and errors as
    :class:`MarginHead`.
    """

    def target_logit(self, cosines: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The cosine itself: (N,) to (N,)."""
        return cosines
