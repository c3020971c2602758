"""Target logits: what each loss puts in the place of cos(theta) of the target class.

The functions map the cosine between an embedding and the center of its class to phi, the value
that is scaled and given to the loss in its stead. Margins are in radians unless said otherwise, and
may be a number or a tensor that broadcasts to the cosines: a number out of its range is a
``ValueError``, and a tensor, which a device may hold, is taken as it is. All gradients are finite,
at cosines of +-1 and past them, where rounding leads, too.
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

    1 - cos^2 carries no information below the rounding error of 1, so it is floored there: the
    true slope, -cos/sin, is infinite at +-1, and rounding even takes cosines past 1.

    Args:
        cosine: any shape; values may exceed [-1, 1] by rounding.

    Returns:
        The sine in (0, 1], same shape.
    """
    return (1 - cosine * cosine).clamp(min=torch.finfo(cosine.dtype).eps).sqrt()


def angle_from_cosine(cosine: torch.Tensor) -> torch.Tensor:
    """Angle whose cosine is given, with a finite gradient: 0 at +-1 and past them.

    There a cosine does not change with the direction of the embedding, so that no gradient is lost.

    Args:
        cosine: any shape; values may exceed [-1, 1] by rounding.

    Returns:
        Radians in (0, pi), same shape.
    """
    limit = 1 - torch.finfo(cosine.dtype).eps
    return cosine.clamp(-limit, limit).acos()


