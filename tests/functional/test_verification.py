import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from mmarcface.functional import (
    calibrate,
    convert_threshold,
    equal_error_rate,
    kfold_accuracy,
    pair_similarity,
    roc_auc,
    roc_curve,
    tar_at_far,
    tar_interval,
    verification,
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
    assert roc_auc(far, tar) == pytest.approx(auc, abs=1e-12)


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
    assert roc_auc(far, tar) == pytest.approx(expected, abs=1e-12)


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


@given(pairs.filter(lambda p: len(p) >= 3), st.data())
@settings(deadline=None)
def test_given_folds_equal_a_naive_loop(drawn, data):
    similarity, is_same = columns(drawn)
    number = len(similarity)
    folds = data.draw(st.lists(st.sampled_from([-1, 0, 2, 7]), min_size=number, max_size=number))
    assume(len(set(folds)) > 1)
    accuracies, thresholds = kfold_accuracy(similarity, is_same, folds)
    tested = sorted(set(folds) - {-1})
    assert len(accuracies) == len(thresholds) == len(tested)
    for fold, accuracy, threshold in zip(tested, accuracies, thresholds, strict=True):
        rows = list(zip(similarity, is_same, folds, strict=True))
        train = [(s, y) for s, y, f in rows if f != fold]
        test = [(s, y) for s, y, f in rows if f == fold]
        candidates = {s for s, _ in train} | {np.inf}
        right = {t: sum((s >= t) == y for s, y in train) for t in candidates}
        best = max(t for t in right if right[t] == max(right.values()))
        assert threshold == best
        expected = sum((s >= best) == y for s, y in test) / len(test)
        assert accuracy == pytest.approx(expected, abs=1e-9)


def some_pairs(seed: int, number: int = 400, digits: int | None = None):
    """Scores of pairs of both kinds that overlap; tied where there are few digits."""
    generator = np.random.default_rng(seed)
    is_same = generator.random(number) < 0.4
    similarity = generator.normal(np.where(is_same, 0.5, 0.2), 0.2)
    return similarity if digits is None else similarity.round(digits), is_same


@pytest.mark.parametrize('digits', [None, 1])
@pytest.mark.parametrize('shares', [(0, 0.3, 0.7), (-1, 0.8, 0.2), (-1, 0.1, 0.4, 0.3, 0.2)])
def test_folds_equal_scikit_learn(digits, shares):
    similarity, is_same = some_pairs(0, digits=digits)
    first, *shares = shares
    numbers = np.arange(first, first + len(shares))
    folds = np.random.default_rng(1).choice(numbers, len(similarity), p=shares)
    accuracies, thresholds = kfold_accuracy(similarity, is_same, folds)
    for place, fold in enumerate(numbers[numbers >= 0]):
        train, test = folds != fold, folds == fold
        far, tar, candidates = metrics.roc_curve(
            is_same[train], similarity[train], drop_intermediate=False
        )
        num_same = is_same[train].sum()
        right = np.rint(tar * num_same) - np.rint(far * (train.sum() - num_same))
        best = candidates[right.argmax()]
        expected = metrics.accuracy_score(is_same[test], similarity[test] >= best)
        assert thresholds[place] == pytest.approx(best, abs=1e-9)
        assert accuracies[place] == pytest.approx(expected, abs=1e-9)


def naive_tar(same, other, far):
    """TAR by trying every threshold."""
    allowed = (other >= same[:, None]).mean(1) <= far
    return (same >= same[allowed][:, None]).mean(1).max(initial=0)


@pytest.mark.parametrize('digits', [None, 1])
@pytest.mark.parametrize('far', [0, 0.002, 0.05, 0.3, 1])
def test_interval_equals_a_bootstrap_pair_by_pair(far, digits, monkeypatch):
    monkeypatch.setattr(verification, 'RESAMPLES', 20_000)
    similarity, is_same = some_pairs(2, 200, digits)
    same, other = similarity[is_same], similarity[~is_same]
    generator = np.random.default_rng(3)
    drawn = np.array(
        [
            naive_tar(*(generator.choice(kind, len(kind)) for kind in (same, other)), far)
            for _ in range(2000)
        ]
    )
    for confidence in (0.02, 0.3, 0.6, 0.8, 0.95):
        ends = tar_interval(similarity, is_same, far, confidence)
        for share, end in zip(((1 - confidence) / 2, (1 + confidence) / 2), ends, strict=True):
            # Both sides of a step of the distribution; the draws are off by some 0.011.
            below, until = np.mean(drawn < end - 1e-9), np.mean(drawn <= end + 1e-9)
            assert below - 0.04 <= share <= until + 0.04


def test_interval_covers_the_truth():
    generator = np.random.default_rng(0)
    truth = stats.norm.sf(stats.norm.isf(0.1) - 2)
    covered = 0
    for _ in range(300):
        similarity = np.concatenate([generator.normal(2, 1, 150), generator.normal(0, 1, 400)])
        low, high = tar_interval(similarity, np.arange(550) < 150, 0.1)
        covered += low <= truth <= high
    # 0.95 of 300, less what percentiles lose and what 300 tell: a standard deviation is 0.013.
    assert 0.90 <= covered / 300 <= 0.99


@pytest.mark.parametrize('number', [0, 1, 7, 50])
def test_pair_similarity_equals_cosines(number, monkeypatch):
    monkeypatch.setattr(verification, 'ELEMENTS_PER_BLOCK', 20)
    vectors = torch.randn(9, 6, dtype=torch.float64)
    indices = torch.randint(9, (number, 2))
    expected = torch.cosine_similarity(vectors[indices[:, 0]], vectors[indices[:, 1]])
    unit = torch.nn.functional.normalize(vectors)
    torch.testing.assert_close(pair_similarity(unit, indices), expected)


def test_equal_error_rate():
    assert equal_error_rate(*roc_curve([3, 2, 1, 0], [1, 1, 0, 0])[:2]) == 0
    assert equal_error_rate(*roc_curve([3, 2, 1, 0], [1, 0, 1, 0])[:2]) == 0.5
    generator = np.random.default_rng(0)
    similarity = np.concatenate([generator.normal(1, 1, 100_000), generator.normal(-1, 1, 100_000)])
    far, tar, _ = roc_curve(similarity, np.arange(200_000) < 100_000)
    # Two unit normals two apart: half of the distance cuts off Phi(-1).
    assert equal_error_rate(far, tar) == pytest.approx(0.158655, abs=2e-3)


@given(both_kinds)
@settings(deadline=None)
def test_equal_error_rate_lies_on_the_line_between_two_points(drawn):
    far, tar, _ = roc_curve(*columns(drawn))
    expected = np.interp(0, far - (1 - tar), far)
    assert equal_error_rate(far, tar) == pytest.approx(expected, abs=1e-9)


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
    with pytest.raises(ValueError, match=r'folds must be one for each of 2 pairs, got \(3,\)'):
        kfold_accuracy([0, 1], [0, 1], [0, 1, 1])
    for folds in ([0, 0], [-1, -1]):
        with pytest.raises(ValueError, match=rf'one is not -1; got \[{folds[0]}\]'):
            kfold_accuracy([0, 1], [0, 1], folds)
    for function in (tar_interval, calibrate):
        with pytest.raises(ValueError, match=r'far must be in \[0, 1\], got -1'):
            function([0, 1], [0, 1], -1)
        with pytest.raises(ValueError, match=r'confidence must be in \(0, 1\), got 1'):
            function([0, 1], [0, 1], 0.1, confidence=1)
        with pytest.raises(ValueError, match='2 of the same identity and 0 of different'):
            function([0, 1], [1, 1], 0.1)
    for source, target in (('cosine', 'cos'), ('L2', 'cosine')):
        with pytest.raises(ValueError, match=r"must be one of \['cosine', 'l2', 'squared_l2'\]"):
            convert_threshold(0.5, source, target)
    with pytest.raises(ValueError, match='not be negative for l2, got -1'):
        convert_threshold(-1, 'l2', 'cosine')
