"""Angles against loops, scikit-learn and what geometry says."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from mmarcface.functional.angles import intra_class_angle, mean_directions, min_inter_class_angle


def sample(seed: int, dim: int = 5, number: int = 60, classes: int = 4):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(number, dim, generator=generator) + 0.5
    return vectors, torch.randint(classes, (number,), generator=generator)


@pytest.mark.parametrize('dim', [2, 3, 64])
def test_against_loops(dim):
    vectors, labels = sample(dim, dim)
    unit = normalize(vectors.double().numpy())
    directions, angles = [], []
    for label in range(4):
        own = unit[labels.numpy() == label]
        mean = own.mean(0, keepdims=True)
        directions.append(mean[0] / np.linalg.norm(mean))
        angles += np.degrees(np.arccos(cosine_similarity(own, mean))).ravel().tolist()
    found = mean_directions(vectors, labels, 4)
    np.testing.assert_allclose(found, directions, rtol=1e-6)
    assert intra_class_angle(vectors, labels) == pytest.approx(np.mean(angles), rel=1e-6)
    pairs = [
        np.degrees(np.arccos(directions[i] @ directions[j])) for i in range(4) for j in range(i)
    ]
    assert min_inter_class_angle(found) == pytest.approx(min(pairs), rel=1e-6)


def test_ten_rays_on_a_plane():
    turn = torch.arange(10) * 2 * math.pi / 10
    rays = torch.stack([turn.cos(), turn.sin()], 1)
    assert min_inter_class_angle(rays) == pytest.approx(36, abs=1e-3)
    # Two of each class, 5 degrees to either side.
    off = math.radians(5)
    both = torch.cat([turn - off, turn + off])
    vectors = torch.stack([both.cos(), both.sin()], 1)
    assert intra_class_angle(vectors, torch.arange(10).repeat(2)) == pytest.approx(5, abs=1e-4)


def test_lengths_do_not_count():
    vectors, labels = sample(0)
    scaled = vectors * torch.rand(60, 1).add(0.1) * 1e3
    expected = intra_class_angle(vectors, labels)
    assert intra_class_angle(scaled, labels) == pytest.approx(expected, rel=1e-5)
    assert min_inter_class_angle(scaled) == pytest.approx(min_inter_class_angle(vectors), rel=1e-5)


def test_small_angles_are_exact():
    rays = torch.tensor([[1.0, 0.0], [1.0, 1e-5]], dtype=torch.double)
    assert min_inter_class_angle(rays) == pytest.approx(math.degrees(1e-5), rel=1e-4)
    assert min_inter_class_angle(torch.ones(2, 3)) == pytest.approx(0, abs=1e-5)
    assert intra_class_angle(torch.ones(4, 3), torch.zeros(4).long()) == pytest.approx(0, abs=1e-5)


def test_half_precision():
    vectors, labels = sample(1)
    half = vectors.half()
    assert intra_class_angle(half, labels) == intra_class_angle(half.float(), labels)
    # The squares of these are infinite in half precision.
    assert min_inter_class_angle(half * 1e4) == pytest.approx(
        min_inter_class_angle(half.float()), rel=1e-2
    )


def test_zero_vectors_do_not_count():
    vectors, labels = sample(2)
    expected = intra_class_angle(vectors, labels)
    more = torch.cat([vectors, torch.zeros(5, 5)])
    labels = torch.cat([labels, torch.tensor([0, 1, 2, 3, 9])])
    assert intra_class_angle(more, labels) == pytest.approx(expected)
    directions = mean_directions(more, labels, 10)
    assert directions.norm(dim=1).gt(0.5).tolist() == [True] * 4 + [False] * 6
    assert min_inter_class_angle(directions) == pytest.approx(min_inter_class_angle(directions[:4]))


def test_class_without_a_direction_does_not_count():
    vectors = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert mean_directions(vectors, labels, 2).tolist() == [[0, 0], [0, 1]]
    assert intra_class_angle(vectors, labels) == pytest.approx(0, abs=1e-6)


def test_nothing_to_measure():
    nothing, none = torch.zeros(0, 3), torch.zeros(0).long()
    assert mean_directions(nothing, none, 2).tolist() == [[0] * 3] * 2
    assert math.isnan(intra_class_angle(nothing, none))
    assert math.isnan(intra_class_angle(torch.zeros(2, 3), torch.tensor([0, 1])))
    assert math.isnan(min_inter_class_angle(torch.ones(1, 3)))
    assert math.isnan(min_inter_class_angle(torch.tensor([[1.0, 0], [0, 0]])))
