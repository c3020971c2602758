import math
import re
from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import precision_score, recall_score

from mmarcface.functional.subcenter import (
    angles_to_subcenters,
    clean_mask,
    dead_subcenters,
    dominant_subcenters,
    fit_angle_mixture,
    subcenter_cosines,
    subcenter_counts,
)

CLASSES, WIDTH = 5, 4


def problem(number=40, ways=3, dtype=torch.double):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(number, WIDTH, generator=generator, dtype=torch.double)
    weight = torch.randn(CLASSES * ways, WIDTH, generator=generator, dtype=torch.double)
    labels = torch.randint(CLASSES - 1, (number,), generator=generator)
    return embeddings.to(dtype), weight.to(dtype), labels


def cosine(a, b) -> float:
    a, b = a.tolist(), b.tolist()
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


@pytest.mark.parametrize('ways', [1, 2, 3])
def test_cosines_are_with_the_centers_of_the_own_class(ways):
    embeddings, weight, labels = problem(ways=ways)
    # Lengths play no part, and a zero vector has no direction.
    embeddings[0], weight[0] = 0, 0
    embeddings[1] *= 1e6
    expected = [
        [cosine(vector, weight[label * ways + k]) for k in range(ways)]
        for vector, label in zip(embeddings, labels, strict=True)
    ]
    cosines = subcenter_cosines(embeddings, weight, labels, ways)
    torch.testing.assert_close(cosines, torch.tensor(expected, dtype=torch.double))
    assert not cosines[0].any()
    assert cosines[labels == 0, 0].count_nonzero() == 0


@pytest.mark.parametrize(
    ('of_embeddings', 'of_weight', 'wanted'),
    [
        (torch.half, torch.float, torch.float),
        (torch.bfloat16, torch.bfloat16, torch.float),
        (torch.half, torch.double, torch.double),
    ],
)
def test_half_precision_is_only_that_of_the_input(of_embeddings, of_weight, wanted):
    embeddings, weight, labels = problem()
    # The squares of these would overflow.
    embeddings = (3000 * embeddings).to(of_embeddings)
    cosines = subcenter_cosines(embeddings, weight.to(of_weight), labels, 3)
    assert cosines.dtype == wanted
    exact = subcenter_cosines(embeddings.double(), weight.to(of_weight).double(), labels, 3)
    torch.testing.assert_close(cosines.double(), exact, atol=1e-6, rtol=0)


def test_tiny_vectors_have_a_direction_or_none_but_are_finite():
    weight = torch.eye(2)
    embeddings = torch.tensor([[1e-30, 0], [1e-6, 1e-6], [0, 0]])
    cosines = subcenter_cosines(embeddings, weight, torch.zeros(3, dtype=torch.long), 2)
    assert cosines.isfinite().all()
    assert cosines[1].tolist() == pytest.approx([math.sqrt(0.5)] * 2)
    assert cosines[2].tolist() == [0, 0]


@pytest.mark.parametrize('ways', [1, 3])
def test_counts_are_those_of_a_loop(ways):
    embeddings, weight, labels = problem(ways=ways)
    cosines = subcenter_cosines(embeddings, weight, labels, ways)
    expected = [[0] * ways for _ in range(CLASSES)]
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        expected[label][row.index(max(row))] += 1
    counts = subcenter_counts(cosines, labels, CLASSES)
    assert counts.dtype == torch.long
    assert counts.tolist() == expected
    assert dominant_subcenters(counts).tolist() == [row.index(max(row)) for row in expected]
    assert dead_subcenters(counts).tolist() == [
        [count == 0 and any(row) for count in row] for row in expected
    ]
    # The last class has no samples.
    assert not dead_subcenters(counts)[-1].any()


def test_of_equals_the_first_counts():
    cosines = torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.7, 0.7], [0.0, 0.0, 0.0]])
    counts = subcenter_counts(cosines, torch.tensor([0, 1, 1]), 3)
    assert counts.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert dominant_subcenters(counts).tolist() == [0, 0, 0]
    assert dead_subcenters(counts).tolist() == [
        [False, True, True],
        [False, False, True],
        [False] * 3,
    ]


