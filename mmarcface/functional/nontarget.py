"""Functions of the nontarget cosines, those of the other classes: what some losses do to them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .arguments import check_number
from .margins import Margin, _check_margin, angle_from_cosine, detach_margin, sine_from_cosine


class Modulation:
    """A function of the cosines of the other classes, with its slope.

    These are a matrix of batch x classes, for which autograd's own steps would take longer than
    all the rest of a loss.

    Args:
        value: tensor to tensor of the same shape, differentiable.
        slope: derivative of ``value``, from its argument and its result.
    """

    def __init__(
        self,
        value: Callable[[torch.Tensor], torch.Tensor],
        slope: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ):
        self.value = value
        self.slope = slope

    def __call__(self, cosine: torch.Tensor) -> torch.Tensor:
        """The value, with autograd's gradient."""
        return self.value(cosine)

    def compose(self, inner: Modulation) -> Modulation:
        """This function of another's result."""

        def slope(cosine: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            between = inner.value(cosine)
            return self.slope(between, value) * inner.slope(cosine, between)

        return Modulation(lambda c: self.value(inner.value(c)), slope)

    def detach_margin(self) -> Modulation:
        """The same values with the gradient of the cosine: see :func:`detach_margin`."""
        return Modulation(
            lambda c: detach_margin(self.value(c.detach()), c), lambda c, _: torch.ones_like(c)
        )


def sphereface_r_nontarget(margin: Margin) -> Modulation:
    """cos(theta / m), for the classes that are not the target.

    `SphereFace-R <https://arxiv.org/abs/2109.05565>`_, version 2.

    Args:
        margin: m, at least 1.

    Returns:
        A function of cosines of any shape.
    """
    _check_margin('margin', margin, minimum=1)
    # The slope is sin(theta / m) / (m sin(theta)).
    return Modulation(
        lambda c: angle_from_cosine(c).div_(margin).cos_(),
        lambda c, value: sine_from_cosine(value) / sine_from_cosine(c) / margin,
    )


def curricularface_nontarget(phi: torch.Tensor, t: Margin) -> Modulation:
    """Weigh the hard ones among the other classes, cos -> cos (t + cos) where cos > phi.

    `CurricularFace <https://arxiv.org/abs/2004.00288>`_.

    Args:
        phi: the target's, (N, 1).
        t: how far training has come, near 0 at its start.

    Returns:
        A function of the other classes' cosines, (N, n).
    """
    _check_margin('t', t)
    return Modulation(
        lambda c: torch.where(c > phi, (c + t) * c, c),
        lambda c, _: torch.where(c > phi, 2 * c + t, 1.0),
    )


def interclass_filter(threshold: float) -> Modulation:
    """Inter-class filtering: other classes that are too close count with a cosine of 0.

    Such classes are often the same person under another label. `Partial FC
    <https://arxiv.org/abs/2203.15565>`_ filters so in insightface's ``arcface_torch``.

    Args:
        threshold: cosines above it are filtered.

    Returns:
        A function of the other classes' cosines, of any shape.

    Raises:
        ValueError: if the threshold is no finite number.
    """
    check_number('threshold', threshold)
    return Modulation(
        lambda c: torch.where(c > threshold, 0.0, c), lambda c, _: (c <= threshold).to(c.dtype)
    )


def sphereface2_similarity(exponent: float) -> Modulation:
    """g(cos) = 2 ((cos + 1) / 2)^t - 1, which spreads the cosines of different people.

    `SphereFace2 <https://arxiv.org/abs/2108.01513>`_, similarity adjustment.

    Args:
        exponent: t, at least 1.

    Returns:
        A function of cosines of any shape, which may exceed [-1, 1] by rounding, into [-1, 1].

    Raises:
        ValueError: if the exponent is below 1.
    """
    check_number('exponent', exponent, minimum=1)
    return Modulation(
        lambda c: ((c + 1).clamp_(min=0) / 2).pow(exponent).mul_(2).sub_(1),
        lambda c, _: ((c + 1).clamp_(min=0) / 2).pow_(exponent - 1).mul_(exponent),
    )
