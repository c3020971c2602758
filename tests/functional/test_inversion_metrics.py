import json
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sklearn.neighbors import NearestCentroid, NearestNeighbors

from mmarcface.functional import inversion_metrics
from mmarcface.functional.calibration import wilson_interval
from mmarcface.functional.inversion_metrics import (
    RealEmbeddings,
    evaluate_inversions,
    frechet_distance,
    nearest_image_rms,
)

seeds = st.integers(0, 2**32 - 1)


def clusters(seed, labels, noise=1.0, width=5):
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(50, width))
    lengths = generator.uniform(0.5, 5, (len(labels), 1))
    vectors = centers[labels] + noise * generator.normal(size=(len(labels), width))
    return torch.from_numpy(vectors * lengths)


def naive(generated, labels, real, real_labels, threshold):
    """Every figure by loops over pairs, in fp64."""
    g, r = (v.numpy() / np.linalg.norm(v, axis=1, keepdims=True) for v in (generated, real))
    identities = sorted(set(real_labels))

    def template(identity):
        mean = np.mean([r[i] for i in range(len(r)) if real_labels[i] == identity], 0)
        return mean / np.linalg.norm(mean)

    def is_recognized(vector, label, templates):
        cosines = {name: vector @ t for name, t in templates.items()}
        return max(cosines, key=cosines.get) == label

    templates = {name: template(name) for name in identities}
    named = [is_recognized(v, label, templates) for v, label in zip(g, labels, strict=True)]
    real_named = []
    for i, label in enumerate(real_labels):
        mates = [j for j in range(len(r)) if j != i and real_labels[j] == label]
        if mates:
            mean = np.mean(r[mates], 0)
            own = templates | {label: mean / np.linalg.norm(mean)}
            real_named.append(is_recognized(r[i], label, own))
    pairs = list(combinations(range(len(r)), 2))
    same = [r[i] @ r[j] for i, j in pairs if real_labels[i] == real_labels[j]]
    other = [r[i] @ r[j] for i, j in pairs if real_labels[i] != real_labels[j]]
    own = [
        [v @ r[j] for j in range(len(r)) if real_labels[j] == label]
        for v, label in zip(g, labels, strict=True)
    ]
    strange = [
        np.mean([v @ r[j] for j in range(len(r)) if real_labels[j] != label])
        for v, label in zip(g, labels, strict=True)
    ]
    shares = {
        name: np.mean([n for n, lb in zip(named, labels, strict=True) if lb == name])
        for name in labels
    }
    return dict(
        attack_accuracy=np.mean(named),
        real_accuracy=np.mean(real_named),
        chance_accuracy=1 / len(identities),
        identities=len(shares),
        identities_reidentified=sum(share >= 0.5 for share in shares.values()),
        cosine_own=np.mean([np.mean(values) for values in own]),
        cosine_other=np.mean(strange),
        cosine_real=np.mean(same),
        cosine_real_other=np.mean(other),
        accepted=np.mean([np.mean(np.array(values) >= threshold) for values in own]),
        accepted_real=np.mean(np.array(same) >= threshold),
        far=np.mean(np.array(other) >= threshold),
    )


@pytest.mark.parametrize('per_block', [1, 1 << 22])
@settings(deadline=None, max_examples=25)
@given(seed=seeds)
def test_figures_equal_loops_over_pairs(per_block, seed):
    generator = np.random.default_rng(seed)
    # Labels with gaps, in any order, some of one image only.
    real_labels = np.append([3, 3, 8], generator.choice([3, 8, 9, 20, 41], 25)).tolist()
    labels = generator.choice(real_labels, 12).tolist()
    real, generated = clusters(seed, real_labels), clusters(seed + 1, labels, 1.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inversion_metrics, 'SCORES_PER_BLOCK', per_block)
        report = evaluate_inversions(generated, labels, RealEmbeddings(real, real_labels, [0.1]))
    expected = naive(generated, labels, real, real_labels, report['threshold@FAR=0.1'])
    assert expected.pop('far') <= 0.1
    for key in ('accepted', 'accepted_real'):
        assert report[f'{key}@FAR=0.1'] == pytest.approx(expected.pop(key), abs=1e-12)
    for key, value in expected.items():
        assert report[key] == pytest.approx(value, abs=1e-6), key
    assert json.loads(json.dumps(report)) == report


