"""AdaFace."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce

from mmarcface.functional.arguments import check_number
from mmarcface.functional.losses import as_loss_inputs
from mmarcface.functional.margins import adaface
from mmarcface.functional.vectors import norms
from mmarcface.registry import MODELS

from .class_margins import ClassMargins
from .margin_head import MarginHead

# A norm outside this range counts as its nearer end.
NORM_RANGE = 0.001, 100.0


@MODELS.register_module()
class AdaFaceHead(MarginHead):
    """Margin by image quality, which the norm of the embedding measures.

    `AdaFace <https://arxiv.org/abs/2204.00964>`_; see :func:`mmarcface.functional.margins.adaface`.
    Quality is (norm - mean) / (std / h), clipped to [-1, 1], with running mean and standard
    deviation of the norms, over all processes together, that are part of the checkpoint.
    No gradient flows through it.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        margin: margin m, in [0, 1]: a number, one per class, or a text file with one per class, a
            number a line.
        concentration: concentration h, positive.
        momentum: weight t_alpha of a batch in the running statistics, in (0, 1].
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
        concentration: float = 0.333,
        momentum: float = 0.01,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        check_number('concentration', concentration, above=0)
        check_number('momentum', momentum, above=0, maximum=1)
        self.concentration = concentration
        self.momentum = momentum
        self.margins = ClassMargins(margin, num_classes, maximum=1.0)
        self.register_buffer('mean', torch.tensor(20.0))
        self.register_buffer('std', torch.tensor(100.0))

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """cos(theta + g_angle) - g_add: arguments as :class:`MarginHead`'s, all (N,)."""
        deviation = norms.detach().clamp(*NORM_RANGE) - self.mean
        quality = deviation / (self.std + 0.001) * self.concentration
        return adaface(cosines, self.margins(labels), quality.clamp(-1, 1))

    def class_loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict:
        """``dict(loss=...)`` of embeddings (N, in_channels) and labels (N,); keeps statistics."""
        if self.training:
            # A NaN must not reach the statistics.
            embeddings, _, labels = as_loss_inputs(
                embeddings, self.weight, labels, self.num_subcenters
            )
            self._observe(norms(embeddings.detach()).clamp(*NORM_RANGE))
        return super().class_loss(embeddings, labels)

    def _observe(self, norms: torch.Tensor) -> None:
        sums = torch.stack([torch.full_like(norms.sum(), len(norms)), norms.sum()])
        all_reduce(sums)
        count, total = sums
        # A single norm has no standard deviation.
        if count < 2:
            return
        mean = total / count
        squares = (norms - mean).square().sum()
        all_reduce(squares)
        self.mean.lerp_(mean.to(self.mean.dtype), self.momentum)
        self.std.lerp_((squares / (count - 1)).sqrt().to(self.std.dtype), self.momentum)
