"""Verification: do two images show the same identity?"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.logging import print_log

from mmarcface.datasets.formats.pairs import Pairs
from mmarcface.functional import (
    calibrate,
    consecutive_folds,
    equal_error_rate,
    few_pairs_warning,
    kfold_accuracy,
    pair_similarity,
    roc_auc,
    roc_curve,
    tar_at_far,
    tar_interval,
)
from mmarcface.functional.arguments import as_rates, check_number
from mmarcface.registry import METRICS

from .embedding_metric import UNWRAPPED_ADVICE, EmbeddingMetric, Embeddings

PAIRS_PER_BLOCK = 1 << 12


@METRICS.register_module()
class VerificationMetric(EmbeddingMetric):
    """Accuracy, AUC, EER and TAR@FAR by cosine similarity, in percent.

    The pairs are those given; else those of the data set, such as :class:`LFW` or
    :class:`VerificationBin`; else all. Of a data set with several sets of pairs
    (:class:`VerificationSets`) each has figures of its own, and ``Accuracy`` is their mean.

    Accuracy is the mean over the folds, each at the threshold that is best on the other folds,
    ``Accuracy_std`` its (population) standard deviation and ``Threshold`` the mean of the
    thresholds, a cosine and not in percent; a line in the log has them all. With all pairs, where
    different identities are the rule, it is taken over the pairs of the same identity and equally
    many of the others, drawn and shuffled with a fixed seed; all other figures are over all pairs.

    ``TAR@FAR=..._low`` and ``_high`` bound a 95% confidence interval, see
    :func:`mmarcface.functional.verification.tar_interval`; a warning in the log says where a FAR
    is too small for the number of pairs.

    Args:
        pairs: pairs (i, j) of places in the data set, in the order of their folds.
        far: false acceptance rates, in [0, 1], at which to report TAR.
        num_folds: folds for the accuracy, at least 2; a data set's pairs know theirs.
        max_pairs: largest number of pairs of different identities where all pairs are used, at
            least 1; of more a draw with a fixed seed is used, and a line in the log says so.
        collect_device: see :class:`EmbeddingMetric`.
        prefix: see :class:`EmbeddingMetric`.
        collect_dir: see :class:`EmbeddingMetric`.

    Attributes:
        calibrations: after evaluation, on the main process: by name of the set ('' where there is
            but one) a :class:`mmarcface.functional.Calibration` for each FAR.

    Raises:
        ValueError: if ``far`` is not in [0, 1], ``num_folds`` below 2, ``max_pairs`` below 1 or a
            pair not of two places; in evaluation if a pair names no sample, the pairs of the data
            set are of other samples than it has, one of the two kinds of pairs is missing, or there
            are too few for the folds.
    """

    default_prefix = 'verification'

    def __init__(
        self,
        pairs: Sequence[tuple[int, int]] | None = None,
        far: Sequence[float] = (1e-3, 1e-2),
        num_folds: int = 10,
        max_pairs: int = 50_000_000,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ):
        super().__init__(collect_device, prefix, collect_dir)
        check_number('num_folds', num_folds, minimum=2, whole=True)
        check_number('max_pairs', max_pairs, minimum=1, whole=True)
        self.pairs = None if pairs is None else _places(pairs)
        self.far = as_rates('far', far)
        self.num_folds = int(num_folds)
        self.max_pairs = int(max_pairs)
        self.calibrations = {}

    def check(self, labels: torch.Tensor, roles: torch.Tensor, names: Sequence[str]) -> None:
        """Refuse pairs of samples that are not there, and pairs too few or of one kind."""
        for name, pairs in self._sets(labels).items():
            where = f' of {name}' if name else ''
            if pairs is None:
                num_same, num_other = self._count_pairs(labels)
                enough = 2 * min(num_same, num_other) >= self.num_folds
                num_folds = self.num_folds
            else:
                given = self.pairs is not None
                outside = pairs.indices[(pairs.indices < 0) | (pairs.indices >= len(labels))]
                if len(outside):
                    raise ValueError(
                        f'pairs{where} must name samples of the data set, in [0, {len(labels)}); '
                        f'got {int(outside[0])}{"" if given else f"; {UNWRAPPED_ADVICE}"}'
                    )
                # Pairs outside the folds only choose the threshold.
                tested = pairs.is_same[pairs.folds >= 0]
                num_same, num_other = int(tested.sum()), int((~tested).sum())
                num_folds = self.num_folds if given else max(2, 1 + pairs.folds.max(initial=0))
                enough = len(np.unique(pairs.folds)) >= num_folds
            if min(num_same, num_other) == 0 or not enough:
                of_metric = pairs is None or self.pairs is not None
                raise ValueError(
                    f'{num_same} pairs{where} of the same identity and {num_other} of different '
                    f'ones: both kinds are needed, and enough for {num_folds} folds; '
                    + (
                        'add images or pairs, or lower num_folds of VerificationMetric'
                        if of_metric
                        else 'take more of the pairs, and give the data set num_folds of at least 2'
                    )
                )
            if pairs is not None:
                self._check_labels(where, pairs, labels, names)
                self._warn_of_folds(where, pairs)

    def compute_metrics(self, results: Embeddings) -> dict[str, float]:
        """Figures in percent of all embeddings."""
        figures = {}
        sets = self._sets(results.labels[results.rows()])
        for name, pairs in sets.items():
            if pairs is None:
                similarity, is_same = self._all_pairs(results)
                folded = self._balance(is_same), self.num_folds
            else:
                similarity, is_same = self._given_pairs(results, pairs), pairs.is_same
                folded = slice(None), pairs.folds
            own = self._figures(name, similarity, is_same, *folded)
            figures |= {f'{name}/{key}' if name else key: value for key, value in own.items()}
        if '' not in sets:
            figures['Accuracy'] = float(np.mean([figures[f'{name}/Accuracy'] for name in sets]))
        return figures

    def _figures(
        self,
        name: str,
        similarity: np.ndarray,
        is_same: np.ndarray,
        balanced: slice | np.ndarray,
        folds: int | np.ndarray,
    ) -> dict[str, float]:
        """Figures of one set of pairs, in percent."""
        accuracies, thresholds = kfold_accuracy(similarity[balanced], is_same[balanced], folds)
        by_fold = ', '.join(
            f'{100 * accuracy:.2f} at {threshold:.4f}'
            for accuracy, threshold in zip(accuracies, thresholds, strict=True)
        )
        print_log(f'{name or "verification"}: accuracy by fold, at cosine: {by_fold}', 'current')
        if np.ndim(folds):
            # Pairs outside the folds only chose the threshold.
            similarity, is_same = similarity[folds >= 0], is_same[folds >= 0]
        similarity, is_same = sort_pairs(similarity, is_same)
        far, tar, _ = roc_curve(similarity, is_same)
        figures = {
            'Accuracy': accuracies.mean(),
            'Accuracy_std': accuracies.std(),
            'AUC': roc_auc(far, tar),
            'EER': equal_error_rate(far, tar),
        } | tar_figures(similarity, is_same, self.far, name)
        self.calibrations[name] = [calibrate(similarity, is_same, rate) for rate in self.far]
        percent = {key: 100 * float(value) for key, value in figures.items()}
        # The threshold of a fold is infinite where accepting no pair is best.
        return percent | {'Threshold': float(thresholds.clip(max=1).mean())}

    def _sets(self, labels: torch.Tensor) -> dict[str, Pairs | None]:
        """The sets of pairs by name; None where it is all pairs. Labels are in data set order."""
        if self.pairs is not None:
            indices = self.pairs
            # The check refuses pairs that name no sample.
            one, other = labels[torch.from_numpy(indices.T) % len(labels)]
            folds = consecutive_folds(len(indices), self.num_folds)
            return {'': Pairs(indices, (one == other).numpy(), folds)}
        pairs = (self.dataset_meta or {}).get('pairs')
        if pairs is None:
            return {'': None}
        sets = pairs if isinstance(pairs, dict) else {'': pairs}
        if not sets or not all(isinstance(part, Pairs) for part in sets.values()):
            raise ValueError(
                "metainfo['pairs'] of the data set must be Pairs, or Pairs by name of the set, got "
                f'{pairs!r:.80}'
            )
        return sets

    @staticmethod
    def _check_labels(where: str, pairs: Pairs, labels: torch.Tensor, names: Sequence[str]) -> None:
        """Refuse pairs of other samples: of one identity, and with two labels."""
        same = torch.from_numpy(pairs.indices[pairs.is_same])
        one, other = labels[same.T]
        wrong = (one != other).nonzero()[:, 0]
        # Labels that all differ are no identities.
        if len(wrong) and len(labels.unique()) < len(labels):
            i, j = same[wrong[0]].tolist()
            raise ValueError(
                f'{len(wrong)} of {len(same)} pairs{where} of the same identity have two labels, '
                f'the first are {names[i]} and {names[j]} with {int(labels[i])} and '
                f'{int(labels[j])}: the pairs are of other samples, as where the data set is a '
                f'part of the one that they were made for, or in another order; {UNWRAPPED_ADVICE}'
            )

    @staticmethod
    def _warn_of_folds(where: str, pairs: Pairs) -> None:
        """Say where a fold has one kind of pairs, so that its accuracy means something else."""
        same, other = pairs.count_by_fold()
        one_kind = np.flatnonzero((same == 0) | (other == 0))
        if len(one_kind):
            print_log(
                f'{len(one_kind)} of {len(same)} folds of the pairs{where} have pairs of one kind '
                f'only, the first is fold {one_kind[0]}, counted from 0: the accuracy is not that '
                'of mixed folds. Give the number of folds, num_folds, that the pairs were written '
                'with, or order them so that each fold has both kinds',
                'current',
                logging.WARNING,
            )

    def _given_pairs(self, results: Embeddings, pairs: Pairs) -> np.ndarray:
        rows = results.rows()[torch.from_numpy(pairs.indices)]
        return pair_similarity(results.vectors, rows).numpy()

    def _all_pairs(self, results: Embeddings) -> tuple[np.ndarray, np.ndarray]:
        """Every pair of the same identity, and those of different ones up to ``max_pairs``."""
        self._assume('it is taken to have no pairs of its own, and all pairs are compared')
        number = len(results.labels)
        num_other = self._count_pairs(results.labels)[1]
        share = min(1.0, self.max_pairs / num_other)
        if share < 1:
            print_log(
                f'{num_other} pairs of different identities: a share of {share:.3g}, drawn with a '
                'fixed seed, is used (max_pairs)',
                logger='current',
            )
        generator = torch.Generator().manual_seed(0)
        similarity, is_same = [], []
        rows = max(1, PAIRS_PER_BLOCK**2 // number)
        for top in range(0, number - 1, rows):
            block = results.vectors[top : top + rows] @ results.vectors[top:].T
            same = results.labels[top : top + rows, None] == results.labels[top:]
            compared = torch.ones_like(same).triu(1)
            if share < 1:
                compared &= same | (torch.rand(same.shape, generator=generator) < share)
            similarity.append(block[compared])
            is_same.append(same[compared])
        return torch.cat(similarity).numpy(), torch.cat(is_same).numpy()

    @staticmethod
    def _count_pairs(labels: torch.Tensor) -> tuple[int, int]:
        """Pairs of the same identity and of different ones."""
        counts = labels.unique(return_counts=True)[1]
        num_same = int((counts * (counts - 1) // 2).sum())
        return num_same, len(labels) * (len(labels) - 1) // 2 - num_same

    @staticmethod
    def _balance(is_same: np.ndarray) -> np.ndarray:
        """Places of equally many pairs of both kinds, in random order with a fixed seed."""
        random = np.random.default_rng(0)
        same, other = np.flatnonzero(is_same), np.flatnonzero(~is_same)
        number = min(len(same), len(other))
        return random.permutation(
            np.concatenate([random.choice(kind, number, replace=False) for kind in (same, other)])
        )


def _places(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Pairs of places as they were given, (P, 2), int64."""
    try:
        indices = np.array(pairs)
    except ValueError:
        indices = np.empty(0)
    whole = indices.dtype.kind in 'iu' and indices.size
    if not whole or indices.ndim != 2 or indices.shape[1] != 2 or indices.min() < 0:
        raise ValueError(
            'pairs must be (i, j) each, whole numbers from 0 on, and there must be some; got '
            f'{pairs!r:.80}'
        )
    return indices.astype(np.int64)


def sort_pairs(similarity: np.ndarray, is_same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort pairs by falling similarity, so that the figures, which sort too, take less time.

    Args:
        similarity: cosine of each pair, (P,).
        is_same: whether the pair is of one identity, (P,), bool.
    """
    order = np.argsort(-similarity, kind='stable')
    return similarity[order], is_same[order]


def tar_figures(
    similarity: np.ndarray, is_same: np.ndarray, far: Sequence[float], name: str = ''
) -> dict[str, float]:
    """TAR at each FAR with its confidence interval, in [0, 1].

    Args:
        similarity: cosine of each pair, (P,).
        is_same: whether the pair is of one identity, (P,), bool.
        far: false acceptance rates, in [0, 1].
        name: name of the pairs, for the warning where they are too few.
    """
    figures = {}
    for rate in far:
        key = f'TAR@FAR={rate:g}'
        figures[key] = tar_at_far(similarity, is_same, rate)
        figures[f'{key}_low'], figures[f'{key}_high'] = tar_interval(similarity, is_same, rate)
        note = few_pairs_warning(rate, int((~is_same).sum()))
        if note:
            print_log(f'{name or "verification"}: {note}', 'current', logging.WARNING)
    return figures