def test_names_equal_those_of_sklearn():
    labels = np.arange(300) % 10
    real, generated = clusters(0, labels), clusters(1, labels, 2)
    report = evaluate_inversions(generated, labels, RealEmbeddings(real, labels))
    unit = [(v / v.norm(dim=1, keepdim=True)).numpy() for v in (real, generated)]
    peer = NearestCentroid().fit(unit[0], labels)
    # Sklearn's centroids are not of unit length, ours are.
    peer.centroids_ /= np.linalg.norm(peer.centroids_, axis=1, keepdims=True)
    right = peer.predict(unit[1]) == labels
    assert report['attack_accuracy'] == right.mean()
    interval = report['attack_accuracy_low'], report['attack_accuracy_high']
    assert interval == wilson_interval(int(right.sum()), 300)
    for identity in report['per_identity']:
        own = labels == identity['label']
        assert (identity['named'], identity['images']) == (right[own].sum(), 30)
        assert identity['reidentified'] == (2 * right[own].sum() >= 30)
    assert np.mean([one['cosine_own'] for one in report['per_identity']]) == pytest.approx(
        report['cosine_own']
    )


def test_real_images_are_recognised_and_strangers_are_not():
    labels = np.arange(400) % 20
    reference = RealEmbeddings(clusters(0, labels, 0.1), labels)
    report = evaluate_inversions(clusters(1, labels, 0.1), labels, reference)
    assert report['attack_accuracy'] > 0.99
    assert report['real_accuracy'] > 0.99
    assert report['identities_reidentified'] == report['identities'] == 20
    assert report['cosine_own'] == pytest.approx(report['cosine_real'], abs=0.02)
    assert report['frechet'] < 3 * report['frechet_real'] + 0.01
    assert report['notes'] == []
    noise = evaluate_inversions(torch.randn(400, 5), labels, reference)
    assert noise['attack_accuracy_low'] < 3 * noise['chance_accuracy']
    assert noise['frechet'] > 3 * noise['frechet_real']


def test_half_of_the_images_make_an_identity():
    real = torch.eye(3).repeat_interleave(2, 0)
    generated = torch.eye(3)[[0, 1, 1, 1, 2]]
    report = evaluate_inversions(
        generated, [0, 0, 1, 2, 2], RealEmbeddings(real, [0, 0, 1, 1, 2, 2])
    )
    assert [one['named'] for one in report['per_identity']] == [1, 1, 1]
    assert report['identities_reidentified'] == 3
    report = evaluate_inversions(generated[:3], [0, 0, 0], RealEmbeddings(real, [0, 0, 1, 1, 2, 2]))
    assert report['identities_reidentified'] == 0


def test_a_blind_judge_names_nobody():
    real = torch.zeros(6, 4)
    reference = RealEmbeddings(real, [0, 0, 1, 1, 2, 2])
    report = evaluate_inversions(torch.randn(3, 4), [0, 1, 2], reference)
    assert report['attack_accuracy'] == report['real_accuracy'] == 0
    assert 'the judge recognizes only 0% of the real images' in report['notes'][-1]


def test_one_image_has_no_frechet_distance():
    labels = [0, 0, 1, 1]
    report = evaluate_inversions(clusters(1, [1]), [1], RealEmbeddings(clusters(0, labels), labels))
    assert report['frechet'] is report['frechet_real'] is None
    assert any(note.startswith('FAR=0.01 allows 0 of 4 pairs') for note in report['notes'])


