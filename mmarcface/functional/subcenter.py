"""Which samples have a wrong label, by the sub-centers of a trained head.

With K centers per class (`Sub-center ArcFace <https://doi.org/10.1007/978-3-030-58621-8_43>`_,
section 3.3) most samples gather at one of them, the dominant one; mislabeled samples are far from
it or at the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .arguments import check_number
from .vectors import normalize

# Width of a bin and lower end of the histogram of angles, in degrees.
BIN, MIN_ANGLE = 0.1, 1.0
_BINS = torch.arange(MIN_ANGLE, 180, BIN, dtype=torch.double) + BIN / 2
EM_STEPS = 1000
# Floor of the deviation of log angles.
MIN_DEVIATION = 0.02
# Below this separation a threshold means nothing.
SEPARATED = 1.0
MAX_NOISE = 0.9


def subcenter_cosines(
    embeddings: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, num_subcenters: int
) -> torch.Tensor:
    """Cosine of each embedding with each center of its own class.

    Args:
        embeddings: embeddings of any length, (N, D).
        weight: class centers, (C * K, D); the K centers of a class lie together.
        labels: class of each embedding, (N,), int64, in [0, C).
        num_subcenters: number of centers per class, K, at least 1.

    Returns:
        Cosines, (N, K), fp32 or wider; 0 where a vector is zero.

    Raises:
        ValueError: if ``num_subcenters`` is not a whole number of at least 1.

    Example:
        >>> centers = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # of one class
        >>> cosines = subcenter_cosines(torch.tensor([[3.0, 4.0]]), centers, torch.tensor([0]), 2)
        >>> [round(cosine, 4) for cosine in cosines[0].tolist()]
        [0.6, 0.8]
    """
    check_number('num_subcenters', num_subcenters, minimum=1, whole=True)
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, weight.dtype), torch.float)
    own = weight.unflatten(0, (-1, num_subcenters))[labels]
    return torch.einsum('nd,nkd->nk', normalize(embeddings.to(dtype)), normalize(own.to(dtype)))


def subcenter_counts(cosines: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Number of samples whose nearest sub-center is each of those of their class.

    The counts of parts of a data set add up to those of the whole.

    Args:
        cosines: cosines of each sample with the centers of its class, (N, K); of equally near
            centers the first counts.
        labels: class of each sample, (N,), int64, in [0, num_classes).
        num_classes: number of classes C, at least 1.

    Returns:
        Counts, (C, K), int64.

    Raises:
        ValueError: if ``num_classes`` is not a whole number of at least 1.

    Example:
        >>> cosines = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.7]])
        >>> subcenter_counts(cosines, torch.tensor([0, 0, 1]), num_classes=2).tolist()
        [[2, 0], [0, 1]]
    """
    check_number('num_classes', num_classes, minimum=1, whole=True)
    number = cosines.shape[1]
    places = labels * number + cosines.argmax(1)
    return torch.bincount(places, minlength=num_classes * number).view(num_classes, number)


def dominant_subcenters(counts: torch.Tensor) -> torch.Tensor:
    """The center of each class that is nearest to most of its samples; of equal ones the first.

    Args:
        counts: counts from :func:`subcenter_counts`, (C, K).

    Returns:
        Indices in [0, K), (C,), int64; 0 for a class without samples.

    Example:
        >>> dominant_subcenters(torch.tensor([[5, 1], [0, 3]])).tolist()
        [0, 1]
    """
    return counts.argmax(1)


def dead_subcenters(counts: torch.Tensor) -> torch.Tensor:
    """Which centers are nearest to no sample, in classes that have samples.

    Args:
        counts: counts from :func:`subcenter_counts`, (C, K).

    Returns:
        Bools, (C, K).

    Example:
        >>> dead_subcenters(torch.tensor([[5, 1], [0, 3], [0, 0]])).tolist()
        [[False, False], [True, False], [False, False]]
    """
    return (counts == 0) & (counts.sum(1, keepdim=True) > 0)


