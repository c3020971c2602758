"""Verification: do two images show the same identity?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.logging import print_log

from mmarcface.functional.verification import (
    area_under_curve,
    equal_error_rate,
    kfold_accuracy,
    roc_curve,
    tar_of_curve,
)
from mmarcface.registry import METRICS

from .embedding_metric import EmbeddingMetric, Embeddings

PAIRS_PER_BLOCK = 1 << 12


@METRICS.register_module()
class VerificationMetric(EmbeddingMetric):
    """Accuracy, AUC, EER and TAR@FAR by cosine similarity, in percent.

    Accuracy is the mean over folds of consecutive pairs, each at the threshold that is best on the
    other folds, and ``Accuracy_std`` its (population) standard deviation. With all pairs, where the
    other identity is the rule, it is taken over the pairs of the same identity and equally many
    of the others, drawn and shuffled with a fixed seed; all other figures are over all pairs.

    Args:
        pairs: (i, j) by place in the data set, in the order of their folds; all pairs by default.
        far: false acceptance rates, in [0, 1], at which to report TAR.
        num_folds: folds for the accuracy, at least 2.
        max_pairs: with all pairs, most pairs of different identities to use; beyond it they are
            drawn with a fixed seed, and a line in the log says so.
        collect_device: see :class:`EmbeddingMetric`.
        prefix: see :class:`EmbeddingMetric`.
        collect_dir: see :class:`EmbeddingMetric`.

    Raises:
        ValueError: if ``far`` is not in [0, 1], ``num_folds`` below 2 or a pair not of two; in
            evaluation if a pair names no sample, one of the two kinds of pairs is missing, or
            there are too few for the folds.
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
        if any(not 0 <= rate <= 1 for rate in far):
            raise ValueError(f'far must hold rates in [0, 1], got {far}')
        if num_folds < 2:
            raise ValueError(f'num_folds must be at least 2, got {num_folds}')
        if pairs is not None and (len(pairs) == 0 or any(len(pair) != 2 for pair in pairs)):
            raise ValueError('pairs must be (i, j) each, and there must be some')
        self.pairs = pairs
        self.far = far
        self.num_folds = num_folds
        self.max_pairs = max_pairs

    def check(self, labels: torch.Tensor, roles: torch.Tensor, names: Sequence[str]) -> None:
        """Refuse pairs of samples that are not there, and pairs too few or of one kind."""
        if self.pairs is None:
            num_same, num_other = self._count_pairs(labels)
            usable = 2 * min(num_same, num_other)
        else:
            pairs = torch.tensor(self.pairs)
            outside = pairs[(pairs < 0) | (pairs >= len(labels))]
            if len(outside):
                raise ValueError(
                    f'pairs must name samples of the data set, in [0, {len(labels)}); got '
                    f'{int(outside[0])}'
                )
            num_same = int((labels[pairs[:, 0]] == labels[pairs[:, 1]]).sum())
            num_other = len(pairs) - num_same
            usable = len(pairs)
        if min(num_same, num_other) == 0 or usable < self.num_folds:
            raise ValueError(
                f'{num_same} pairs of the same identity and {num_other} of different ones: both '
                f'kinds are needed, and enough for {self.num_folds} folds; add images or pairs, '
                'or lower num_folds of VerificationMetric'
            )

    def compute_metrics(self, results: Embeddings) -> dict[str, float]:
        """Figures in percent of all embeddings."""
        if self.pairs is None:
            similarity, is_same = self._all_pairs(results)
            balanced = self._balance(is_same)
        else:
            similarity, is_same = self._given_pairs(results)
            balanced = slice(None)
        far, tar, _ = roc_curve(similarity, is_same)
        accuracies, _ = kfold_accuracy(similarity[balanced], is_same[balanced], self.num_folds)
        figures = {
            'Accuracy': accuracies.mean(),
            'Accuracy_std': accuracies.std(),
            'AUC': area_under_curve(far, tar),
            'EER': equal_error_rate(far, tar),
        }
        for rate in self.far:
            figures[f'TAR@FAR={rate:g}'] = tar_of_curve(far, tar, rate)
        return {name: 100 * float(value) for name, value in figures.items()}

    def _given_pairs(self, results: Embeddings) -> tuple[np.ndarray, np.ndarray]:
        row_of = torch.empty_like(results.sample_idx)
        row_of[results.sample_idx] = torch.arange(len(row_of))
        rows = row_of[torch.tensor(self.pairs)]
        similarity = torch.cat(
            [
                (results.vectors[block[:, 0]] * results.vectors[block[:, 1]]).sum(1)
                for block in rows.split(PAIRS_PER_BLOCK)
            ]
        )
        is_same = results.labels[rows[:, 0]] == results.labels[rows[:, 1]]
        return similarity.numpy(), is_same.numpy()

    def _all_pairs(self, results: Embeddings) -> tuple[np.ndarray, np.ndarray]:
        """Every pair of the same identity, and those of different ones up to ``max_pairs``."""
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
            wanted = torch.ones_like(same).triu(1)
            if share < 1:
                wanted &= same | (torch.rand(same.shape, generator=generator) < share)
            similarity.append(block[wanted])
            is_same.append(same[wanted])
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