def test_sampled_pairs(monkeypatch):
    counts = np.array([1, 2, 3, 10])
    labels = torch.from_numpy(np.repeat([0, 1, 2, 3], counts))
    every = inversion_metrics._draw_pairs(counts)
    assert every.tolist() == [list(pair) for pair in combinations(range(16), 2)]
    monkeypatch.setattr(inversion_metrics, 'MAX_PAIRS', 100)
    drawn = inversion_metrics._draw_pairs(counts)
    assert drawn.shape == (200, 2)
    assert (drawn[:, 0] != drawn[:, 1]).all()
    is_same = labels[drawn[:, 0]] == labels[drawn[:, 1]]
    assert is_same[:100].all()
    assert not is_same[100:].any()


def test_sampled_pairs_are_uniform(monkeypatch):
    counts = np.array([1, 2, 3, 4])
    labels = np.repeat([0, 1, 2, 3], counts)
    monkeypatch.setattr(inversion_metrics, 'MAX_PAIRS', 40)
    seeds = iter(range(1000))
    make = np.random.default_rng
    monkeypatch.setattr(np.random, 'default_rng', lambda _: make(next(seeds)))
    drawn = (
        torch.cat([inversion_metrics._draw_pairs(counts) for _ in range(500)])
        .sort(1)
        .values.numpy()
    )
    seen = np.zeros((10, 10))
    np.add.at(seen, tuple(drawn.T), 1)
    same = labels[:, None] == labels
    upper = np.triu(np.ones((10, 10), bool), 1)
    for kind in (upper & same, upper & ~same):
        expected = 20_000 / kind.sum()
        assert np.abs(seen[kind] / expected - 1).max() < 6 / np.sqrt(expected)
    assert seen[~upper].sum() == 0


def test_sample_gives_nearly_the_same_thresholds(monkeypatch):
    labels = np.arange(400) % 20
    real = clusters(0, labels)
    every = RealEmbeddings(real, labels).calibrations
    monkeypatch.setattr(inversion_metrics, 'MAX_PAIRS', 50_000)
    sampled = RealEmbeddings(real, labels).calibrations
    for one, other in zip(every, sampled, strict=True):
        assert one.num_other != other.num_other
        assert one.threshold == pytest.approx(other.threshold, abs=0.02)
        assert one.tar == pytest.approx(other.tar, abs=0.03)


REAL_LABELS = [0, 0, 1, 1]


@pytest.mark.parametrize(
    ('vectors', 'labels', 'message'),
    [
        (torch.ones(2, 3), [0, 2], 'labels must be among the 2 identities .* got 2'),
        (torch.ones(2, 3), [-1, 0], 'labels must be among the 2 identities .* got -1'),
        (torch.ones(2, 3), [0], r'labels of the generated images must be 2 .* got \(1,\)'),
        (torch.ones(2, 3), [0.5, 1], 'must be 2 whole numbers, .* of torch.float'),
        (torch.ones(2, 4), [0, 1], 'generated embeddings must be 3 wide, .* got 4'),
        (torch.ones(3), [0, 1, 1], r'must be \(images, width\), at least one, got \(3,\)'),
        (torch.empty(0, 3), [], r'must be \(images, width\), at least one, got \(0, 3\)'),
        (torch.tensor([[1.0, 0, 0], [0, np.nan, 0]]), [0, 1], 'got 1 rows .* first is row 1'),
    ],
)
def test_refused(vectors, labels, message):
    reference = RealEmbeddings(torch.randn(4, 3), REAL_LABELS)
    with pytest.raises(ValueError, match=message):
        evaluate_inversions(vectors, labels, reference)


def test_refused_real_images():
    for labels in ([5] * 4, [0, 1, 2, 3]):
        with pytest.raises(ValueError, match='at least two identities, one of them with two'):
            RealEmbeddings(torch.randn(4, 3), labels)
    with pytest.raises(ValueError, match='real embeddings must be finite, got 4 rows'):
        RealEmbeddings(torch.full((4, 3), torch.inf), REAL_LABELS)
    with pytest.raises(ValueError, match=r'far must be in \[0, 1\], got 2'):
        RealEmbeddings(torch.randn(4, 3), REAL_LABELS, [2])