def angles_to_subcenters(cosines: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Angle of each sample to one center of its class.

    Args:
        cosines: cosines of each sample with the centers of its class, (N, K).
        centers: index of the center for each sample, (N,), int64, in [0, K).

    Returns:
        Degrees in [0, 180], (N,).

    Example:
        >>> angles_to_subcenters(torch.tensor([[0.5, 0.0]]), torch.tensor([0])).round().tolist()
        [60.0]
    """
    return cosines.gather(1, centers[:, None]).squeeze(1).clamp(-1, 1).acos().rad2deg()


def clean_mask(
    angles: torch.Tensor,
    labels: torch.Tensor,
    threshold: float = 75.0,
    min_per_class: int = 1,
) -> torch.Tensor:
    """Which samples to keep: those near the dominant center of their class.

    The paper drops samples whose angle to the dominant center exceeds 75 degrees. Its text ("drop
    non-dominant sub-centers and high-confident noisy samples", section 3.3) can also be read so
    that only samples nearest to the dominant center stay; here the angle alone decides.

    Args:
        angles: angle of each sample to the dominant center of its class, in degrees, (N,).
        labels: class of each sample, (N,), int64, at least 0.
        threshold: largest angle to keep, in degrees, at least 0.
        min_per_class: number of samples that every class keeps, if it has as many: those nearest to
            the dominant center.

    Returns:
        Bools, (N,).

    Raises:
        ValueError: if ``threshold`` or ``min_per_class`` is negative.

    Example:
        >>> angles, labels = torch.tensor([30.0, 90.0, 80.0]), torch.tensor([0, 0, 1])
        >>> clean_mask(angles, labels, min_per_class=0).tolist()
        [True, False, False]
        >>> clean_mask(angles, labels, min_per_class=1).tolist()
        [True, False, True]
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
    """Result of :func:`fit_angle_mixture`.

    Attributes:
        threshold: angle in degrees beyond which a sample is more likely wrong than right; 180 where
            there is none.
        noise_share: share of samples whose label is wrong, in [0, 1].
        expected_precision: share of wrong samples among the dropped ones, if the assumptions hold;
            None if none are dropped.
        expected_recall: share of the wrong samples that are dropped, if the assumptions hold; None
            if there are none.
        separation: distance of the two means in units of the root mean square of the two
            deviations, all of log angles (Ashman's D); above 2 the two kinds can be told apart.
        misfit: largest difference of the fitted and the observed cumulative distribution, in [0, 1]
            (Kolmogorov-Smirnov); above about 0.1 the assumptions do not hold.

    Example:
        >>> right, others = torch.linspace(20, 40, 900), torch.linspace(75, 105, 900)
        >>> fit = fit_angle_mixture(torch.cat([right, others[::9]]), others)
        >>> round(fit.noise_share, 2), fit.separation > 2
        (0.1, True)
    """

    threshold: float
    noise_share: float
    expected_precision: float | None
    expected_recall: float | None
    separation: float
    misfit: float


def fit_angle_mixture(angles: torch.Tensor, nontarget_angles: torch.Tensor) -> AngleMixture:
    """Find the angle at which wrong labels begin, from the angles alone.

    Samples are assumed to be of two kinds. Those with a wrong label are as far from the dominant
    center of their class as samples are from other classes: ``nontarget_angles`` say how far that
    is, whatever the width of the embeddings and however much of the sphere they fill, which a fixed
    threshold cannot know. Those with the right label are nearer. The logarithms of both kinds'
    angles are modeled as normal. The wrong ones have the mean and deviation of
    ``nontarget_angles``; those of the right ones and the shares of both are found by expectation
    maximization. At the threshold a sample is as likely wrong as right.

    Where the net has memorized noise, or labels are confused with similar classes, wrong samples
    are nearer than assumed, and fewer are found. With fewer than about 20 classes, many
    ``nontarget_angles`` of wrong samples are angles to their true class, and right samples get
    lost. The misfit shows both.

    Args:
        angles: angle of each sample to the dominant center of its class, in degrees, (N,).
        nontarget_angles: angles of samples to dominant centers of other classes, in degrees, (M,).

    Returns:
        The fit.

    Raises:
        ValueError: if there are no angles of one kind, one is not in [0, 180], or the two kinds
            cannot be told apart.

    Example:
        >>> right, others = torch.linspace(20, 40, 900), torch.linspace(75, 105, 900)
        >>> 45 < fit_angle_mixture(torch.cat([right, others[::9]]), others).threshold < 75
        True
    """
    own = _histogram(angles, 'angles')
    other = _histogram(nontarget_angles, 'nontarget_angles')
    x = _BINS.log()
    wrong_mean, wrong_deviation = _moments(x, other)
    wrong = _normal(x, wrong_mean, wrong_deviation)
    # Half of the wrong samples exceed the median of the nontarget angles, and hardly any right one.
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
    # From the density of a log angle to that of the angle.
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
    """Shares of the bins. Angles below the first are counted in it: their logs would weigh most."""
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
    """Density of a normal distribution, positive even far out."""
    density = torch.exp(-0.5 * ((x - mean) / deviation) ** 2) / deviation
    return density.clamp(min=1e-300)


def _share(part: torch.Tensor, whole: torch.Tensor) -> float | None:
    return float(part.sum() / whole.sum()) if whole.sum() > 0 else None


def _median(shares: torch.Tensor) -> float:
    return float(_BINS[shares.cumsum(0) >= 0.5 - 1e-12][0])
