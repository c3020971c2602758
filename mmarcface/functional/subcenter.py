"""Which samples of a class are not of it: the sub-centers of a trained head tell.

With K centers a class (`Sub-center ArcFace <https://doi.org/10.1007/978-3-030-58621-8_43>`_,
section 3.3) most samples gather at one of them, the dominant one, and mislabeled samples far from
it or at the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .arguments import check_number
from .vectors import normalize

# Of the histogram of angles, in degrees.
BIN, MIN_ANGLE = 0.1, 1.0
_BINS = torch.arange(MIN_ANGLE, 180, BIN, dtype=torch.double) + BIN / 2
EM_STEPS = 1000
# Smallest deviation of log angles.
MIN_DEVIATION = 0.02
# Smallest separation with which a threshold tells anything.
SEPARATED = 1.0
MAX_NOISE = 0.9


def subcenter_cosines(
    embeddings: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, num_subcenters: int
) -> torch.Tensor:
    """Cosine of each embedding with each center of its own class.

    Args:
        embeddings: (N, D), of any length.
        weight: centers, (C * K, D); the K centers of a class lie together.
        labels: (N,), int64, in [0, C).
        num_subcenters: K, at least 1.

    Returns:
        (N, K), fp32 or wider; 0 where a vector is zero.

    Raises:
        ValueError: if ``num_subcenters`` is no whole number of at least 1.
    """
    check_number('num_subcenters', num_subcenters, minimum=1, whole=True)
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, weight.dtype), torch.float)
    own = weight.unflatten(0, (-1, num_subcenters))[labels]
    return torch.einsum('nd,nkd->nk', normalize(embeddings.to(dtype)), normalize(own.to(dtype)))


def subcenter_counts(cosines: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """How many samples each center is the nearest one of its class to; counts of parts add up.

    Args:
        cosines: with the centers of the own class, (N, K); of equally near ones the first counts.
        labels: (N,), int64, in [0, num_classes).
        num_classes: C, at least 1.

    Returns:
        (C, K), int64.

    Raises:
        ValueError: if ``num_classes`` is no whole number of at least 1.
    """
    check_number('num_classes', num_classes, minimum=1, whole=True)
    number = cosines.shape[1]
    places = labels * number + cosines.argmax(1)
    return torch.bincount(places, minlength=num_classes * number).view(num_classes, number)


def dominant_subcenters(counts: torch.Tensor) -> torch.Tensor:
    """The center of each class with most samples, of equals the first.

    Args:
        counts: of :func:`subcenter_counts`, (C, K).

    Returns:
        (C,), int64, in [0, K); 0 for a class without samples.
    """
    return counts.argmax(1)


def dead_subcenters(counts: torch.Tensor) -> torch.Tensor:
    """The centers that no sample is nearest to, in classes that have samples.

    Args:
        counts: of :func:`subcenter_counts`, (C, K).

    Returns:
        (C, K), bool.
    """
    return (counts == 0) & (counts.sum(1, keepdim=True) > 0)


def angles_to_subcenters(cosines: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Angle of each sample to one center of its class.

    Args:
        cosines: with the centers of the own class, (N, K).
        centers: which one, (N,), int64, in [0, K).

    Returns:
        Degrees in [0, 180], (N,).
    """
    return cosines.gather(1, centers[:, None]).squeeze(1).clamp(-1, 1).acos().rad2deg()