def test_nothing_gives_nothing():
    embeddings, weight, labels = problem(number=0)
    cosines = subcenter_cosines(embeddings, weight, labels, 3)
    assert cosines.shape == (0, 3)
    counts = subcenter_counts(cosines, labels, CLASSES)
    assert counts.shape == (CLASSES, 3)
    assert not counts.any()
    assert not dead_subcenters(counts).any()
    angles = angles_to_subcenters(cosines, dominant_subcenters(counts)[labels])
    assert angles.shape == (0,)
    for least in (0, 2):
        keep = clean_mask(angles, labels, min_per_class=least)
        assert keep.shape == (0,)
        assert keep.dtype == torch.bool


def test_angles_are_in_degrees():
    cosines = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, math.sqrt(0.5)], [0.3, 0.3]])
    angles = angles_to_subcenters(cosines, torch.tensor([0, 1, 1, 0]))
    expected = [0, 60, 45, math.degrees(math.acos(0.3))]
    assert angles.tolist() == pytest.approx(expected, abs=1e-4)


def test_angles_exist_where_rounding_makes_a_cosine_exceed_1():
    angles = angles_to_subcenters(torch.tensor([[1 + 1e-6], [-1 - 1e-6]]), torch.tensor([0, 0]))
    assert angles.tolist() == [0, 180]


def keep_by_loops(angles, labels, threshold, least) -> list[bool]:
    keep = [angle <= threshold for angle in angles]
    for label in set(labels):
        members = [i for i, one in enumerate(labels) if one == label]
        kept = sum(keep[i] for i in members)
        rest = sorted((angles[i], i) for i in members if not keep[i])
        for _, i in rest[: max(0, least - kept)]:
            keep[i] = True
    return keep


# Few values, so that there are ties, also at the threshold.
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([0.0, 30.0, 60.0, 75.0, 75.5, 90.0, 180.0]),
        st.sampled_from([0, 1, 2, 7]),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(SAMPLES, st.sampled_from([0.0, 60.0, 75.0, 180.0]), st.integers(0, 5))
def test_mask_is_that_of_a_loop(samples, threshold, least):
    angles, labels = [list(v) for v in zip(*samples, strict=True)] or [[], []]
    given_labels = torch.tensor(labels, dtype=torch.long)
    keep = clean_mask(torch.tensor(angles), given_labels, threshold, least)
    assert keep.tolist() == keep_by_loops(angles, labels, threshold, least)
    sizes, kept = torch.bincount(given_labels), torch.bincount(given_labels[keep], minlength=8)
    for label in labels:
        assert kept[label] >= min(least, sizes[label])


@settings(deadline=None)
@given(SAMPLES, st.integers(0, 3), st.randoms(use_true_random=False))
def test_order_of_the_samples_plays_no_part(samples, least, random):
    # Without ties, of which the first would stay.
    samples = [(a + i / 1000, y) for i, (a, y) in enumerate(samples)]
    shuffled = random.sample(samples, len(samples))

    def kept(samples):
        angles, labels = zip(*samples, strict=True) if samples else ((), ())
        keep = clean_mask(
            torch.tensor(angles, dtype=torch.double),
            torch.tensor(labels, dtype=torch.long),
            75.0,
            least,
        )
        return {sample for sample, stays in zip(samples, keep.tolist(), strict=True) if stays}

    assert kept(samples) == kept(shuffled)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)),
        max_size=20,
    ),
    st.integers(0, 20),
    st.randoms(use_true_random=False),
)
def test_counts_of_parts_add_up_in_any_order(samples, cut, random):
    def count(samples):
        labels = torch.tensor([label for label, _ in samples], dtype=torch.long)
        cosines = torch.tensor([row for _, row in samples]).view(-1, 3)
        return subcenter_counts(cosines, labels, 4)

    whole = count(samples)
    assert whole.sum() == len(samples)
    shuffled = random.sample(samples, len(samples))
    assert torch.equal(count(shuffled[:cut]) + count(shuffled[cut:]), whole)
    # Naming the centers otherwise names their counts otherwise, where none are equally near.
    if all(len(set(row)) == 3 for _, row in samples):
        turned = count([(label, row[1:] + row[:1]) for label, row in samples])
        assert torch.equal(turned, whole.roll(-1, dims=1))


def test_labels_need_not_be_dense_and_few_may_stay():
    angles = torch.tensor([80.0, 79.0, 10.0, 100.0])
    labels = torch.tensor([9, 9, 0, 4])
    assert clean_mask(angles, labels).tolist() == [False, True, True, True]
    assert clean_mask(angles, labels, min_per_class=0).tolist() == [False, False, True, False]
    assert clean_mask(angles, labels, min_per_class=99).all()


