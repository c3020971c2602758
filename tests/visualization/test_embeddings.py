from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from sklearn.decomposition import TruncatedSVD

from mmarcface.visualization import EmbeddingPanel, draw_embeddings, figure_to_image
from mmarcface.visualization.embeddings import COLORS


def rays(dim: int, classes: int = 4, each: int = 25, seed: int = 0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(classes, dim))
    labels = np.arange(classes).repeat(each)
    noise = 0.05 * rng.normal(size=(len(labels), dim))
    return (centers[labels] + noise).astype(np.float32), labels, centers


def degrees(one, other) -> float:
    cosine = np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def angles_of(vectors, labels) -> tuple[float, float]:
    """Naive: to the mean direction of the own class, and between the nearest two of them."""
    units = [v / np.linalg.norm(v) for v in vectors.astype(float)]
    means = [np.mean([u for u, y in zip(units, labels, strict=True) if y == c], 0)
             for c in range(labels.max() + 1)]  # fmt: skip
    within = np.mean([degrees(u, means[y]) for u, y in zip(units, labels, strict=True)])
    return within, min(degrees(one, other) for one, other in combinations(means, 2))


def texts_of(axes) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.get_position() for text in axes.texts}


def test_points_of_a_plane_are_drawn_as_they_are():
    vectors, labels, centers = rays(2)
    (axes,) = draw_embeddings([EmbeddingPanel('ArcFace', vectors, labels, centers)]).axes
    (points,) = axes.collections
    drawn, colors = points.get_offsets(), points.get_facecolors()
    factor = np.quantile(np.hypot(*vectors.T), 0.99)
    expected = {
        (*(vector / factor).round(4), COLORS[label])
        for vector, label in zip(vectors.astype(float), labels, strict=True)
    }
    found = {
        (*place.round(4), to_hex(color)) for place, color in zip(drawn.data, colors, strict=True)
    }
    assert found == expected
    # A ray for each center, and its name at the end.
    units = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    ends = np.array([line.get_xydata()[-1] for line in axes.lines])
    np.testing.assert_allclose(ends, units)
    for label, unit in enumerate(units):
        np.testing.assert_allclose(texts_of(axes)[str(label)], 1.17 * unit)


def test_sphere_is_an_equal_area_map():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40_000, 3))
    panel = EmbeddingPanel('', vectors, np.zeros(40_000, int))
    (axes,) = draw_embeddings([panel]).axes
    places = axes.collections[0].get_offsets().data
    assert ((places[:, 0] / 1.2) ** 2 + (places[:, 1] / 0.6) ** 2 <= 1 + 1e-9).all()
    # Equally many in parts of equal area, here boxes and a ring.
    for x, y in ((0, 0), (0.7, 0.1), (-0.5, -0.3)):
        inside = (np.abs(places - [x, y]) < 0.1).all(1)
        assert inside.mean() == pytest.approx(0.04 / (np.pi * 1.2 * 0.6), rel=0.1)
    rim = (places[:, 0] / 1.2) ** 2 + (places[:, 1] / 0.6) ** 2 > 0.9
    assert rim.mean() == pytest.approx(0.1, rel=0.1)


def test_poles_and_the_middle_of_the_map():
    vectors = np.array([[5.0, 0, 0], [0, 0, 2], [0, 0, -3], [0, 1, 0]])
    (axes,) = draw_embeddings([EmbeddingPanel('', vectors, np.arange(4), vectors)]).axes
    crosses = np.array([line.get_xydata()[0] for line in axes.lines])
    np.testing.assert_allclose(crosses[:3], [[0, 0], [0, 0.6], [0, -0.6]], atol=1e-12)
    assert 0 < crosses[3, 0] < 1.2
    assert crosses[3, 1] == pytest.approx(0)


