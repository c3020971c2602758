"""SphereFace, its revival SphereFace-R, and SphereFace2."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from mmarcface.functional.arguments import are_numbers, check_number, is_number
from mmarcface.functional.losses import margin_sigmoid
from mmarcface.functional.margins import sphereface, sphereface_r
from mmarcface.functional.nontarget import sphereface2_similarity, sphereface_r_nontarget
from mmarcface.functional.vectors import EPS, norms
from mmarcface.registry import MODELS

from .class_margins import ClassMargins
from .margin_head import MarginHead

MAX_FACTOR = 10.0


@MODELS.register_module()
class SphereFaceHead(MarginHead):
    """Multiplicative angular margin, annealed.

    `SphereFace <https://arxiv.org/abs/1704.08063>`_, equation 7; see
    :func:`mmarcface.functional.margins.sphereface`. The weight of the plain cosine falls as
    lambda = max(``minimum``, ``start`` / (1 + ``decay`` * iteration)). As in the authors' code the
    first iteration is number 1, so that training begins with 1000 / 1.12 = 892.9 by default. How
    many iterations were done is part of the checkpoint.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive; None for the norm of each embedding, as in the
            paper (scores at inference are then the cosines).
        margin: margin m, in [1, 10], whole or not: a number, one per class, or a text file with one
            per class, a number a line.
        annealing: schedule of lambda, (``start``, ``decay``, ``minimum``); None for lambda = 0.
        **kwargs: further arguments of :class:`MarginHead`; no ``filter_threshold`` without a scale.

    Raises:
        ValueError: if a number is out of its range or the count of margins is not that of classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float | None = 64.0,
        margin: float | Sequence[float] | str = 4.0,
        annealing: Sequence[float] | None = (1000.0, 0.12, 5.0),
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, 1.0 if scale is None else scale, **kwargs)
        if scale is None and self.filter_threshold is not None:
            raise ValueError(
                f'filter_threshold needs a scale, got {self.filter_threshold} and scale=None'
            )
        if annealing is not None and (not are_numbers(annealing, 3) or min(annealing) < 0):
            raise ValueError(f'annealing must be three numbers of at least 0, got {annealing!r}')
        self.by_norm = scale is None
        self.annealing = annealing
        self.margins = ClassMargins(margin, num_classes, minimum=1.0, maximum=MAX_FACTOR)
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))

    @property
    def annealing_lambda(self) -> float:
        """Lambda of the coming iteration in training, and of the last one in evaluation."""
        if self.annealing is None:
            return 0.0
        start, decay, minimum = self.annealing
        return max(minimum, start / (1 + decay * (self.iteration.item() + self.training)))

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """(lambda cos(theta) + phi) / (1 + lambda): arguments as :class:`MarginHead`'s."""
        return sphereface(cosines, self.margins(labels), self.annealing_lambda)

    def scale_of(self, embeddings: torch.Tensor) -> float | torch.Tensor:
        """s, or without it the norms of the embeddings, (N,)."""
        # A zero embedding has no cosines: its scale must not be 0.
        return norms(embeddings).clamp(min=EPS) if self.by_norm else self.scale

    def class_loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict:
        """``dict(loss=...)`` of embeddings (N, in_channels) and labels (N,); counts iterations."""
        losses = super().class_loss(embeddings, labels)
        if self.training:
            self.iteration += 1
        return losses


