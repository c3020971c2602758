"""Figures of a verification benchmark: do two images show the same identity?

Each pair has a ``similarity``, larger for more alike, and ``is_same``, whether both images show one
identity; both are vectors (P,). A pair is accepted where similarity >= threshold. TAR, the true
acceptance rate, is the share of the same-identity pairs that are accepted; FAR, the false
acceptance rate, is the share of the other pairs that are. All rates are in [0, 1]. NumPy arrays and
tensors are both accepted; sums are in float64.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from .arguments import check_number, is_number

RESAMPLES = 2000
ELEMENTS_PER_BLOCK = 1 << 21


def pair_similarity(vectors: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Inner products of pairs of vectors, block by block.

    Args:
        vectors: vectors, (N, D); unit vectors for cosines.
        pairs: indices of the two vectors of each pair, (P, 2), int64.

    Returns:
        Inner products, (P,).

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
        >>> pair_similarity(vectors, torch.tensor([[0, 1], [0, 2]])).tolist()
        [0.5, 0.0]
    """
    blocks = pairs.split(max(1, ELEMENTS_PER_BLOCK // vectors.shape[1]))
    return torch.cat([(vectors[block[:, 0]] * vectors[block[:, 1]]).sum(1) for block in blocks])


def roc_curve(
    similarity: ArrayLike, is_same: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ROC curve: an operating point for each distinct similarity, after one that accepts nothing.

    Args:
        similarity: similarity of each pair, (P,).
        is_same: whether each pair shows one identity, (P,), bool.

    Returns:
        FAR, TAR and threshold, each (T,): thresholds fall from +inf, rates rise from 0 to 1.

    Raises:
        ValueError: if the lengths differ, a similarity is NaN, or one of the two kinds of pairs is
            missing.

    Example:
        >>> far, tar, thresholds = roc_curve([0.9, 0.6, 0.3], [True, False, True])
        >>> far.tolist(), tar.tolist(), thresholds.tolist()
        ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0], [inf, 0.9, 0.6, 0.3])
    """
    similarity, is_same = _check_kinds(similarity, is_same)
    thresholds, same, other = _cumulative_counts(similarity, is_same)
    return other / other[-1], same / same[-1], thresholds


def roc_auc(far: np.ndarray, tar: np.ndarray) -> float:
    """Area under a ROC curve, by trapezoids: 0.5 for chance, 1 for a perfect order.

    Args:
        far: FAR of each point, (T,), rising, from :func:`roc_curve`.
        tar: TAR of each point, (T,), rising.

    Returns:
        The area in [0, 1].

    Example:
        >>> far, tar, _ = roc_curve([0.9, 0.6, 0.3], [True, False, True])
        >>> roc_auc(far, tar)
        0.5
    """
    return float(np.sum(np.diff(far) * (tar[1:] + tar[:-1])) / 2)


def equal_error_rate(far: np.ndarray, tar: np.ndarray) -> float:
    """Error rate where FAR equals 1 - TAR, on the line between the two nearest points.

    Args:
        far: FAR of each point, (T,), rising, from :func:`roc_curve`.
        tar: TAR of each point, (T,), rising.

    Returns:
        The rate in [0, 1].

    Example:
        >>> far, tar, _ = roc_curve([0.9, 0.6, 0.5, 0.3], [True, False, True, False])
        >>> equal_error_rate(far, tar)
        0.5
    """
    gap = far - (1 - tar)
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(far[before] + share * (far[after] - far[before]))


def tar_at_far(similarity: ArrayLike, is_same: ArrayLike, far: float) -> float:
    """The highest TAR of any threshold whose FAR is at most the one asked for.

    It is not interpolated: a threshold reaches it. With N pairs of different identities, a FAR
    below 1/N allows no false acceptance at all.

    Args:
        similarity: similarity of each pair, (P,).
        is_same: whether each pair shows one identity, (P,), bool.
        far: largest FAR allowed, in [0, 1].

    Returns:
        TAR in [0, 1].

    Raises:
        ValueError: as :func:`roc_curve`, or if ``far`` is outside [0, 1].

    Example:
        >>> tar_at_far([0.9, 0.6, 0.5, 0.3], [True, False, True, False], far=0.0)
        0.5
    """
    _check_rates(far)
    rates, tar, _ = roc_curve(similarity, is_same)
    return tar_from_roc(rates, tar, far)


def tar_from_roc(far: np.ndarray, tar: np.ndarray, allowed: float) -> float:
    """The highest TAR on a ROC curve whose FAR is at most the one allowed.

    Args:
        far: FAR of each point, (T,), rising, from :func:`roc_curve`.
        tar: TAR of each point, (T,), rising.
        allowed: largest FAR allowed, in [0, 1].

    Returns:
        TAR in [0, 1].

    Raises:
        ValueError: if ``allowed`` is outside [0, 1].

    Example:
        >>> far, tar, _ = roc_curve([0.9, 0.6, 0.5, 0.3], [True, False, True, False])
        >>> tar_from_roc(far, tar, allowed=0.0), tar_from_roc(far, tar, allowed=0.5)
        (0.5, 1.0)
    """
    check_number('allowed', allowed, minimum=0, maximum=1)
    return float(tar[np.searchsorted(far, allowed, side='right') - 1])


def tar_interval(
    similarity: ArrayLike,
    is_same: ArrayLike,
    far: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap confidence interval of :func:`tar_at_far` (Efron's percentiles).

    Both kinds of pairs are resampled with replacement, 2000 times. A resample is not drawn pair by
    pair but through its order statistics, which have the same distribution: the pair of different
    identities that sets the threshold is the one of rank floor(N u), u ~ Beta(k + 1, N - k), where
    k of N may be accepted, and the number of same-identity pairs above it is binomial. So 10^7
    pairs take no longer than sorting them. Pairs count as independent: where an image is in many
    pairs, the true interval is wider.

    Args:
        similarity: similarity of each pair, (P,).
        is_same: whether each pair shows one identity, (P,), bool.
        far: largest FAR allowed, in [0, 1].
        confidence: confidence level, in (0, 1).
        seed: seed of the resampling, at least 0.

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ValueError: as :func:`tar_at_far`, or if ``confidence`` is not in (0, 1) or ``seed`` is
            negative.

    Example:
        >>> similarity, is_same = np.arange(200) / 200, np.arange(200) % 3 > 0
        >>> low, high = tar_interval(similarity, is_same, far=0.1)
        >>> low < tar_at_far(similarity, is_same, far=0.1) < high
        True
    """
    _check_rates(far, confidence)
    check_number('seed', seed, minimum=0, whole=True)
    similarity, is_same = _check_kinds(similarity, is_same)
    same = np.sort(similarity[is_same], kind='stable')
    other = np.sort(similarity[~is_same], kind='stable')[::-1]
    allowed = _allowed(far, len(other))
    if allowed == len(other):
        return 1.0, 1.0
    random = np.random.default_rng(seed)
    rank = random.beta(allowed + 1, len(other) - allowed, RESAMPLES) * len(other)
    threshold = other[rank.astype(np.int64).clip(max=len(other) - 1)]
    refused = np.searchsorted(same, threshold, side='right')
    tar = random.binomial(len(same), 1 - refused / len(same)) / len(same)
    low, high = np.quantile(tar, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def consecutive_folds(number: int, num_folds: int) -> np.ndarray:
    """Fold of each pair: consecutive runs of equal length, of which the first may be longer by one.

    Args:
        number: number of pairs, P.
        num_folds: number of folds, at least 1.

    Returns:
        Folds, (P,), int64.

    Raises:
        ValueError: if a number is not a whole number, or too small.

    Example:
        >>> consecutive_folds(7, num_folds=3).tolist()
        [0, 0, 0, 1, 1, 2, 2]
    """
    check_number('number', number, minimum=0, whole=True)
    check_number('num_folds', num_folds, minimum=1, whole=True)
    sizes = [len(part) for part in np.array_split(np.arange(number), num_folds)]
    return np.repeat(np.arange(num_folds), sizes)


def kfold_accuracy(
    similarity: ArrayLike, is_same: ArrayLike, folds: int | ArrayLike = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy on each fold, at the threshold that is best on all other pairs.

    With ten folds this is the protocol of LFW's View 2. The candidates are +inf and every distinct
    similarity of the other pairs; of equally good thresholds the highest is taken.

    Args:
        similarity: similarity of each pair, (P,).
        is_same: whether each pair shows one identity, (P,), bool.
        folds: number of folds, in [2, P], which are consecutive runs of pairs as in LFW's
            ``pairs.txt``; or the fold of each pair, (P,), int. Pairs of fold -1 only help to choose
            thresholds: LFW's View 1 is these and a fold 0.

    Returns:
        Accuracies and thresholds, each (F,), in the order of the folds; the usual report is the
        mean and the population standard deviation of the accuracies.

    Raises:
        ValueError: if the lengths differ, a similarity is NaN, the number of folds is out of range,
            or a fold has no other pairs to choose its threshold on.

    Example:
        >>> similarity, is_same = [0.9, 0.2, 0.8, 0.3], [True, False, True, False]
        >>> accuracies, thresholds = kfold_accuracy(similarity, is_same, folds=2)
        >>> accuracies.tolist(), thresholds.tolist()
        ([1.0, 0.5], [0.8, 0.9])
    """
    similarity, is_same = _check_pairs(similarity, is_same)
    number = len(similarity)
    if np.ndim(folds) == 0:
        if not is_number(folds, whole=True) or not 2 <= folds <= number:
            raise ValueError(f'folds must be in [2, {number}] for {number} pairs, got {folds!r}')
        folds = consecutive_folds(number, folds)
    folds = _as_array(folds)
    if folds.shape != similarity.shape:
        raise ValueError(f'folds must be one for each of {number} pairs, got {folds.shape}')
    tested = np.unique(folds[folds >= 0])
    if len(tested) == 0 or len(np.unique(folds)) < 2:
        raise ValueError(
            f'folds must be at least two, of which one is not -1; got {np.unique(folds).tolist()}'
        )
    accuracies, thresholds = np.empty(len(tested)), np.empty(len(tested))
    for place, fold in enumerate(tested):
        test = folds == fold
        candidates, same, other = _cumulative_counts(similarity[~test], is_same[~test])
        # Up to a constant, this difference is the number of right answers.
        thresholds[place] = candidates[np.argmax(same - other)]
        accuracies[place] = np.mean((similarity[test] >= thresholds[place]) == is_same[test])
    return accuracies, thresholds


def _cumulative_counts(
    similarity: np.ndarray, is_same: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Falling thresholds, and how many pairs of each kind each accepts: first none, last all."""
    order = np.argsort(-similarity, kind='stable')
    similarity, is_same = similarity[order], is_same[order]
    is_last = similarity[1:] != similarity[:-1]
    last_of_ties = np.append(np.flatnonzero(is_last), len(similarity) - 1)
    same = np.cumsum(is_same)[last_of_ties]
    other = last_of_ties + 1 - same
    return (
        np.append(np.inf, similarity[last_of_ties]),
        np.append(0, same),
        np.append(0, other),
    )


def _allowed(far: float, num_other: int) -> int:
    """Largest number k of pairs of different identities with k / N <= FAR."""
    number = min(round(far * num_other), num_other)
    return number if number / num_other <= far else number - 1


def _check_rates(far: float, confidence: float = 0.95) -> None:
    check_number('far', far, minimum=0, maximum=1)
    check_number('confidence', confidence, above=0, below=1)


def _check_kinds(similarity: ArrayLike, is_same: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    similarity, is_same = _check_pairs(similarity, is_same)
    if is_same.all() or not is_same.any():
        raise ValueError(
            f'both kinds of pairs are needed, got {int(is_same.sum())} of the same identity and '
            f'{int((~is_same).sum())} of different ones'
        )
    return similarity, is_same


def _check_pairs(similarity: ArrayLike, is_same: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    similarity, is_same = _as_array(similarity), _as_array(is_same).astype(bool)
    if not np.issubdtype(similarity.dtype, np.floating):
        similarity = similarity.astype(np.float64)
    if similarity.ndim != 1 or similarity.shape != is_same.shape:
        raise ValueError(
            f'similarity and is_same must be vectors of one length, got {similarity.shape} and '
            f'{is_same.shape}'
        )
    bad = np.flatnonzero(np.isnan(similarity))
    if len(bad):
        raise ValueError(f'similarity of {len(bad)} pairs is NaN, the first is pair {bad[0]}')
    return similarity, is_same


def _as_array(values: ArrayLike) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)
