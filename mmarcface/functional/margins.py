"""Target logits: what each loss puts in the place of cos(theta) of the target class.

The functions map the cosine between an embedding and the center of its class to phi, the value that
the loss scales in its place. Margins are in radians unless said otherwise, and may be a number or a
tensor that broadcasts to the cosines. A number out of its range is a ``ValueError``; a tensor,
which may be on a device, is not checked. All gradients are finite, also at cosines of +-1 and
slightly beyond, where rounding leads.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from .arguments import check_number

Margin = float | torch.Tensor


def sine_from_cosine(cosine: torch.Tensor) -> torch.Tensor:
    """Sine of the angle whose cosine is given, with a finite gradient at +-1.

    The true slope, -cos/sin, is infinite at +-1, and rounding even takes cosines past 1. So 1 -
    cos^2 has the rounding error of 1 as its floor, below which it carries no information.

    Args:
        cosine: cos(theta), any shape; values may exceed [-1, 1] by rounding.

    Returns:
        The sine in (0, 1], same shape.

    Example:
        >>> [round(sine, 4) for sine in sine_from_cosine(torch.tensor([0.0, 0.6])).tolist()]
        [1.0, 0.8]
    """
    return (1 - cosine * cosine).clamp(min=torch.finfo(cosine.dtype).eps).sqrt()


def angle_from_cosine(cosine: torch.Tensor) -> torch.Tensor:
    """Angle whose cosine is given, with a finite gradient: 0 at +-1 and beyond.

    At +-1 a cosine does not change with the direction of the embedding, so that no gradient is
    lost.

    Args:
        cosine: cos(theta), any shape; values may exceed [-1, 1] by rounding.

    Returns:
        Radians in (0, pi), same shape.

    Example:
        >>> [round(angle, 4) for angle in angle_from_cosine(torch.tensor([0.0, 0.5])).tolist()]
        [1.5708, 1.0472]
    """
    limit = 1 - torch.finfo(cosine.dtype).eps
    return cosine.clamp(-limit, limit).acos()


def detach_margin(phi: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
    """Phi with the gradient of the cosine: the margin is treated as a constant.

    `SphereFace-R <https://arxiv.org/abs/2109.05565>`_ calls this characteristic gradient
    detachment; insightface's ``arcface_torch`` does the same for ArcFace in its
    ``CombinedMarginLoss``. Other inputs of phi, such as a margin that depends on the embedding,
    keep their gradient.

    Args:
        phi: target logit, any shape, computed from ``cosine.detach()``.
        cosine: cos(theta), same shape.

    Returns:
        ``phi``, same shape.

    Example:
        >>> cosine = torch.tensor([0.5], requires_grad=True)
        >>> detach_margin(arcface(cosine.detach(), 0.5), cosine).backward()
        >>> cosine.grad
        tensor([1.])
    """
    return cosine + (phi - cosine.detach())


def cosface(cosine: torch.Tensor, margin: Margin) -> torch.Tensor:
    """Additive cosine margin, cos(theta) - m.

    `CosFace <https://arxiv.org/abs/1801.09414>`_, equation 4.

    Args:
        cosine: cos(theta), any shape.
        margin: m, in units of the cosine.

    Returns:
        phi, same shape as ``cosine``.

    Example:
        >>> round(cosface(torch.tensor(0.5), margin=0.35).item(), 4)
        0.15
    """
    _check_margin('margin', margin)
    return cosine - margin


def arcface(cosine: torch.Tensor, margin: Margin, easy_margin: bool = False) -> torch.Tensor:
    """Additive angular margin, cos(theta + m).

    `ArcFace <https://arxiv.org/abs/1801.07698>`_, equation 3. Past theta = pi - m, where cos(theta
    + m) rises again, phi continues as cos(theta) - m sin(m), which keeps it decreasing (insightface
    issue 108).

    Args:
        cosine: cos(theta), any shape.
        margin: m in radians, in [0, pi/2].
        easy_margin: whether to add the margin only where cos(theta) > 0, and keep cos(theta)
            elsewhere.

    Returns:
        phi, same shape as ``cosine``.

    Example:
        >>> round(arcface(torch.tensor(0.5), margin=0.5).item(), 4)
        0.0236
    """
    _check_margin('margin', margin, minimum=0, maximum=math.pi / 2)
    margin = torch.as_tensor(margin, dtype=cosine.dtype, device=cosine.device)
    phi = cosine * margin.cos() - sine_from_cosine(cosine) * margin.sin()
    if easy_margin:
        return torch.where(cosine > 0, phi, cosine)
    return torch.where(cosine > -margin.cos(), phi, cosine - margin * margin.sin())


def combined_margin(cosine: torch.Tensor, m1: Margin, m2: Margin, m3: Margin) -> torch.Tensor:
    """All three margins at once, cos(m1 * theta + m2) - m3.

    `ArcFace <https://arxiv.org/abs/1801.07698>`_, equation 4. Past m1 * theta + m2 = pi the cosine
    continues as (-1)^k cos(alpha) - 2k, k = floor(alpha / pi), as SphereFace's does, which keeps it
    continuous and decreasing for all m1. So (1, m, 0) equals :func:`arcface` up to theta = pi - m,
    and exceeds it beyond.

    Args:
        cosine: cos(theta), any shape.
        m1: factor on the angle, positive.
        m2: additive angular margin in radians, at least 0.
        m3: additive cosine margin, in units of the cosine, at least 0.

    Returns:
        phi, same shape as ``cosine``.

    Example:
        >>> round(combined_margin(torch.tensor(0.5), m1=1.0, m2=0.3, m3=0.2).item(), 4)
        0.0217
    """
    _check_margin('m1', m1, above=0)
    _check_margin('m2', m2, minimum=0)
    _check_margin('m3', m3, minimum=0)
    alpha = m1 * angle_from_cosine(cosine) + m2
    turns = (alpha.detach() / math.pi).floor()
    return (1 - 2 * turns.remainder(2)) * alpha.cos() - 2 * turns - m3


def sphereface(cosine: torch.Tensor, margin: Margin, annealing: float = 0.0) -> torch.Tensor:
    """Multiplicative angular margin, (-1)^k cos(m theta) - 2k with k = floor(m theta / pi).

    `SphereFace <https://arxiv.org/abs/1704.08063>`_, equation 7, annealed as in its code:
    (lambda cos(theta) + phi) / (1 + lambda).

    Args:
        cosine: cos(theta), any shape.
        margin: m, at least 1, whole or not.
        annealing: lambda, at least 0.

    Returns:
        phi, same shape as ``cosine``.

    Example:
        >>> round(sphereface(torch.tensor(0.5), margin=4).item(), 4)
        -1.5
    """
    _check_margin('margin', margin, minimum=1)
    check_number('annealing', annealing, minimum=0)
    return (annealing * cosine + combined_margin(cosine, margin, 0.0, 0.0)) / (1 + annealing)


def sphereface_r(cosine: torch.Tensor, margin: Margin) -> torch.Tensor:
    """Multiplicative angular margin that stops at pi, cos(min(m theta, pi)).

    `SphereFace-R <https://arxiv.org/abs/2109.05565>`_, version 1. Version 2 keeps the target's
    cosine and applies :func:`sphereface_r_nontarget` to the other classes.

    Args:
        cosine: cos(theta), any shape.
        margin: m, at least 1.

    Returns:
        phi, same shape as ``cosine``; constant beyond theta = pi / m.

    Example:
        >>> round(sphereface_r(torch.tensor(0.5), margin=2).item(), 4)
        -0.5
    """
    _check_margin('margin', margin, minimum=1)
    return (margin * angle_from_cosine(cosine)).clamp(max=math.pi).cos()


def adaface(cosine: torch.Tensor, margin: Margin, quality: torch.Tensor) -> torch.Tensor:
    """Margin that the quality of an image moves between an angular and an additive one.

    `AdaFace <https://arxiv.org/abs/2204.00964>`_, equations 12 and 13: cos(theta + g_angle) - g_add
    with g_angle = -m z and g_add = m z + m, where theta + g_angle is clipped to [0, pi].

    Args:
        cosine: cos(theta), (N,).
        margin: m.
        quality: z in [-1, 1], (N,): the standardized norm of the embedding.

    Returns:
        phi, (N,).

    Example:
        >>> phi = adaface(torch.tensor([0.5, 0.5]), margin=0.4, quality=torch.tensor([-1.0, 1.0]))
        >>> [round(value, 4) for value in phi.tolist()]
        [0.1233, -0.0022]
    """
    _check_margin('margin', margin)
    shifted = (angle_from_cosine(cosine) - margin * quality).clamp(0, math.pi)
    return shifted.cos() - (margin * quality + margin)


def magface_margin(
    norms: torch.Tensor, norm_min: float, norm_max: float, margin_min: float, margin_max: float
) -> torch.Tensor:
    """Margin that grows with the norm of the embedding.

    `MagFace <https://arxiv.org/abs/2103.06627>`_: linear from ``margin_min`` at the norm
    ``norm_min`` to ``margin_max`` at ``norm_max``, and constant outside.

    Args:
        norms: a, norms of the embeddings, (N,).
        norm_min: l_a, norm from which on the margin grows, positive.
        norm_max: u_a, norm up to which the margin grows.
        margin_min: l_m, smallest margin, in radians.
        margin_max: u_m, largest margin, in radians.

    Returns:
        m(a), (N,), in radians.

    Raises:
        ValueError: if a number is not finite, or the norms are not 0 < l_a < u_a.

    Example:
        >>> margins = magface_margin(torch.tensor([5.0, 60.0, 200.0]), 10, 110, 0.45, 0.8)
        >>> [round(margin, 4) for margin in margins.tolist()]
        [0.45, 0.625, 0.8]
    """
    _check_norm_range(norm_min, norm_max)
    check_number('margin_min', margin_min)
    check_number('margin_max', margin_max)
    slope = (margin_max - margin_min) / (norm_max - norm_min)
    return margin_min + (norms.clamp(norm_min, norm_max) - norm_min) * slope


def magface_regularizer(norms: torch.Tensor, norm_min: float, norm_max: float) -> torch.Tensor:
    """g(a) = 1/a + a/u_a^2, which rewards long embeddings.

    `MagFace <https://arxiv.org/abs/2103.06627>`_. Norms are clipped as for the margin: beyond, the
    paper's conditions on g do not hold.

    Args:
        norms: a, norms of the embeddings, (N,).
        norm_min: l_a, smallest norm, positive.
        norm_max: u_a, largest norm.

    Returns:
        g(a), (N,).

    Raises:
        ValueError: if the norms are not 0 < l_a < u_a.

    Example:
        >>> round(magface_regularizer(torch.tensor(10.0), 10, 100).item(), 4)
        0.101
    """
    _check_norm_range(norm_min, norm_max)
    norms = norms.clamp(norm_min, norm_max)
    return norms.reciprocal() + norms / norm_max**2


@torch.no_grad()
def elasticface_margins(
    cosine: torch.Tensor, mean: torch.Tensor, sigma: float, plus: bool = False
) -> torch.Tensor:
    """Margins drawn from N(mean, sigma), one per sample.

    `ElasticFace <https://arxiv.org/abs/2109.09416>`_. With ``plus`` the draws are sorted so that
    the sample furthest from its center gets the largest margin. (The authors' code permutes them by
    the order of the cosines instead of its inverse, so that its margins do not follow the
    difficulty.)

    Args:
        cosine: cosines of the targets, (N,).
        mean: mean margin of each sample, (N,).
        sigma: standard deviation, at least 0.
        plus: whether to sort, as ElasticFace+ does.

    Returns:
        Margins, (N,), in units of ``mean``.

    Raises:
        ValueError: if ``sigma`` is negative.

    Example:
        >>> cosines, means = torch.tensor([0.9, 0.1, 0.5]), torch.full((3,), 0.5)
        >>> elasticface_margins(cosines, means, sigma=0.05, plus=True).argsort().tolist()
        [0, 2, 1]
    """
    check_number('sigma', sigma, minimum=0)
    deviations = torch.randn_like(cosine)
    if plus:
        hardest_first = cosine.argsort()
        deviations = torch.empty_like(deviations).scatter_(
            0, hardest_first, deviations.sort(descending=True).values
        )
    return mean + sigma * deviations


def adaptive_margins(
    counts: np.ndarray, margin_min: float = 0.05, margin_max: float = 0.5, power: float = -0.25
) -> np.ndarray:
    """A margin for each class by its number of images: the fewer, the larger.

    `Google Landmark Recognition 2020, third place <https://arxiv.org/abs/2010.05350>`_: the powers
    of the counts, scaled to [margin_min, margin_max]. It equals mmpretrain's SetAdaptiveMarginsHook
    where every class has images and the counts differ. That hook counts a class without images as
    one image, which lowers the margins of the rare classes; here such a class gets ``margin_max``
    and changes no other margin. Where all classes have equally many images, mmpretrain divides 0 by
    0; here they get the mean of both margins.

    Args:
        counts: number of images of each class, (C,), at least 0.
        margin_min: margin of the most frequent class, in the units of the loss.
        margin_max: margin of the rarest class.
        power: exponent of the counts, negative.

    Returns:
        Margins, (C,), fp64.

    Raises:
        ValueError: if a number is not finite, the margins are not in order, the power is not
            negative, a count is negative, or no class has an image.

    Example:
        >>> adaptive_margins(np.array([1000, 100, 1])).round(4).tolist()
        [0.05, 0.1258, 0.5]
    """
    check_number('margin_min', margin_min)
    check_number('margin_max', margin_max)
    if not 0 <= margin_min <= margin_max:
        raise ValueError(
            f'margins must be 0 <= margin_min <= margin_max, got {margin_min} and {margin_max}'
        )
    check_number('power', power, below=0)
    counts = np.asarray(counts)
    if (counts < 0).any():
        raise ValueError(f'counts must be at least 0, got {counts.min()}')
    present = counts > 0
    if not present.any():
        raise ValueError('counts must name a class with images, got none')
    rarity = counts[present].astype(np.float64) ** power
    width = np.ptp(rarity)
    share = (rarity - rarity.min()) / width if width else np.full_like(rarity, 0.5)
    margins = np.full(len(present), float(margin_max))
    margins[present] = margin_min + (margin_max - margin_min) * share
    return margins


def target_logit_curve(
    target_logit: Callable[[torch.Tensor], torch.Tensor], number: int = 181
) -> tuple[torch.Tensor, torch.Tensor]:
    """Phi over the angle, to be drawn.

    Args:
        target_logit: function of cosines, such as ``lambda c: arcface(c, 0.5)``.
        number: number of angles, evenly spaced, at least 2.

    Returns:
        Angles in degrees from 0 to 180 and phi, each (number,), fp64.

    Raises:
        ValueError: if ``number`` is not a whole number of at least 2.

    Example:
        >>> degrees, phi = target_logit_curve(lambda c: cosface(c, 0.35), number=3)
        >>> degrees.tolist(), [round(value, 4) for value in phi.tolist()]
        ([0.0, 90.0, 180.0], [0.65, -0.35, -1.35])
    """
    check_number('number', number, minimum=2, whole=True)
    degrees = torch.linspace(0, 180, number, dtype=torch.float64)
    with torch.no_grad():
        return degrees, target_logit(degrees.deg2rad().cos())


def _check_margin(name: str, margin: Margin, **limits: float) -> None:
    """Refuse a number out of its range. A tensor is not read: that would wait for the device."""
    if not isinstance(margin, torch.Tensor):
        check_number(name, margin, **limits)


def _check_norm_range(norm_min: float, norm_max: float) -> None:
    check_number('norm_min', norm_min, above=0)
    check_number('norm_max', norm_max, above=norm_min)