def clean_mask(
    angles: torch.Tensor,
    labels: torch.Tensor,
    threshold: float = 75.0,
    min_per_class: int = 1,
) -> torch.Tensor:
    """Which samples to keep.

    The article drops those whose angle to the dominant center exceeds 75 degrees. Its text ("drop
    non-dominant sub-centers and high-confident noisy samples", section 3.3) can also be read so
    that only samples nearest to the dominant center stay; here the angle alone decides.

    Args:
        angles: to the dominant center of the class, in degrees, (N,).
        labels: (N,), int64, at least 0.
        threshold: largest angle to keep, in degrees, at least 0.
        min_per_class: of a class with fewer to keep, so many stay nevertheless, the nearest to
            the dominant center, or as many as it has.

    Returns:
        (N,), bool.

    Raises:
        ValueError: if ``threshold`` or ``min_per_class`` is negative.
    """
    check_number('threshold', threshold, minimum=0)
    check_number('min_per_class', min_per_class, minimum=0, whole=True)
    keep = angles <= threshold
    if not len(labels):
        return keep
    # Rank of each sample in its class, by angle.
    order = torch.argsort(angles, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    sizes = torch.bincount(labels)
    ranks = torch.empty_like(labels)
    firsts = sizes.cumsum(0) - sizes
    ranks[order] = torch.arange(len(labels), device=labels.device) - firsts[labels[order]]
    return keep | (ranks < min_per_class)


@dataclass(frozen=True)
class AngleMixture:
    """What :func:`fit_angle_mixture` found.

    Attributes:
        threshold: in degrees; beyond it a sample is rather wrong than right. 180 where none is.
        noise_share: share of samples whose label is wrong, in [0, 1].
        expected_precision: share of wrong ones among the dropped, if the assumptions hold; None if
            none are.
        expected_recall: share of the wrong ones that are dropped, if they hold; None if there are
            none.
        separation: distance of the two means by the root mean square of the two deviations, all of
            log angles (Ashman's D); above 2 the two can be told apart.
        misfit: largest difference of the fitted and the observed cumulative distribution, in
            [0, 1] (Kolmogorov-Smirnov); above about 0.1 the assumptions are off.
    """

    threshold: float
    noise_share: float
    expected_precision: float | None
    expected_recall: float | None
    separation: float
    misfit: float


def fit_angle_mixture(angles: torch.Tensor, nontarget_angles: torch.Tensor) -> AngleMixture:
    """Find from the angles alone where wrong labels begin.

    Assumed are two kinds of samples. Wrongly labeled ones are as far from the dominant center of
    the class they are said to be of as samples are from classes that they are not of:
    ``nontarget_angles`` tell how far that is, whatever the width of the embeddings and however much
    of the sphere they fill, which a fixed threshold cannot know. Rightly labeled ones are nearer.
    The logarithms of both kinds' angles are taken as normally distributed; the mean and deviation
    of the wrong ones are those of ``nontarget_angles``, those of the right ones and the shares of
    both are found by expectation maximization. The threshold is where a sample is as likely wrong
    as right.

    Where the net has learned noise by heart, or labels are confused with similar classes, wrong
    samples are nearer than assumed, and fewer are found. With fewer than about 20 classes, many
    wrong labels are among ``nontarget_angles`` those of their true class, and right ones get lost.
    The misfit tells of both.

    Args:
        angles: to the dominant center of the own class, in degrees, (N,).
        nontarget_angles: of samples to dominant centers of other classes, in degrees, (M,).

    Returns:
        The fit.

    Raises:
        ValueError: if there are no angles of one kind, one is not in [0, 180], or the two kinds
            cannot be told apart.
    """
    own = _histogram(angles, 'angles')
    other = _histogram(nontarget_angles, 'nontarget_angles')
    x = _BINS.log()
    wrong_mean, wrong_deviation = _moments(x, other)
    wrong = _normal(x, wrong_mean, wrong_deviation)
    # Right ones hardly reach the median of the others, which half of the wrong ones exceed.
    far = other.cumsum(0) > 0.5
    share = float((own[far].sum() / other[far].sum()).clamp(0.01, 0.9))
    mean, deviation = _moments(x, own * (own.cumsum(0) <= max(1 - share, float(own.max()))))
    for _ in range(EM_STEPS):
        before = share
        density = share * wrong + (1 - share) * _normal(x, mean, deviation)
        posterior = share * wrong / density
        share = float((own * posterior).sum())
        mean, deviation = _moments(x, own * (1 - posterior))
        if abs(share - before) < 1e-6:
            break
    separation = (wrong_mean - mean) / math.sqrt((wrong_deviation**2 + deviation**2) / 2)
    reasons = []
    if separation < SEPARATED:
        reasons.append(f'their separation is {separation:.1f} and must be {SEPARATED}')
    if share > MAX_NOISE:
        reasons.append(f'{share:.0%} of the labels would be wrong, {MAX_NOISE:.0%} is the most')
    if reasons:
        raise ValueError(
            'no threshold can be found: samples are hardly nearer to the center of their class '
            f'(median {_median(own):.1f} degrees) than to those of others ({_median(other):.1f}): '
            f'{" and ".join(reasons)}. The net has not learned the classes: train it longer, or '
            'with a smaller margin or scale; or give a threshold in degrees'
        )
    rather_wrong = (posterior > 0.5) & (x > mean)
    threshold = float(_BINS[rather_wrong][0]) - BIN / 2 if rather_wrong.any() else 180.0
    dropped = threshold < _BINS
    wrongs = own * posterior
    # Of an angle, where it was of a logarithm.
    density = density / _BINS
    density = density / density.sum()
    return AngleMixture(
        threshold=round(threshold, 1),
        noise_share=share,
        expected_precision=_share(wrongs[dropped], own[dropped]),
        expected_recall=_share(wrongs[dropped], wrongs),
        separation=separation,
        misfit=float((density.cumsum(0) - own.cumsum(0)).abs().max()),
    )


def _histogram(angles: torch.Tensor, name: str) -> torch.Tensor:
    """Shares of the bins; smaller angles, whose logarithms would count most, are in the first."""
    angles = angles.detach().double().cpu()
    if not len(angles):
        raise ValueError(f'{name} must be at least one, got none')
    bad = ~((angles >= 0) & (angles <= 180))
    if bad.any():
        raise ValueError(f'{name} must be in [0, 180] degrees, got {angles[bad][0]}')
    places = ((angles - MIN_ANGLE) / BIN).long().clamp(0, len(_BINS) - 1)
    return torch.bincount(places, minlength=len(_BINS)) / len(angles)


def _moments(x: torch.Tensor, weights: torch.Tensor) -> tuple[float, float]:
    total = weights.sum().clamp(min=1e-12)
    mean = (weights * x).sum() / total
    deviation = ((weights * (x - mean) ** 2).sum() / total).sqrt()
    return float(mean), max(float(deviation), MIN_DEVIATION)


def _normal(x: torch.Tensor, mean: float, deviation: float) -> torch.Tensor:
    """The density, positive also far out."""
    density = torch.exp(-0.5 * ((x - mean) / deviation) ** 2) / deviation
    return density.clamp(min=1e-300)


def _share(part: torch.Tensor, whole: torch.Tensor) -> float | None:
    return float(part.sum() / whole.sum()) if whole.sum() > 0 else None


def _median(shares: torch.Tensor) -> float:
    return float(_BINS[shares.cumsum(0) >= 0.5 - 1e-12][0])
