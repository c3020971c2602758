"""Thresholds for verification: choose them by pairs, bound their rates, convert them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from .arguments import check_number
from .verification import _allowed, _check_kinds, _check_rates, _cumulative_counts

# Functions from each measure to the cosine of two unit vectors, and back.
MEASURES = {
    'cosine': (lambda value: value, lambda cosine: cosine),
    'l2': (lambda value: 1 - value * value / 2, lambda cosine: math.sqrt(max(0.0, 2 - 2 * cosine))),
    'squared_l2': (lambda value: 1 - value / 2, lambda cosine: 2 - 2 * cosine),
}


@dataclass(frozen=True)
class Calibration:
    """A threshold, and the rates that it has on the pairs that it was chosen on.

    Attributes:
        wanted_far: FAR asked for, in [0, 1].
        threshold: cosine from which on two images count as the same identity.
        tar: share of the same-identity pairs that are accepted, in [0, 1].
        tar_interval: confidence interval of ``tar``.
        far: share of the other pairs that are accepted, in [0, 1], at most ``wanted_far``.
        far_interval: confidence interval of ``far``.
        num_same: number of same-identity pairs.
        num_other: number of pairs of different identities.
        confidence: confidence level of the intervals, which are Wilson's, in (0, 1).

    Example:
        >>> found = calibrate([0.9, 0.7, 0.4, 0.1], [True, True, False, False], far=0.0)
        >>> found.tar, found.far, found.num_same
        (1.0, 0.0, 2)
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
        """The threshold by another measure.

        Args:
            measure: 'cosine', 'l2' or 'squared_l2'; see :func:`convert_threshold`.
        """
        return convert_threshold(self.threshold, 'cosine', measure)

    @property
    def note(self) -> str | None:
        """A warning where there are too few pairs for the FAR asked for."""
        return few_pairs_warning(self.wanted_far, self.num_other)


def calibrate(
    similarity: ArrayLike, is_same: ArrayLike, far: float, confidence: float = 0.95
) -> Calibration:
    """Choose the threshold with the highest TAR whose FAR is at most the one asked for.

    Of several such thresholds it is the highest, which has the lowest FAR. It lies halfway between
    the last accepted pair and the next one, so that rounding on another machine changes no answer.

    Args:
        similarity: cosine of each pair, (P,).
        is_same: whether each pair shows one identity, (P,), bool.
        far: largest FAR allowed, in [0, 1].
        confidence: confidence level of the intervals, in (0, 1).

    Returns:
        The threshold, with TAR, FAR and their intervals. Where the most similar pairs are of
        different identities, the threshold lies just above them, and TAR is 0.

    Raises:
        ValueError: as :func:`tar_interval`.

    Example:
        >>> found = calibrate([0.9, 0.7, 0.4, 0.1], [True, True, False, False], far=0.0)
        >>> round(found.threshold, 4)
        0.55
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
    """Wilson's score interval of a share (1927), which also holds for shares of 0 and 1.

    Args:
        successes: number of successes, in [0, ``trials``].
        trials: number of trials, at least 1.
        confidence: confidence level, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> [round(end, 3) for end in wilson_interval(90, 100)]
        [0.826, 0.945]
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
    """Convert the similarity of two unit vectors to another measure: |a - b|^2 = 2 - 2 cos(a, b).

    Args:
        value: a cosine in [-1, 1], a Euclidean distance in [0, 2], or its square in [0, 4].
        source: measure of ``value``: 'cosine', 'l2' or 'squared_l2'.
        target: measure of the result. A larger cosine means more alike, a larger distance less.

    Returns:
        The value by the other measure.

    Raises:
        ValueError: if a measure is unknown, or the value is not a number or a negative distance.

    Example:
        >>> convert_threshold(0.5, 'cosine', 'l2')
        1.0
    """
    for name, measure in dict(source=source, target=target).items():
        if measure not in MEASURES:
            raise ValueError(f'{name} must be one of {list(MEASURES)}, got {measure!r}')
    check_number('value', value)
    if source != 'cosine' and value < 0:
        raise ValueError(f'value must not be negative for {source}, got {value}')
    return MEASURES[target][1](MEASURES[source][0](value))


def few_pairs_warning(far: float, num_other: int) -> str | None:
    """Warn where there are too few pairs of different identities to measure a FAR.

    Args:
        far: FAR asked for, in [0, 1].
        num_other: number of pairs of different identities, at least 1.

    Returns:
        The warning; None where at least ten such pairs may be accepted.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> few_pairs_warning(0.001, num_other=3000).split('; ')[1]
        'use at least 10000 of them'
        >>> few_pairs_warning(0.01, num_other=3000) is None
        True
    """
    check_number('far', far, minimum=0, maximum=1)
    check_number('num_other', num_other, minimum=1, whole=True)
    if _allowed(far, num_other) >= 10:
        return None
    advice = f'use at least {math.ceil(10 / far)} of them' if far else 'use a FAR above 0'
    return (
        f'FAR={far:g} allows {_allowed(far, num_other)} of {num_other} pairs of different '
        f'identities, so TAR depends on a handful of pairs; {advice}'
    )
