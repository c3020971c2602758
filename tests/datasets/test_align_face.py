import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import least_squares

from mmarcface.datasets import AlignFace
from mmarcface.datasets.formats.landmarks import are_exchanged
from mmarcface.datasets.transforms.align_face import TEMPLATE, fit_similarity

from .writers import write_lines

# The points that ArcFace's models were trained with, and their usual versions of other sizes.
ARCFACE = [
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
]
SPHEREFACE = [(x - 8, y) for x, y in ARCFACE]
TWICE = [(2 * x, 2 * y) for x, y in ARCFACE]
SIZES = [(112, ARCFACE), ((112, 96), SPHEREFACE), (224, TWICE), ((224, 192), None), (56, None)]


def turned(points, scale, angle, shift):
    """Points as numbers of the complex plane, where a similarity is a product and a sum."""
    moved = scale * np.exp(1j * angle) * (points @ (1, 1j)) + complex(*shift)
    return np.stack([moved.real, moved.imag], 1)


def by_search(source, target):
    """The best similarity by a search over scale, angle and shift from many starts."""

    def misses(values):
        return (turned(source, np.exp(values[0]), values[1], values[2:]) - target).ravel()

    starts = [[0.0, angle, *target.mean(0)] for angle in (-2, 0, 2)]
    found = [
        least_squares(misses, start, xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=500)
        for start in starts
    ]
    return min(found, key=lambda one: one.cost)


@pytest.mark.parametrize('number', [2, 5])
@pytest.mark.parametrize('seed', range(8))
def test_fit_is_the_least_squares_one(number, seed):
    random = np.random.default_rng(seed)
    source = random.normal(size=(number, 2)) * 20 + 60
    target = turned(source, 0.3 + seed, seed, (5, -3)) + random.normal(size=(number, 2)) * seed
    matrix = fit_similarity(source, target)
    found = source @ matrix[:, :2].T + matrix[:, 2]
    best = by_search(source, target)
    assert ((found - target) ** 2).sum() / 2 == pytest.approx(best.cost, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose((found - target).ravel(), best.fun, atol=1e-3)


@settings(deadline=None)
@given(
    arrays(float, (5, 2), elements=st.integers(-100, 300).map(float)),
    st.floats(0.1, 10),
    st.floats(-4, 4),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    st.sampled_from([2, 5]),
)
def test_similarity_is_recovered(points, scale, angle, shift, number):
    points = points[:number]
    target = turned(points, scale, angle, shift)
    matrix = fit_similarity(points, target)
    if (points == points[0]).all():
        assert matrix is None
        return
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    np.testing.assert_allclose(matrix, [[a, -b, shift[0]], [b, a, shift[1]]], atol=1e-6)


def test_template():
    assert TEMPLATE.tolist() == [list(point) for point in ARCFACE]
    for size, expected in SIZES:
        if expected:
            np.testing.assert_allclose(AlignFace(size).template, expected, atol=1e-9)


def dot_at(point, shape=(300, 260)):
    """An image with a round dot, wide enough for a subpixel centroid."""
    y, x = np.indices(shape)
    dot = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / 18)
    return np.repeat(np.round(255 * dot).astype(np.uint8)[..., None], 3, 2)