def test_of_a_small_class_the_nearest_stay_beside_those_kept():
    angles = torch.tensor([90.0, 20.0, 80.0])
    labels = torch.zeros(3, dtype=torch.long)
    for least, wanted in (1, [False, True, False]), (2, [False, True, True]), (3, [True] * 3):
        keep = clean_mask(angles, labels, 75.0, least)
        assert keep.tolist() == wanted


def test_arguments_are_left_as_they_were():
    angles, labels = torch.tensor([80.0, 70.0]), torch.tensor([0, 0])
    clean_mask(angles, labels, 75.0)
    assert angles.tolist() == [80, 70]
    assert labels.tolist() == [0, 0]


def test_wrong_minimum():
    with pytest.raises(ValueError, match='min_per_class must be at least 0, got -1'):
        clean_mask(torch.ones(1), torch.zeros(1, dtype=torch.long), min_per_class=-1)


RIGHT, WRONG, NUMBER = (30.0, 0.2), (85.0, 0.08), 20000


def draw(share, right=RIGHT, wrong=WRONG, number=NUMBER, seed=0):
    """Angles of which a share is as wrong as the others, which are wrong, and the others."""
    rng = np.random.default_rng(seed)
    is_wrong = np.arange(number) < round(share * number)

    def angles(kind, count):
        return np.minimum(np.exp(rng.normal(math.log(kind[0]), kind[1], count)), 180)

    own = np.where(is_wrong, angles(wrong, number), angles(right, number))
    return torch.from_numpy(own), is_wrong, torch.from_numpy(angles(wrong, number))


def bayes(share, right, wrong) -> float:
    """Where, between the two medians, both kinds are as likely: by halving."""
    low, high = right[0], wrong[0]
    for _ in range(60):
        middle = (low + high) / 2
        wrong_density = share * norm.pdf(math.log(middle), math.log(wrong[0]), wrong[1])
        right_density = (1 - share) * norm.pdf(math.log(middle), math.log(right[0]), right[1])
        low, high = (low, middle) if wrong_density > right_density else (middle, high)
    return low


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0.02, 0.6),
    st.floats(15, 40),
    st.floats(0.1, 0.25),
    st.floats(75, 100),
    st.floats(0.04, 0.12),
    st.integers(0, 10),
)
def test_threshold_is_where_a_sample_is_as_likely_wrong(share, near, wide, far, narrow, seed):
    right, wrong = (near, wide), (far, narrow)
    angles, is_wrong, others = draw(share, right, wrong, seed=seed)
    fit = fit_angle_mixture(angles, others)
    best = bayes(share, right, wrong)
    assert fit.threshold == pytest.approx(best, rel=0.05)
    assert fit.noise_share == pytest.approx(share, abs=0.02)
    distance = abs(math.log(far) - math.log(near)) / math.sqrt((wide**2 + narrow**2) / 2)
    assert fit.separation == pytest.approx(distance, rel=0.1)
    dropped = angles.numpy() > fit.threshold
    assert fit.expected_precision == pytest.approx(precision_score(is_wrong, dropped), abs=0.05)
    assert fit.expected_recall == pytest.approx(recall_score(is_wrong, dropped), abs=0.05)
    # No threshold errs much less than this one.
    errors = (dropped != is_wrong).mean()
    least = min(((angles.numpy() > t) != is_wrong).mean() for t in np.arange(20, 100, 0.5))
    assert errors <= least + 0.004
    assert fit.misfit < 0.04


def test_half_of_the_labels_are_wrong():
    angles, is_wrong, others = draw(0.5)
    fit = fit_angle_mixture(angles, others)
    assert fit.noise_share == pytest.approx(0.5, abs=0.005)
    assert precision_score(is_wrong, angles.numpy() > fit.threshold) > 0.99
    assert recall_score(is_wrong, angles.numpy() > fit.threshold) > 0.99


@pytest.mark.parametrize('near', [10.0, 30.0, 50.0])
def test_without_noise_little_is_dropped(near):
    for seed in range(3):
        angles, _, others = draw(0, (near, 0.2), seed=seed)
        fit = fit_angle_mixture(angles, others)
        assert (angles > fit.threshold).double().mean() < 0.02
        assert fit.noise_share < 0.02
        # Of angles that are not normal either.
        angles = 5 + (near - 5) * torch.rand(2000, generator=torch.Generator().manual_seed(seed))
        assert (angles > fit_angle_mixture(angles, others).threshold).double().mean() < 0.02


