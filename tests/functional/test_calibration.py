import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from mmarcface.functional import (
    calibrate,
    convert_threshold,
    few_pairs_warning,
    wilson_interval,
)

from .test_verification import both_kinds, columns


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
@settings(deadline=None)
@example(10, 0.0, 0.95)
@example(10, 1.0, 0.95)
def test_wilson_interval_equals_scipy(trials, share, confidence):
    successes = round(share * trials)
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method='wilson')
    assert wilson_interval(successes, trials, confidence) == pytest.approx(expected, abs=1e-9)


@given(both_kinds, st.one_of(st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 1.0]), st.floats(0, 1)))
@settings(deadline=None)
def test_calibration_does_what_it_says(drawn, far):
    similarity, is_same = columns(drawn)
    found = calibrate(similarity, is_same, far, 0.9)
    accepted = similarity >= found.threshold
    counts = {'tar': (accepted[is_same], found.tar), 'far': (accepted[~is_same], found.far)}
    for name, (kind, rate) in counts.items():
        assert rate == pytest.approx(kind.mean(), abs=1e-12)
        expected = stats.binomtest(int(kind.sum()), len(kind)).proportion_ci(0.9, method='wilson')
        assert getattr(found, f'{name}_interval') == pytest.approx(expected, abs=1e-9)
    assert found.far <= far == found.wanted_far
    assert (found.num_same, found.num_other) == (is_same.sum(), (~is_same).sum())
    assert math.isfinite(found.threshold)
    for threshold in similarity:
        if np.mean(similarity[~is_same] >= threshold) <= far:
            tar = np.mean(similarity[is_same] >= threshold)
            assert tar <= found.tar + 1e-12
            # The lowest FAR for this TAR.
            assert tar < found.tar or np.mean(similarity[~is_same] >= threshold) >= found.far
    # Rounding changes nothing.
    nearest = np.abs(similarity - found.threshold).min()
    assert nearest > 0.05 or found.tar == 0 or found.threshold == similarity.min()


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('best', [0.7, 1.0])
def test_calibration_where_the_best_pairs_are_of_different_identities(dtype, best):
    similarity = np.array([best, best, 0.5, 0.1], dtype)
    found = calibrate(similarity, [0, 1, 1, 0], 0)
    assert (found.tar, found.far, found.tar_interval[0], found.far_interval[0]) == (0, 0, 0, 0)
    assert float(similarity[0]) < found.threshold == pytest.approx(best, abs=1e-7)


def test_measures_are_those_of_vectors():
    one, other = torch.nn.functional.normalize(torch.randn(2, 50, 3, dtype=torch.float64), dim=-1)
    other[0], other[1] = one[0], -one[1]
    by_measure = {
        'cosine': (one * other).sum(1).clamp(-1, 1),
        'l2': torch.linalg.vector_norm(one - other, dim=1),
        'squared_l2': (one - other).square().sum(1),
    }
    for source, target in itertools.product(by_measure, repeat=2):
        found = [convert_threshold(value, source, target) for value in by_measure[source].tolist()]
        # The root of a rounding error.
        assert found == pytest.approx(by_measure[target].tolist(), abs=1e-7), (source, target)
    assert convert_threshold(1 + 1e-9, 'cosine', 'l2') == 0
    found = calibrate([0.5, 0.3, 0.1], [1, 1, 0], 0)
    assert found.threshold_as('squared_l2') == pytest.approx(2 - 2 * found.threshold)


@given(st.integers(0, 99), st.integers(2, 6), st.integers(1, 200_000))
@example(7, 2, 1000)
@example(0, 2, 10**9)
def test_warning_where_fewer_than_ten_may_be_accepted(digits, exponent, num_other):
    far = float(f'{digits}e-{exponent}')
    allowed = digits * num_other // 10**exponent
    note = few_pairs_warning(far, num_other)
    assert (note is None) == (allowed >= 10)
    if note:
        assert f'allows {allowed} of {num_other} pairs' in note
    if note and far:
        enough = int(note.removesuffix(' of them').split()[-1])
        assert few_pairs_warning(far, enough) is None
        assert few_pairs_warning(far, enough - 1) is not None