def centroid(image):
    weights = image[..., 0].astype(float)
    y, x = np.indices(weights.shape)
    return (weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()


@pytest.mark.parametrize(('size', 'expected'), SIZES)
@pytest.mark.parametrize('number', [2, 5])
def test_dots_come_to_the_template(size, expected, number):
    align = AlignFace(size)
    expected = align.template if expected is None else np.array(expected)
    points = turned(np.array(ARCFACE), 1.4, 0.4, (75, 50))
    for point, place in zip(points, expected, strict=True):
        # The eyes alone bring the other points to their places too, where the face fits.
        sample = dict(img=dot_at(point), landmarks=points[:number], img_path='a', gt_label=3)
        result = align(sample)
        height, width = (size, size) if isinstance(size, int) else size
        assert result['img'].shape == (height, width, 3)
        assert result['img_shape'] == (height, width)
        assert (result['img'].dtype, result['gt_label']) == (np.uint8, 3)
        np.testing.assert_allclose(centroid(result['img']), place, atol=0.15)
        np.testing.assert_allclose(result['landmarks'], expected[:number], atol=1e-6)
        assert sample['landmarks'] is not result['landmarks']


def test_no_face_is_mirrored():
    # The best similarity of a mirrored face turns it, and does not mirror it.
    points = np.array(ARCFACE) * (-1, 1) + (112, 0)
    result = AlignFace()(dict(img=dot_at((0, 0)), landmarks=points))
    matrix = fit_similarity(points, np.array(ARCFACE))
    assert np.linalg.det(matrix[:, :2]) > 0
    assert result['landmarks'][0, 0] > result['landmarks'][1, 0]


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines = []
    monkeypatch.setattr(
        'mmarcface.datasets.log_once.print_log',
        lambda text, *_: lines.append(text),
    )
    return lines


# Eyes, eyes and corners, corners, upper and lower half, x and y.
EXCHANGES = {
    'eyes': lambda five: five[[1, 0, 2, 3, 4]],
    'both': lambda five: five[[1, 0, 2, 4, 3]],
    'mouth': lambda five: five[[0, 1, 2, 4, 3]],
    'top and bottom': lambda five: five[[3, 4, 2, 0, 1]],
    'x and y': lambda five: five[:, ::-1],
    'mirrored image': lambda five: five * (-1, 1) + (200, 0),
}
PLAIN = dict(img=np.zeros((300, 260, 3), np.uint8), img_path='faces/a.png')


@pytest.mark.parametrize('angle', [0.0, 0.7, 2.0, 3.1, -1.5])
@pytest.mark.parametrize('exchange', EXCHANGES)
def test_exchanged_landmarks_are_noticed_however_a_face_is_turned(said, exchange, angle):
    points = turned(np.array(ARCFACE), 1.3, angle, (130, 130))
    align = AlignFace()
    wrong = EXCHANGES[exchange](points)
    for _ in range(2):
        align(PLAIN | dict(landmarks=wrong))
    (text,) = said
    assert 'on the left of the upright image first' in text
    assert 'of faces/a.png: its crop may be wrong' in text
    # It is told of each image, once.
    align(PLAIN | dict(landmarks=wrong, img_path='b.png'))
    assert len(said) == 2


@pytest.mark.parametrize('degrees', range(-180, 181, 30))
def test_a_face_that_is_upside_down_is_made_upright_and_told(said, degrees):
    points = turned(np.array(ARCFACE), 1.3, np.radians(degrees + 1), (130, 130))
    result = AlignFace()(PLAIN | dict(landmarks=points))
    np.testing.assert_allclose(result['landmarks'], ARCFACE, atol=1e-6)
    assert len(said) == (abs(degrees) > 90 or degrees == 90)
    for text in said:
        turn = -degrees - 1 if degrees < 180 else 179
        assert f'faces/a.png is turned by {turn} degrees by its landmarks: is it upside' in text
    # Of two eyes the same is an exchange, or it is not.
    said.clear()
    result = AlignFace()(PLAIN | dict(landmarks=points[:2]))
    np.testing.assert_allclose(result['landmarks'], ARCFACE[:2], atol=1e-6)
    assert len(said) == (abs(degrees) > 90 or degrees == 90)
    assert all('faces/a.png: its crop may be wrong' in text for text in said)


def test_no_pose_of_a_face_is_taken_for_an_exchange(said):
    # A face in space, in units of the distance of the eyes: right, down and back.
    face = np.array(
        [(-0.5, 0, 0), (0.5, 0, 0), (0, 0.6, -0.6), (-0.4, 1.1, -0.1), (0.4, 1.1, -0.1)]
    )
    random = np.random.default_rng(0)
    for yaw in np.radians(np.arange(-90, 91, 15)):
        for pitch in np.radians(np.arange(-40, 41, 20)):
            x, y, z = face.T
            x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
            y = y * np.cos(pitch) - z * np.sin(pitch)
            points = 40 * np.stack([x, y], 1) + random.normal(0, 1.5, (5, 2)) + 100
            assert not are_exchanged(points)
            assert not are_exchanged(turned(points, 1, 2.0, (0, 0)))


@pytest.mark.parametrize('number', [2, 5])
def test_a_list_of_the_other_order_is_refused(tmp_path, number):
    points = np.array(ARCFACE)[:number]
    other = points[[1, 0, 2, 4, 3][:number]]
    path = tmp_path / 'points.txt'

    def write(*rows):
        write_lines(path, [(f'{i}.png', *row.ravel()) for i, row in enumerate(rows)])
        return str(path)

    # One or two of many may be of images that are upside down, or poor detections.
    assert len(AlignFace(landmarks=write(points, other, points, other)).landmarks) == 4
    rule = r'points.txt:2: eyes and .* on the left of .* are in 2 of 3 lines: exchange them; got'
    with pytest.raises(ValueError, match=rf'{rule} .* of 1.png'):
        AlignFace(landmarks=write(points, other, other))


@pytest.mark.parametrize('scores', [False, True])
@pytest.mark.parametrize('number', [2, 5])
@pytest.mark.parametrize('header', [False, True])
def test_landmarks_of_a_list(tmp_path, scores, number, header):
    points = {name: turned(np.array(ARCFACE), 1, k, (90, 90)) for k, name in enumerate('ab')}
    rows = [
        (f'{name}/1.png', *of[:number].ravel().tolist(), *[0.9] * scores)
        for name, of in points.items()
    ]
    path = tmp_path / 'points.txt'
    write_lines(path, [*(['2', 'x_1 y_1 x_2'] if header else []), *rows])
    align = AlignFace(landmarks=str(path), img_prefix='data/faces')
    for name, of in points.items():
        image = dot_at(of[0])
        # Those of the list are used, not what a data set may have.
        sample = dict(img=image, img_path=f'data/faces/{name}/1.png', landmarks=np.zeros((5, 2)))
        result = align(sample)
        expected = AlignFace()(dict(img=image, landmarks=of[:number]))
        assert (result['img'] == expected['img']).all()
        assert result['landmarks'].shape == (number, 2)
        np.testing.assert_allclose(centroid(result['img']), ARCFACE[0], atol=0.15)


@pytest.mark.parametrize(
    ('prefix', 'path'),
    [('', 'a/1.png'), ('.', './a/1.png'), ('x/', 'x/a/1.png'), ('/x', '/x//a/1.png')],
)
def test_names_start_from_the_prefix(tmp_path, prefix, path):
    write_lines(tmp_path / 'points.txt', ['a/1.png 10 10 20 11'])
    align = AlignFace(landmarks=str(tmp_path / 'points.txt'), img_prefix=prefix)
    image = np.zeros((30, 30, 3), np.uint8)
    result = align(dict(img=image, img_path=path))
    np.testing.assert_allclose(result['landmarks'], ARCFACE[:2], atol=1e-6)


def test_crop_is_that_of_opencv():
    random = np.random.default_rng(0)
    image = cv2.GaussianBlur(random.integers(0, 255, (200, 180, 3), np.uint8), (0, 0), 3)
    # A whole number of pixels: nothing is interpolated.
    points = np.array(ARCFACE) + (30, 41)
    assert (AlignFace()(dict(img=image, landmarks=points))['img'] == image[41:153, 30:142]).all()


@pytest.mark.parametrize('value', [1e6, -1e300, np.inf, np.nan])
def test_landmarks_far_from_any_image(value):
    points = TEMPLATE.copy()
    points[2, 1] = value
    with pytest.raises(ValueError, match=r'x and y of two or five points in pixels, got'):
        AlignFace()(dict(img=np.zeros((8, 8, 3), np.uint8), landmarks=points))