def test_few_wrong_ones_are_seen_among_many():
    angles, is_wrong, others = draw(0.002)
    fit = fit_angle_mixture(angles, others)
    dropped = angles.numpy() > fit.threshold
    assert recall_score(is_wrong, dropped) > 0.8
    assert precision_score(is_wrong, dropped) > 0.8


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 0.6), st.integers(2, 200), st.integers(0, 5))
def test_fit_depends_on_no_order_and_no_precision(share, number, seed):
    angles, _, others = draw(share, number=number, seed=seed)
    fit = fit_angle_mixture(angles, others)
    for turned in (angles.flip(0), angles[torch.randperm(number)]):
        assert fit_angle_mixture(turned, others.flip(0)) == fit
    # Each twice is the same distribution.
    assert astuple(fit_angle_mixture(angles.repeat(2), others.repeat(2))) == pytest.approx(
        astuple(fit)
    )


def test_noise_that_is_nearer_than_other_classes_is_noticed():
    """As where wrong labels are all of the class that is most alike."""
    near, _, others = draw(0.4, wrong=(55, 0.05))
    far = draw(0)[2]
    assert others.median() < 60 < far.median()
    assert fit_angle_mixture(near, far).misfit > 0.1
    assert fit_angle_mixture(near, others).misfit < 0.03


@pytest.mark.parametrize('angle', [0.0, 0.5, 30.0, 60.0])
def test_one_sample(angle):
    fit = fit_angle_mixture(torch.tensor([angle]), draw(0)[2])
    assert fit.threshold > angle
    assert fit.noise_share < 0.01
    assert fit.expected_precision is None or 0 <= fit.expected_precision <= 1


def test_angles_at_both_ends():
    angles = torch.tensor([0.0] * 3 + [20.0] * 50 + [25.0] * 50 + [87.0] * 5 + [180.0])
    fit = fit_angle_mixture(angles, torch.tensor([0.0] + [90.0, 85.0] * 500 + [180.0]))
    assert 25 <= fit.threshold < 87
    assert fit.noise_share == pytest.approx(6 / 109, abs=0.03)
    same = torch.full((10,), 180.0)
    assert fit_angle_mixture(0 * same, same).threshold > 0


@pytest.mark.parametrize(('share', 'classes'), [(0.2, 5), (0.4, 20)])
def test_wrong_ones_are_near_one_of_the_other_classes(share, classes):
    """The one that they are of."""
    angles, is_wrong, others = draw(share)
    met = round(share / (classes - 1) * NUMBER)
    others[:met] = angles[~torch.from_numpy(is_wrong)][:met]
    fit = fit_angle_mixture(angles, others)
    dropped = angles.numpy() > fit.threshold
    assert fit.noise_share == pytest.approx(share, abs=0.02)
    assert recall_score(is_wrong, dropped) > 0.99
    assert dropped[~is_wrong].mean() < 0.01


def test_nothing_to_fit():
    some = torch.tensor([30.0])
    for arguments, name in ((some[:0], some), 'angles'), ((some, some[:0]), 'nontarget_angles'):
        with pytest.raises(ValueError, match=f'^{name} must be at least one, got none'):
            fit_angle_mixture(*arguments)


@pytest.mark.parametrize('bad', [-0.1, 180.5, math.nan, math.inf])
def test_angles_that_are_none(bad):
    good, wrong = torch.tensor([30.0, 90.0]), torch.tensor([30.0, bad])
    for arguments, name in ((wrong, good), 'angles'), ((good, wrong), 'nontarget_angles'):
        with pytest.raises(ValueError, match=rf'^{name} must be in \[0, 180\] degrees, got {bad}'):
            fit_angle_mixture(*arguments)


@pytest.mark.parametrize('near', [85.0, 84.0, 95.0, 150.0])
def test_kinds_that_cannot_be_told_apart(near):
    angles, _, others = draw(0, (near, 0.08))
    with pytest.raises(ValueError, match='no threshold can be found') as error:
        fit_angle_mixture(angles, others)
    median = re.search(r'median (\d+\.\d) degrees\) .* \((\d+\.\d)\): ', str(error.value))
    wanted = [float(angles.median()), float(others.median())]
    assert [float(text) for text in median.groups()] == pytest.approx(wanted, abs=0.11)
