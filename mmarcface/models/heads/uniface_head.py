"""UniFace: one threshold for all classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from mmarcface.functional.arguments import check_number
from mmarcface.functional.losses import margin_sigmoid
from mmarcface.functional.margins import cosface
from mmarcface.registry import MODELS

from .class_margins import ClassMargins
from .margin_head import MarginHead


@MODELS.register_module()
class UniFaceHead(MarginHead):
    """Unified cross-entropy: every target's cosine above one threshold, all others' below it.

    `UniFace <https://openaccess.thecvf.com/content/ICCV2023/html/Zhou_UniFace_Unified_Cross-Entropy_
    Loss_for_Deep_Face_Recognition_ICCV_2023_paper.html>`_, its loss with margin: log(1 +
    exp(-s (cos - m) + b)) for the target and log(1 + exp(s cos - b)) for each other class, with a
    learned b that starts at log(10 C). The authors' code clips the logits to [-s, s], where their
    gradient vanishes; here they are not.

    Args:
        num_classes: number of classes, C, at least 1.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        margin: margin m in units of the cosine, in [0, 2]: a number, one per class, or a text file
            with one per class, a number a line.
        nontarget_weight: weight lambda of the part of the other classes, positive.
        **kwargs: further arguments of :class:`MarginHead`.

    Raises:
        ValueError: if a number is out of its range or the count of margins is not that of classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        margin: float | Sequence[float] | str = 0.4,
        nontarget_weight: float = 1.0,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        check_number('nontarget_weight', nontarget_weight, above=0)
        self.nontarget_weight = nontarget_weight
        self.margins = ClassMargins(margin, num_classes, maximum=2.0)
        self.bias = nn.Parameter(torch.tensor([math.log(10 * num_classes)]))

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """cos(theta) - m: arguments as :class:`MarginHead`'s, all (N,)."""
        return cosface(cosines, self.margins(labels))

    def class_loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict:
        """``dict(loss=...)`` of embeddings (N, in_channels) and labels (N,)."""
        phi = self.margin_function(embeddings, labels)
        loss = margin_sigmoid(
            embeddings,
            self.weight,
            labels,
            -self.bias,
            lambda cosines: self.scale * phi(cosines),
            self.nontarget_cosine(),
            self.scale,
            nontarget_weight=self.nontarget_weight,
            num_subcenters=self.num_subcenters,
            impl=self.impl,
        )
        return dict(loss=loss)
