"""Functions of the nontarget cosines: what some losses do to all classes but the target."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .arguments import check_number
from .margins import Margin, _check_margin, angle_from_cosine, detach_margin, sine_from_cosine


class Modulation:
    """A function of the nontarget cosines, with its slope.

    The nontarget cosines are a matrix of batch x classes: autograd's own steps over it would take
    longer than the rest of a loss.

    Args:
        value: differentiable function of a tensor, which keeps its shape.
        slope: derivative of ``value``, as a function of the argument and the result of ``value``.

    Example:
        >>> square = Modulation(lambda c: c * c, lambda c, value: 2 * c)
        >>> square(torch.tensor([0.5])), square.slope(torch.tensor([0.5]), None)
        (tensor([0.2500]), tensor([1.]))
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
        """This function of the result of another.

        Args:
            inner: the function that is applied first.
        """

        def slope(cosine: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            between = inner.value(cosine)
            return self.slope(between, value) * inner.slope(cosine, between)

        return Modulation(lambda c: self.value(inner.value(c)), slope)

    def detach_margin(self) -> Modulation:
        """The same values with the gradient of the cosine: see :func:`.margins.detach_margin`."""
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

    Example:
        >>> round(sphereface_r_nontarget(2.0)(torch.tensor(0.0)).item(), 4)
        0.7071
    """
    _check_margin('margin', margin, minimum=1)
    # The slope is sin(theta / m) / (m sin(theta)).
    return Modulation(
        lambda c: angle_from_cosine(c).div_(margin).cos_(),
        lambda c, value: sine_from_cosine(value) / sine_from_cosine(c) / margin,
    )


def curricularface_nontarget(phi: torch.Tensor, t: Margin) -> Modulation:
    """Weigh hard nontarget classes: cos becomes cos (t + cos) where cos > phi.

    `CurricularFace <https://arxiv.org/abs/2004.00288>`_.

    Args:
        phi: target logit of each sample, (N, 1).
        t: progress of training, near 0 at its start.

    Returns:
        A function of the nontarget cosines, (N, n).

    Example:
        >>> harder = curricularface_nontarget(torch.tensor([[0.25]]), t=1.0)
        >>> harder(torch.tensor([[0.125, 0.5]])).tolist()
        [[0.125, 0.75]]
    """
    _check_margin('t', t)
    return Modulation(
        lambda c: torch.where(c > phi, (c + t) * c, c),
        lambda c, _: torch.where(c > phi, 2 * c + t, 1.0),
    )


def interclass_filter(threshold: float) -> Modulation:
    """Inter-class filtering: nontarget classes that are too close get a cosine of 0.

    Such a class is often the same person under another label. insightface's ``arcface_torch``
    filters so in `Partial FC <https://arxiv.org/abs/2203.15565>`_.

    Args:
        threshold: cosine above which a class is filtered.

    Returns:
        A function of nontarget cosines of any shape.

    Raises:
        ValueError: if the threshold is not a finite number.

    Example:
        >>> interclass_filter(0.5)(torch.tensor([0.25, 0.75])).tolist()
        [0.25, 0.0]
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

    Example:
        >>> sphereface2_similarity(3.0)(torch.tensor([-1.0, 0.0, 1.0])).tolist()
        [-1.0, -0.75, 1.0]
    """
    check_number('exponent', exponent, minimum=1)
    return Modulation(
        lambda c: ((c + 1).clamp_(min=0) / 2).pow(exponent).mul_(2).sub_(1),
        lambda c, _: ((c + 1).clamp_(min=0) / 2).pow_(exponent - 1).mul_(exponent),
    )