@settings(deadline=None)
@given(seed=seeds, sizes=st.tuples(*[st.integers(2, 30)] * 2), width=st.integers(1, 12))
def test_frechet_distance_equals_its_definition(seed, sizes, width):
    generator = np.random.default_rng(seed)
    a, b = (generator.normal(size=(n, width)) @ generator.normal(size=(width,) * 2) for n in sizes)
    covariances = [np.atleast_2d(np.cov(v, rowvar=False)) for v in (a, b)]
    # Its eigenvalues are not negative; where a covariance is singular sqrtm is no reference.
    roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(0)).sum()
    if min(sizes) > width + 1:
        assert roots == pytest.approx(np.trace(sqrtm(covariances[0] @ covariances[1])).real)
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    expected += sum(map(np.trace, covariances)) - 2 * roots
    found = frechet_distance(torch.from_numpy(a), torch.from_numpy(b))
    scale = sum(map(np.trace, covariances))
    assert found == pytest.approx(max(0, expected), abs=1e-6 * scale)


@pytest.mark.parametrize('number', [3, 40])
def test_frechet_distance_of_a_moved_set(number):
    a = torch.randn(number, 16, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(a, a.double() + 2) == pytest.approx(16 * 4)
    # Gaussians along one line: the squared difference of the standard deviations.
    line = a[:, :1] * torch.ones(1, 4)
    spread = 4 * a[:, 0].double().var()
    centered = line.double() - line.double().mean(0)
    assert frechet_distance(centered, 3 * centered) == pytest.approx(float(4 * spread))


def test_frechet_distance_refuses():
    a = torch.randn(5, 3)
    for b in (a[:1], a[:, :2], a[0]):
        with pytest.raises(ValueError, match='matrices of one width with at least two rows each'):
            frechet_distance(a, b)
    with pytest.raises(ValueError, match='b must be finite, got 5 rows'):
        frechet_distance(a, a * torch.nan)


@pytest.mark.parametrize('per_block', [1, 200, 1 << 24])
def test_nearest_distance_equals_that_of_sklearn(monkeypatch, per_block):
    monkeypatch.setattr(inversion_metrics, 'PIXELS_PER_BLOCK', per_block)
    generator = np.random.default_rng(0)
    images, others = (generator.integers(0, 256, (n, 5, 4, 3), np.uint8) for n in (7, 11))
    flat, other_flat = (v.reshape(len(v), -1).astype(float) for v in (images, others))
    peer = NearestNeighbors(n_neighbors=2, algorithm='brute').fit(other_flat)
    distances, places = peer.kneighbors(flat)
    found = nearest_image_rms(images, others)
    np.testing.assert_allclose(found, distances[:, 0] / np.sqrt(60))
    left_out = nearest_image_rms(images, others, leave_out=places[:, 0])
    np.testing.assert_allclose(left_out, distances[:, 1] / np.sqrt(60))
    among = nearest_image_rms(others, others, leave_out=np.arange(11))
    np.testing.assert_allclose(among, peer.kneighbors()[0][:, 0] / np.sqrt(60))
    assert (nearest_image_rms(others, others) == 0).all()


def test_nearest_distance_in_gray_levels():
    black, gray = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert nearest_image_rms(black, gray).tolist() == [255]


def test_nearest_distance_refuses():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r'others must be \(N, H, W, C\), uint8, .* float64'):
        nearest_image_rms(images, images.astype(float))
    with pytest.raises(ValueError, match=r'of one size, got \(4, 4, 3\) and \(3, 4, 3\)'):
        nearest_image_rms(images, images[:, :3])
    for others, leave_out in ((images[:0], None), (images[:1], [0, 0])):
        with pytest.raises(ValueError, match='others must hold an image to compare with'):
            nearest_image_rms(images, others, leave_out)
    with pytest.raises(ValueError, match=r'one place for each of 2 images, got \(1,\)'):
        nearest_image_rms(images, images, [0])