def detach_margin(phi: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
    """Phi with the gradient of the cosine: the margin as a constant.

    `SphereFace-R <https://arxiv.org/abs/2109.05565>`_, characteristic gradient detachment; also
    what insightface's ``arcface_torch`` does for ArcFace in its ``CombinedMarginLoss``. Other
    inputs of phi, such as a margin that depends on the embedding, keep their gradient.

    Args:
        phi: any shape, computed from ``cosine.detach()``.
        cosine: the same shape.

    Returns:
        The same shape.
    """
    return cosine + (phi - cosine.detach())


def cosface(cosine: torch.Tensor, margin: Margin) -> torch.Tensor:
    """Additive cosine margin, cos(theta) - m.

    `CosFace <https://arxiv.org/abs/1801.09414>`_, equation 4.

    Args:
        cosine: cos(theta), any shape.
        margin: m, in units of the cosine.

    Returns:
        phi, of the shape of ``cosine``.
    """
    _check_margin('margin', margin)
    return cosine - margin


def arcface(cosine: torch.Tensor, margin: Margin, easy_margin: bool = False) -> torch.Tensor:
    """Additive angular margin, cos(theta + m).

    `ArcFace <https://arxiv.org/abs/1801.07698>`_, equation 3. Past theta = pi - m, where
    cos(theta + m) rises again, phi continues as cos(theta) - m sin(m), which keeps it decreasing
    (insightface issue 108).

    Args:
        cosine: cos(theta), any shape.
        margin: m in radians, in [0, pi/2].
        easy_margin: add the margin only where cos(theta) > 0, and keep cos(theta) elsewhere.

    Returns:
        phi, of the shape of ``cosine``.
    """
    _check_margin('margin', margin, minimum=0, maximum=math.pi / 2)
    margin = torch.as_tensor(margin, dtype=cosine.dtype, device=cosine.device)
    phi = cosine * margin.cos() - sine_from_cosine(cosine) * margin.sin()
    if easy_margin:
        return torch.where(cosine > 0, phi, cosine)
    return torch.where(cosine > -margin.cos(), phi, cosine - margin * margin.sin())


def combined_margin(cosine: torch.Tensor, m1: Margin, m2: Margin, m3: Margin) -> torch.Tensor:
    """All three margins, cos(m1 * theta + m2) - m3.

    `ArcFace <https://arxiv.org/abs/1801.07698>`_, equation 4. Past m1 * theta + m2 = pi the cosine
    continues as (-1)^k cos(alpha) - 2k, k = floor(alpha / pi), as SphereFace's does, which keeps
    it continuous and decreasing for all m1. (1, m, 0) is thus :func:`arcface` up to
    theta = pi - m, and above it beyond.

    Args:
        cosine: cos(theta), any shape.
        m1: factor on the angle, positive.
        m2: in radians, at least 0.
        m3: in units of the cosine, at least 0.

    Returns:
        phi, of the shape of ``cosine``.
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
        phi, of the shape of ``cosine``.
    """
    _check_margin('margin', margin, minimum=1)
    check_number('annealing', annealing, minimum=0)
    return (annealing * cosine + combined_margin(cosine, margin, 0.0, 0.0)) / (1 + annealing)


def sphereface_r(cosine: torch.Tensor, margin: Margin) -> torch.Tensor:
    """Multiplicative angular margin that ends at pi, cos(min(m theta, pi)).

    `SphereFace-R <https://arxiv.org/abs/2109.05565>`_, version 1; the second version keeps the
    target's cosine and gives :func:`sphereface_r_nontarget` of the others to the softmax.

    Args:
        cosine: cos(theta), any shape.
        margin: m, at least 1.

    Returns:
        phi, of the shape of ``cosine``; constant beyond theta = pi / m.
    """
    _check_margin('margin', margin, minimum=1)
    return (margin * angle_from_cosine(cosine)).clamp(max=math.pi).cos()


def adaface(cosine: torch.Tensor, margin: Margin, quality: torch.Tensor) -> torch.Tensor:
    """Margin that an image's quality moves from an angular to an additive one.

    `AdaFace <https://arxiv.org/abs/2204.00964>`_, equations 12 and 13: cos(theta + g_angle) -
    g_add, g_angle = -m z, g_add = m z + m, with theta + g_angle clipped to [0, pi].

    Args:
        cosine: cos(theta), (N,).
        margin: m.
        quality: z in [-1, 1], (N,): the normalized length of the embedding.

    Returns:
        phi, (N,).
    """
    _check_margin('margin', margin)
    shifted = (angle_from_cosine(cosine) - margin * quality).clamp(0, math.pi)
    return shifted.cos() - (margin * quality + margin)


def magface_margin(
    norms: torch.Tensor, norm_min: float, norm_max: float, margin_min: float, margin_max: float
) -> torch.Tensor:
    """Margin that rises with the length of the embedding.

    `MagFace <https://arxiv.org/abs/2103.06627>`_: linear from ``margin_min`` at the norm
    ``norm_min`` to ``margin_max`` at ``norm_max``, and constant outside.

    Args:
        norms: a, lengths of the embeddings, (N,).
        norm_min: l_a.
        norm_max: u_a.
        margin_min: l_m, in radians.
        margin_max: u_m, in radians.

    Returns:
        m(a), (N,), in radians.

    Raises:
        ValueError: if a number is not finite, or the lengths are not 0 < l_a < u_a.
    """
    _check_norm_range(norm_min, norm_max)
    check_number('margin_min', margin_min)
    check_number('margin_max', margin_max)
    slope = (margin_max - margin_min) / (norm_max - norm_min)
    return margin_min + (norms.clamp(norm_min, norm_max) - norm_min) * slope


def magface_regularizer(norms: torch.Tensor, norm_min: float, norm_max: float) -> torch.Tensor:
    """g(a) = 1/a + a/u_a^2, which rewards long embeddings.

    `MagFace <https://arxiv.org/abs/2103.06627>`_. Lengths are clipped as for the
    margin, beyond which the paper's conditions on g do not hold.

    Args:
        norms: a, lengths of the embeddings, (N,).
        norm_min: l_a.
        norm_max: u_a.

    Returns:
        (N,).

    Raises:
        ValueError: if the lengths are not 0 < l_a < u_a.
    """
    _check_norm_range(norm_min, norm_max)
    norms = norms.clamp(norm_min, norm_max)
    return norms.reciprocal() + norms / norm_max**2


@torch.no_grad()
def elasticface_margins(
    cosine: torch.Tensor, mean: torch.Tensor, sigma: float, plus: bool = False
) -> torch.Tensor:
    """Margins drawn from N(mean, sigma), one a sample.

    `ElasticFace <https://arxiv.org/abs/2109.09416>`_. With ``plus`` the draws are sorted so that
    the sample that is furthest from its center gets the largest; the authors' code permutes them by
    the order of the cosines where the inverse of that order is needed, so that its margins do not
    follow the difficulty.

    Args:
        cosine: cosines of the targets, (N,).
        mean: (N,).
        sigma: standard deviation, at least 0.
        plus: sort.

    Returns:
        (N,).

    Raises:
        ValueError: if ``sigma`` is negative.
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
    """A margin for each class by how many images it has, the larger the fewer.

    `Google Landmark Recognition 2020, third place <https://arxiv.org/abs/2010.05350>`_: the powers
    of the counts, scaled to [margin_min, margin_max]. It equals mmpretrain's
    SetAdaptiveMarginsHook where every class has images and the counts differ. That hook counts a
    class without images as one image, which lowers the margins of the rare classes; here such a
    class gets ``margin_max`` and changes no other margin. Where all classes have equally many
    images, mmpretrain divides 0 by 0; here they get the mean of both margins.

    Args:
        counts: images of each class, (C,), at least 0.
        margin_min: margin of the most frequent class, in the units of the loss.
        margin_max: margin of the rarest class.
        power: exponent of the count, negative.

    Returns:
        (C,), fp64.

    Raises:
        ValueError: if a number is not finite, the margins are not in order, the power is not
            negative, a count is, or no class has an image.
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
        target_logit: a function of cosines, such as ``lambda c: arcface(c, 0.5)``.
        number: angles, evenly spaced; at least 2.

    Returns:
        Angles in degrees from 0 to 180 and phi, each (number,), fp64.

    Raises:
        ValueError: if ``number`` is no whole number of at least 2.
    """
    check_number('number', number, minimum=2, whole=True)
    degrees = torch.linspace(0, 180, number, dtype=torch.float64)
    with torch.no_grad():
        return degrees, target_logit(degrees.deg2rad().cos())


def _check_margin(name: str, margin: Margin, **limits: float) -> None:
    """Refuse a number out of its range; to look into a tensor would wait for the device."""
    if not isinstance(margin, torch.Tensor):
        check_number(name, margin, **limits)


def _check_norm_range(norm_min: float, norm_max: float) -> None:
    check_number('norm_min', norm_min, above=0)
    check_number('norm_max', norm_max, above=norm_min)
