"""CosFace."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmarcface.functional.margins import cosface
from mmarcface.registry import MODELS

from .class_margins import ClassMargins
from .margin_head import MarginHead


@MODELS.register_module()
class CosFaceHead(MarginHead):
    """Additive cosine margin.

    `CosFace <https://arxiv.org/abs/1801.09414>`_, equation 4; see
    :func:`mmarcface.functional.margins.cosface`.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        margin: margin m in units of the cosine, in [0, 2]: a number, one per class, or a text file
            with one per class, a number a line.
        **kwargs: further arguments of :class:`MarginHead`.

    Raises:
        ValueError: if a number is out of its range or the count of margins is not that of classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        margin: float | Sequence[float] | str = 0.35,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        self.margins = ClassMargins(margin, num_classes, maximum=2.0)

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """cos(theta) - m: arguments as :class:`MarginHead`'s, all (N,)."""
        return cosface(cosines, self.margins(labels))
