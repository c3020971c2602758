"""Pairs by fold, against a loop."""

import numpy as np
import pytest

from mmarcface.datasets.formats.pairs import Pairs


@pytest.mark.parametrize('first_fold', [0, -1])
def test_counts_are_those_of_a_loop(first_fold):
    rng = np.random.default_rng(0)
    folds, is_same = rng.integers(first_fold, 5, 60), rng.random(60) < 0.3
    same, other = Pairs(rng.integers(0, 9, (60, 2)), is_same, folds).count_by_fold()
    for fold in range(5):
        kinds = [bool(s) for s, f in zip(is_same, folds, strict=True) if f == fold]
        assert (same[fold], other[fold]) == (kinds.count(True), kinds.count(False))
    assert len(same) == len(other) == 5


def test_pairs_that_only_choose_thresholds_are_not_counted():
    pairs = Pairs(np.zeros((3, 2), int), np.array([True, False, True]), np.full(3, -1))
    assert [counts.tolist() for counts in pairs.count_by_fold()] == [[], []]
