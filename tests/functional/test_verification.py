import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from mmarcface.functional.verification import (
    area_under_curve,
    equal_error_rate,
    kfold_accuracy,
    roc_curve,
    tar_at_far,
)

# Few distinct values, so that most scores are tied.
pairs = st.lists(
    st.tuples(st.integers(-5, 5).map(lambda v: v / 5), st.booleans()), min_size=2, max_size=60
)
both_kinds = pairs.filter(lambda p: len({same for _, same in p}) == 2)


def columns(drawn):
    similarity, is_same = zip(*drawn, strict=True)
    return np.array(similarity), np.array(is_same)


@given(both_kinds)
@settings(deadline=None)
def test_roc_and_auc_equal_scikit_learn(drawn):
    similarity, is_same = columns(drawn)
    far, tar, thresholds = roc_curve(similarity, is_same)
    expected = metrics.roc_curve(is_same, similarity, drop_intermediate=False)
    for ours, theirs in zip((far, tar, thresholds), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    auc = metrics.roc_auc_score(is_same, similarity)
    assert area_under_curve(far, tar) == pytest.approx(auc, abs=1e-12)


@pytest.mark.parametrize(
    'convert',
    [
        lambda scores: scores.astype(np.uint8),
        lambda scores: scores > 2,
        lambda scores: torch.tensor(scores, dtype=torch.bfloat16, requires_grad=True),
        lambda scores: np.where(scores == 4, np.inf, np.where(scores == 0, -np.inf, scores)),
    ],
    ids=['uint8', 'bool', 'bfloat16', 'infinite'],
)
def test_every_type_of_similarity(convert):
    generator = np.random.default_rng(0)
    is_same = generator.random(200) < 0.3
    scores = generator.integers(0, 5, 200) * 1.0
    expected = metrics.roc_auc_score(
        is_same, scores > 2 if convert(scores).dtype == bool else scores
    )
    far, tar, _ = roc_curve(convert(scores), is_same)
    assert area_under_curve(far, tar) == pytest.approx(expected, abs=1e-12)


@given(both_kinds, st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
def test_tar_at_far_is_the_best_threshold_allowed(drawn, far):
    similarity, is_same = columns(drawn)
    best = 0.0
    for threshold in [*similarity, np.inf]:
        accepted = similarity >= threshold
        if np.mean(accepted[~is_same]) <= far:
            best = max(best, np.mean(accepted[is_same]))
    assert tar_at_far(similarity, is_same, far) == pytest.approx(best, abs=1e-12)


@given(pairs.filter(lambda p: len(p) >= 3), st.integers(2, 10))
@settings(deadline=None)
def test_kfold_equals_a_naive_loop(drawn, num_folds):
    similarity, is_same = columns(drawn)
    num_folds = min(num_folds, len(similarity))
    accuracies, thresholds = kfold_accuracy(similarity, is_same, num_folds)
    # Folds as scikit-learn's KFold without shuffling, the protocol of insightface.
    sizes = [len(part) for part in np.array_split(similarity, num_folds)]
    start = 0
    for fold, size in enumerate(sizes):
        test = slice(start, start + size)
        train_s = np.delete(similarity, np.arange(start, start + size))
        train_y = np.delete(is_same, np.arange(start, start + size))
        right = {t: np.sum((train_s >= t) == train_y) for t in [*train_s, np.inf]}
        best = max(t for t in right if right[t] == max(right.values()))
        assert thresholds[fold] == best
        assert accuracies[fold] == np.mean((similarity[test] >= best) == is_same[test])
        start += size


def test_equal_error_rate():
    assert equal_error_rate(*roc_curve([3, 2, 1, 0], [1, 1, 0, 0])[:2]) == 0
    assert equal_error_rate(*roc_curve([3, 2, 1, 0], [1, 0, 1, 0])[:2]) == 0.5
    generator = np.random.default_rng(0)
    similarity = np.concatenate([generator.normal(1, 1, 100_000), generator.normal(-1, 1, 100_000)])
    far, tar, _ = roc_curve(similarity, np.arange(200_000) < 100_000)
    # Two unit normals two apart: half of the distance cuts off Phi(-1).
    assert equal_error_rate(far, tar) == pytest.approx(0.158655, abs=2e-3)


@pytest.mark.parametrize(
    ('similarity', 'is_same', 'message'),
    [
        ([1, 2], [True], r'one length, got \(2,\) and \(1,\)'),
        ([1, np.nan, np.nan], [1, 0, 1], 'similarity of 2 pairs is NaN, the first is pair 1'),
        ([1, 2], [1, 1], '2 of the same identity and 0 of different ones'),
    ],
)
def test_wrong_pairs(similarity, is_same, message):
    with pytest.raises(ValueError, match=message):
        roc_curve(similarity, is_same)


def test_wrong_numbers():
    with pytest.raises(ValueError, match=r'far must be in \[0, 1\], got 2'):
        tar_at_far([0, 1], [0, 1], 2)
    with pytest.raises(ValueError, match=r'folds must be in \[2, 2\] for 2 pairs, got 10'):
        kfold_accuracy([0, 1], [0, 1])