@MODELS.register_module()
class SphereFaceRHead(MarginHead):
    """Multiplicative angular margin without annealing.

    `SphereFace-R <https://arxiv.org/abs/2109.05565>`_, with embeddings of fixed norm (HFN).
    Version 1 makes the target's angle larger, :func:`mmarcface.functional.margins.sphereface_r`;
    version 2 makes the other classes' smaller,
    :func:`mmarcface.functional.sphereface_r_nontarget`. The authors scale the loss by 50 /
    s, which is here left to the learning rate.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        margin: margin m, in [1, 10]; for version 1 also one per class, or a text file with one per
            class, a number a line.
        version: version of the loss, 1 or 2.
        **kwargs: further arguments of :class:`MarginHead`. The paper trains with
            ``gradient='detached'``.

    Raises:
        ValueError: if a number is out of its range or the count of margins is not that of classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 30.0,
        margin: float | Sequence[float] | str = 1.5,
        version: int = 2,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        if not is_number(version, whole=True) or version not in (1, 2):
            raise ValueError(f'version must be 1 or 2, got {version!r}')
        self.version = version
        self.margins = ClassMargins(
            margin, num_classes, minimum=1.0, maximum=MAX_FACTOR, uniform=version == 2
        )

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """cos(min(m theta, pi)) or cos(theta): arguments as :class:`MarginHead`'s, all (N,)."""
        return sphereface_r(cosines, self.margins(labels)) if self.version == 1 else cosines

    def class_loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict:
        """``dict(loss=...)`` of embeddings (N, in_channels) and labels (N,)."""
        if self.version == 1:
            return super().class_loss(embeddings, labels)
        function = sphereface_r_nontarget(self.margins(labels.new_zeros(())))
        if self.gradient == 'detached':
            function = function.detach_margin()
        return super().class_loss(embeddings, labels, function)


@MODELS.register_module()
class SphereFace2Head(MarginHead):
    """One binary decision a class, with an additive margin on both sides.

    `SphereFace2 <https://arxiv.org/abs/2108.01513>`_, SphereFace2-C. The loss is ``loss_weight`` /
    s times the sum over the classes of alpha log(1 + exp(-(s (g(cos) - m) + b))) for the target and
    (1 - alpha) log(1 + exp(s (g(cos) + m) + b)) for others, with a learned bias b that starts where
    the loss of random embeddings is least.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines (the paper's r), positive.
        margin: margin m, in units of g, in [0, 2].
        alpha: weight of the target's part, in (0, 1).
        exponent: exponent t of :func:`mmarcface.functional.sphereface2_similarity`, at least 1.
        loss_weight: factor on the loss, positive.
        **kwargs: further arguments of :class:`MarginHead`. The authors train with
            ``gradient='detached'``.

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 40.0,
        margin: float = 0.4,
        alpha: float = 0.7,
        exponent: float = 3.0,
        loss_weight: float = 50.0,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        if not is_number(margin) or not 0 <= margin <= 2:
            raise ValueError(f'margin must be one number in [0, 2], got {margin!r}')
        check_number('alpha', alpha, above=0, below=1)
        check_number('exponent', exponent, minimum=1)
        check_number('loss_weight', loss_weight, above=0)
        self.margin = margin
        self.alpha = alpha
        self.exponent = exponent
        self.loss_weight = loss_weight
        self.bias = nn.Parameter(torch.tensor([self._first_bias()]))

    def _first_bias(self) -> float:
        """The bias at which the loss of embeddings that are orthogonal to all centers is least."""
        others = (1 - self.alpha) * (self.num_classes - 1)
        if not others:
            return 0.0
        ratio = self.alpha / others
        similarity = 2 * 0.5**self.exponent - 1
        target, other = (self.scale * (similarity + sign * self.margin) for sign in (-1, 1))
        # With x = exp(b): alpha / (1 + x exp(target)) = others * x exp(other) / (1 + x exp(other)).
        # In units of exp(-other): u^2 exp(target - other) + u (1 - ratio) - ratio = 0.
        linear = 1 - ratio
        root = math.sqrt(linear**2 + 4 * ratio * math.exp(target - other))
        if linear < 0:
            return math.log((root - linear) / 2) - target
        return math.log(2 * ratio) - math.log(linear + root) - other

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """g(cos) - m: arguments as :class:`MarginHead`'s, all (N,)."""
        return sphereface2_similarity(self.exponent)(cosines) - self.margin

    def class_loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict:
        """``dict(loss=...)`` of embeddings (N, in_channels) and labels (N,)."""
        similarity = sphereface2_similarity(self.exponent)
        if self.gradient == 'detached':
            similarity = similarity.detach_margin()
        factor = self.loss_weight / self.scale
        phi = self.margin_function(embeddings, labels)
        loss = margin_sigmoid(
            embeddings,
            self.weight,
            labels,
            self.bias,
            lambda cosines: self.scale * phi(cosines),
            self.nontarget_cosine(similarity),
            self.scale,
            self.margin,
            factor * self.alpha,
            factor * (1 - self.alpha),
            self.num_subcenters,
            self.impl,
        )
        return dict(loss=loss)