def test_more_dimensions_are_drawn_along_principal_axes():
    vectors, labels, centers = rays(6)
    (axes,) = draw_embeddings([EmbeddingPanel('loss', vectors, labels, centers)]).axes
    assert axes.get_title() == 'loss\n(2 of 6 principal axes)'
    found = axes.collections[0].get_offsets().data
    expected = TruncatedSVD(2, algorithm='arpack').fit_transform(vectors.astype(float))
    # Up to the order of the points, signs and the scale.
    found = np.sort(np.abs(found), axis=0)
    expected = np.sort(np.abs(expected), axis=0)
    np.testing.assert_allclose(found / found.max(), expected / expected.max(), atol=1e-6)


def test_title_and_figures():
    vectors, labels, centers = rays(3)
    panels = [EmbeddingPanel(name, vectors, labels, centers, accuracy=a) for name, a in
              (('softmax', 97.25), ('ArcFace', None))]  # fmt: skip
    first, second = draw_embeddings(panels).axes
    assert first.get_title() == 'softmax'
    lines = first.get_xlabel().split('\n')
    within, between = angles_of(vectors, labels)
    assert lines[0] == f'within class {within:.1f}\N{DEGREE SIGN}'
    assert lines[1] == f'nearest classes {between:.1f}\N{DEGREE SIGN}'
    assert lines[2] == 'accuracy 97.2 %'
    assert 'accuracy' not in second.get_xlabel()
    assert 0 < within < 10 < between
    assert panels[0].statistics == pytest.approx(
        {'within class': within, 'nearest classes': between, 'accuracy': 97.25}, abs=1e-4
    )
    assert 'accuracy' not in panels[1].statistics


def test_without_centers_the_directions_of_classes_are_drawn():
    vectors, labels, centers = rays(2)
    panel = EmbeddingPanel('', vectors, labels)
    nearest = min(degrees(one, other) for one, other in combinations(panel.centers, 2))
    assert nearest == pytest.approx(angles_of(vectors, labels)[1], abs=1e-4)
    (axes,) = draw_embeddings([panel]).axes
    units = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    ends = np.array([line.get_xydata()[-1] for line in axes.lines])
    np.testing.assert_allclose(ends, units, atol=0.1)


def test_sub_centers_have_the_color_of_their_class():
    vectors, labels, centers = rays(2, classes=3)
    pairs = centers.repeat(2, axis=0) + np.tile([[0.1, 0], [-0.1, 0]], (3, 1))
    (axes,) = draw_embeddings([EmbeddingPanel('', vectors, labels, pairs, num_subcenters=2)]).axes
    colors = [line.get_color() for line in axes.lines]
    assert colors == [COLORS[label] for label in (0, 0, 1, 1, 2, 2)]


def test_classes_that_are_not_there_and_centers_without_direction_are_left_out():
    vectors, labels, centers = rays(2)
    more = np.concatenate([centers, np.ones((3, 2))])
    more[1] = 0
    (axes,) = draw_embeddings([EmbeddingPanel('', vectors, labels, more, names='abcdefg')]).axes
    assert set(texts_of(axes)) == {'a', 'c', 'd'}


def test_many_classes_and_many_panels():
    vectors, labels, centers = rays(2, classes=30, each=2)
    figure = draw_embeddings([EmbeddingPanel(str(i), vectors, labels, centers) for i in range(4)])
    assert [axes.get_title() for axes in figure.axes] == list('0123')
    # Thirty names would hide what there is to see.
    assert not figure.axes[0].texts
    image = figure_to_image(figure, dpi=50)
    assert image.shape == (310, 405, 3)
    assert image.dtype == np.uint8
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100


def test_zero_embeddings_are_drawn():
    (axes,) = draw_embeddings([EmbeddingPanel('', np.zeros((3, 2)), np.arange(3))]).axes
    assert not axes.lines
    figure_to_image(axes.figure)


def test_nothing_to_draw():
    with pytest.raises(ValueError, match='panels must be at least one, got none'):
        draw_embeddings([])
    with pytest.raises(ValueError, match='at least 2 dimensions, got 1'):
        draw_embeddings([EmbeddingPanel('', np.ones((3, 1)), np.arange(3))])
