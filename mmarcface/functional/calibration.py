"""Thresholds for verification: choose them by pairs, bound their rates, convert them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from .arguments import check_number
from .verification import _allowed, _check_kinds, _check_rates, _cumulative_counts

# From and to the cosine of two unit vectors.
MEASURES = {
    'cosine': (lambda value: value, lambda cosine: cosine),
    'l2': (lambda value: 1 - value * value / 2, lambda cosine: math.sqrt(max(0.0, 2 - 2 * cosine))),
    'squared_l2': (lambda value: 1 - value / 2, lambda cosine: 2 - 2 * cosine),
}


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what it does to the pairs that it was chosen on.

    Attributes:
        wanted_far: the FAR asked for, in [0, 1].
        threshold: two images are the same where their cosine is at least this.
        tar: share of the same-identity pairs accepted, in [0, 1].
        tar_interval: its confidence interval.
        far: share of the other pairs accepted, in [0, 1], at most ``wanted_far``.
        far_interval: its confidence interval.
        num_same: pairs of the same identity.
        num_other: pairs of different ones.
        confidence: of the intervals, which are Wilson's.
    """

    wanted_far: float
    threshold: float
    tar: float
    tar_interval: tuple[float, float]
    far: float
    far_interval: tuple[float, float]
    num_same: int
    num_other: int
    confidence: float

    def threshold_as(self, measure: str) -> float:
        """The threshold as ``'cosine'``, ``'l2'`` or ``'squared_l2'``; see :func:`convert`."""
        return convert_threshold(self.threshold, 'cosine', measure)

    @property
    def note(self) -> str | None:
        """What a reader has to know where there are too few pairs for the FAR asked for."""
        return few_pairs_warning(self.wanted_far, self.num_other)


def calibrate(
    similarity: ArrayLike, is_same: ArrayLike, far: float, confidence: float = 0.95
) -> Calibration:
    """Choose the threshold of the highest TAR whose FAR is at most the one wanted.

    Of several such thresholds it is the highest, with the lowest FAR. It lies halfway between the
    last pair accepted and the next one, so that rounding on another machine changes no answer.

    Args:
        similarity: cosines, (P,).
        is_same: (P,), bool.
        far: the FAR wanted, in [0, 1].
        confidence: of the intervals, in (0, 1).

    Returns:
        The threshold, with TAR, FAR and their intervals. Where even the best pairs are of
        different identities it lies just above them, and TAR is 0.

    Raises:
        ValueError: as :func:`tar_interval`.
    """
    _check_rates(far, confidence)
    similarity, is_same = _check_kinds(similarity, is_same)
    thresholds, same, other = _cumulative_counts(similarity.astype(np.float64), is_same)
    place = int(np.searchsorted(other, _allowed(far, int(other[-1])), side='right')) - 1
    place = int(np.searchsorted(same, same[place]))
    if place == 0:
        threshold = np.nextafter(thresholds[1], np.inf)
    else:
        following = thresholds[min(place + 1, len(thresholds) - 1)]
        # Neighboring numbers have no middle.
        middle = (thresholds[place] + following) / 2
        threshold = middle if middle > following else thresholds[place]
    counts = {
        'tar': (int(same[place]), int(same[-1])),
        'far': (int(other[place]), int(other[-1])),
    }
    return Calibration(
        wanted_far=far,
        threshold=float(threshold),
        **{name: accepted / number for name, (accepted, number) in counts.items()},
        **{f'{n}_interval': wilson_interval(*count, confidence) for n, count in counts.items()},
        num_same=counts['tar'][1],
        num_other=counts['far'][1],
        confidence=confidence,
    )


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (1927), which holds for shares of 0 and 1 too.

    Args:
        successes: in [0, ``trials``].
        trials: at least 1.
        confidence: in (0, 1).

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ValueError: if a number is out of its range.
    """
    check_number('trials', trials, minimum=1, whole=True)
    check_number('successes', successes, minimum=0, maximum=trials, whole=True)
    check_number('confidence', confidence, above=0, below=1)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, correction = successes / trials, z * z / trials
    middle = share + correction / 2
    half = z * math.sqrt(share * (1 - share) / trials + correction / (4 * trials))
    low, high = ((middle + sign * half) / (1 + correction) for sign in (-1, 1))
    # Rounding must not exclude the ends.
    return (low if successes else 0.0), (high if successes < trials else 1.0)


def convert_threshold(value: float, source: str, target: str) -> float:
    """Express how alike two unit vectors are by another measure.

    Args:
        value: a cosine in [-1, 1], a Euclidean distance in [0, 2], or its square in [0, 4].
        source: the measure of ``value``: ``'cosine'``, ``'l2'`` or ``'squared_l2'``.
        target: the measure wanted. Larger is more alike for the cosine, and less for the others.

    Returns:
        The value by that measure: |a - b|^2 = 2 - 2 cos(a, b).

    Raises:
        ValueError: if a measure is unknown, or the value no number or a negative distance.
    """
    for name, measure in dict(source=source, target=target).items():
        if measure not in MEASURES:
            raise ValueError(f'{name} must be one of {list(MEASURES)}, got {measure!r}')
    check_number('value', value)
    if source != 'cosine' and value < 0:
        raise ValueError(f'value must not be negative for {source}, got {value}')
    return MEASURES[target][1](MEASURES[source][0](value))


def few_pairs_warning(far: float, num_other: int) -> str | None:
    """Say so where pairs of different identities are too few to measure a FAR.

    Args:
        far: the FAR asked for, in [0, 1].
        num_other: pairs of different identities.

    Returns:
        The note; None where at least ten such pairs may be accepted.

    Raises:
        ValueError: if ``far`` is outside [0, 1], or there are no such pairs.
    """
    check_number('far', far, minimum=0, maximum=1)
    check_number('num_other', num_other, minimum=1, whole=True)
    if _allowed(far, num_other) >= 10:
        return None
    least = f'{math.ceil(10 / far)} pairs are the least' if far else 'no number of pairs is enough'
    return (
        f'FAR={far:g} allows {_allowed(far, num_other)} of {num_other} pairs of different '
        f'identities: what is measured hangs on the few most alike of them, and {least} to trust it'
    )
