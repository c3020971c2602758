"""Same or not the same: the figures of a verification benchmark.

Pairs come as ``similarity``, (P,) float, larger for more alike, and ``is_same``, (P,) bool. A
pair is accepted where similarity >= threshold. TAR, true acceptance rate, is the share of the
same-identity pairs that are accepted; FAR, false acceptance rate, that of the others. All rates
are in [0, 1]. NumPy arrays and tensors are taken alike; sums are in float64.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike


def roc_curve(
    similarity: ArrayLike, is_same: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every operating point: one a distinct similarity, after one that accepts nothing.

    Args:
        similarity: (P,).
        is_same: (P,), bool.

    Returns:
        FAR, TAR and threshold, each (T,): thresholds fall from +inf, rates rise from 0 to 1.

    Raises:
        ValueError: if the lengths differ, a similarity is NaN, or one of the two kinds of pairs
            is missing.
    """
    similarity, is_same = _check_pairs(similarity, is_same)
    if is_same.all() or not is_same.any():
        raise ValueError(
            f'both kinds of pairs are needed, got {int(is_same.sum())} of the same identity and '
            f'{int((~is_same).sum())} of different ones'
        )
    thresholds, same, other = _cumulative_counts(similarity, is_same)
    return other / other[-1], same / same[-1], thresholds


def area_under_curve(far: np.ndarray, tar: np.ndarray) -> float:
    """Area under a ROC curve, by trapezoids: 0.5 for chance, 1 for a perfect order.

    Args:
        far: (T,), rising, from :func:`roc_curve`.
        tar: (T,), rising.

    Returns:
        The area in [0, 1].
    """
    return float(np.sum(np.diff(far) * (tar[1:] + tar[:-1])) / 2)


def equal_error_rate(far: np.ndarray, tar: np.ndarray) -> float:
    """The error rate where FAR equals 1 - TAR, on the line between the two nearest points.

    Args:
        far: (T,), rising, from :func:`roc_curve`.
        tar: (T,), rising.

    Returns:
        The rate in [0, 1].
    """
    gap = far - (1 - tar)
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(far[before] + share * (far[after] - far[before]))


def tar_at_far(similarity: ArrayLike, is_same: ArrayLike, far: float) -> float:
    """The highest TAR of any threshold whose FAR is at most the one asked for.

    No interpolation: the rate is one that a threshold reaches. With N pairs of different
    identities, a FAR below 1/N allows no false acceptance at all.

    Args:
        similarity: (P,).
        is_same: (P,), bool.
        far: the FAR allowed, in [0, 1].

    Returns:
        TAR in [0, 1].

    Raises:
        ValueError: as :func:`roc_curve`, or if ``far`` is outside [0, 1].
    """
    if not 0 <= far <= 1:
        raise ValueError(f'far must be in [0, 1], got {far}')
    rates, tar, _ = roc_curve(similarity, is_same)
    return tar_of_curve(rates, tar, far)


def tar_of_curve(far: np.ndarray, tar: np.ndarray, allowed: float) -> float:
    """The highest TAR on a ROC curve whose FAR is at most the one allowed.

    Args:
        far: (T,), rising, from :func:`roc_curve`.
        tar: (T,), rising.
        allowed: the FAR allowed, in [0, 1].

    Returns:
        TAR in [0, 1].
    """
    return float(tar[np.searchsorted(far, allowed, side='right') - 1])


def kfold_accuracy(
    similarity: ArrayLike, is_same: ArrayLike, num_folds: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy on each fold, at the threshold that is best on the other folds.

    The protocol of LFW's View 2. Folds are consecutive runs of pairs, as in LFW's ``pairs.txt``.
    Thresholds are tried at every distinct similarity of the other folds and at +inf; of equally
    good ones the highest is taken.

    Args:
        similarity: (P,).
        is_same: (P,), bool.
        num_folds: in [2, P].

    Returns:
        Accuracies and thresholds, each (num_folds,); the usual report is their mean and
        (population) standard deviation.

    Raises:
        ValueError: if the lengths differ, a similarity is NaN, or ``num_folds`` is out of range.
    """
    similarity, is_same = _check_pairs(similarity, is_same)
    if not 2 <= num_folds <= len(similarity):
        raise ValueError(
            f'num_folds must be in [2, {len(similarity)}] for {len(similarity)} pairs, '
            f'got {num_folds}'
        )
    accuracies, thresholds = np.empty(num_folds), np.empty(num_folds)
    for fold, test in enumerate(np.array_split(np.arange(len(similarity)), num_folds)):
        train = np.ones(len(similarity), dtype=bool)
        train[test] = False
        candidates, same, other = _cumulative_counts(similarity[train], is_same[train])
        # Accepted pairs that are the same, less those that are not: the count of right answers
        # up to a constant.
        thresholds[fold] = candidates[np.argmax(same - other)]
        accuracies[fold] = np.mean((similarity[test] >= thresholds[fold]) == is_same[test])
    return accuracies, thresholds


def _cumulative_counts(
    similarity: np.ndarray, is_same: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Falling thresholds, and the accepted pairs of each kind at each: first none, last all."""
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
