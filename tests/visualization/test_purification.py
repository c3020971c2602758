import warnings

import numpy as np
import pytest

from mmarcface.visualization import (
    DroppedRow,
    draw_angles,
    draw_dropped,
    draw_subcenters,
    figure_to_image,
    purification,
)

from .test_inversion import texts


@pytest.fixture(autouse=True)
def no_warnings():
    """Such as of characters that a font lacks, or of axes without extent."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


def assert_inside_and_apart(figure):
    picture = figure_to_image(figure)
    renderer = figure.canvas.get_renderer()
    written = [text for axes in figure.axes for text in axes.texts] + figure.texts
    boxes = [text.get_window_extent(renderer) for text in written]
    boxes += [axes.get_tightbbox(renderer) for axes in figure.axes if axes.axison]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    for box in boxes:
        assert (box.x0, box.y0) >= (-1, -1)
        assert box.x1 <= picture.shape[1] + 1
        assert box.y1 <= picture.shape[0] + 1
    boxes = boxes[: len(written)]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def heights(figure, label):
    """Of the bars whose legend begins so, without what they stand on."""
    (patch,) = (p for p in figure.axes[0].patches if p.get_label().startswith(label))
    values, _, baseline = patch.get_data()
    return values - baseline


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_bars_are_the_share_of_samples():
    figure = draw_angles(np.array([0.0, 1.9, 2.0, 74.9, 75.0, 80.0, 180.0, 180.0]), 75)
    bars = heights(figure, 'samples')
    assert bars.sum() == pytest.approx(100)
    assert [bars[i] for i in (0, 1, 37, 40, 89)] == [25, 12.5, 25, 12.5, 25]
    assert 'threshold 75\N{DEGREE SIGN} drops 37.5%' in texts(figure)
    assert figure.axes[0].lines[0].get_xdata() == [75, 75]
    assert_inside_and_apart(figure)


def test_wrong_labels_are_told_apart():
    angles = np.array([10.0, 20, 30, 80, 70, 90, 100, 110])
    wrong = np.arange(8) >= 4
    figure = draw_angles(angles, 75, wrong=wrong)
    assert legend(figure) == ['rightly labeled (50.0%)', 'wrongly labeled (50.0%)']
    assert 'drops 50.0%: 75.0% of the wrong, 25.0% of the right labels' in texts(figure)
    for label, chosen in (('rightly', ~wrong), ('wrongly', wrong)):
        shares = np.histogram(angles[chosen], np.arange(0, 182, 2))[0] / 8
        np.testing.assert_allclose(heights(figure, label), 100 * shares, atol=1e-12)
    hatches = {patch.get_hatch() for patch in figure.axes[0].patches}
    assert len(hatches) == 2
    assert_inside_and_apart(figure)


def test_other_classes_are_no_higher_than_the_bars():
    angles = np.linspace(0, 100, 1000)
    figure = draw_angles(angles, 60, nontarget_angles=np.full(7, 90.0))
    assert heights(figure, 'to other').max() == pytest.approx(heights(figure, 'samples').max())
    assert legend(figure)[-1] == 'to other classes, scaled down'
    as_it_is = draw_angles(np.full(7, 40.0), 60, nontarget_angles=angles)
    assert heights(as_it_is, 'to other').sum() == pytest.approx(100)
    assert legend(as_it_is)[-1] == 'to other classes'


@pytest.mark.parametrize('threshold', [0, 3, 75, 89.5, 180])
@pytest.mark.parametrize('angles', [[0.0], [180.0], [42.0] * 9, np.linspace(5, 110, 300_000)])
@pytest.mark.parametrize('wrong', [None, False, True])
def test_any_angles_are_drawn(angles, threshold, wrong):
    angles = np.asarray(angles)
    wrong = wrong if wrong is None else np.full(len(angles), wrong)
    figure = draw_angles(angles, threshold, np.array([90.0]), wrong)
    assert 'nan%' not in texts(figure) + ' '.join(legend(figure))
    low, high = figure.axes[0].get_xlim()
    assert low <= min(threshold, angles.min())
    assert high >= max(threshold, angles.max())
    assert_inside_and_apart(figure)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(angles=[]), r'angles must be \(N,\), at least one, got \(0,\)'),
        (dict(angles=[1, np.nan]), r'angles must be in \[0, 180\], got nan'),
        (dict(angles=[1, 181]), r'angles must be in \[0, 180\], got 181'),
        (
            dict(angles=[1], nontarget_angles=[-1]),
            r'nontarget_angles must be in \[0, 180\], got -1',
        ),
        (dict(angles=[1], wrong=[True, False]), r'wrong must be \(1,\) as angles, got \(2,\)'),
    ],
)
def test_wrong_angles(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_angles(threshold=75, **arguments)


def test_shares_are_stacked_largest_first():
    counts = np.array([[5, 0, 5], [0, 0, 0], [0, 8, 2], [1, 0, 0]])
    figure = draw_subcenters(counts)
    assert legend(figure) == ['third', 'second', 'largest']
    assert heights(figure, 'largest').tolist() == [100, 80, 50]
    assert heights(figure, 'second').tolist() == pytest.approx([0, 20, 50])
    assert heights(figure, 'third').tolist() == pytest.approx([0, 0, 0])
    title = texts(figure)
    assert '4 of 9 sub-centers are dead (no samples), 1 of 4 classes is empty' in title
    assert 'median share of the dominant one: 80%' in title


@pytest.mark.parametrize(
    ('classes', 'ways'), [(1, 1), (10, 3), (999, 2), (1001, 3), (2500, 12), (100_000, 3)]
)
def test_subcenters_of_any_number_of_classes(classes, ways):
    counts = np.random.default_rng(0).integers(0, 9, (classes, ways))
    counts[0] = 1
    figure = draw_subcenters(counts)
    bars = sum(patch.get_data()[0] - patch.get_data()[2] for patch in figure.axes[0].patches)
    np.testing.assert_allclose(bars, 100)
    assert len(bars) <= 1000
    seen = counts[counts.any(1)]
    # Joined bars are as wide as the classes that they stand for.
    patch = figure.axes[0].patches[0]
    mean = (patch.get_data()[0] * np.diff(patch.get_data()[1])).sum() / len(seen)
    assert mean == pytest.approx(100 * (seen.max(1) / seen.sum(1)).mean())
    assert len(legend(figure)) <= 8
    assert_inside_and_apart(figure)


@pytest.mark.parametrize('counts', [np.zeros((2, 3), int), [[1, -1]]])
def test_counts_must_have_samples(counts):
    with pytest.raises(ValueError, match='counts must be at least 0, some above'):
        draw_subcenters(counts)


@pytest.mark.parametrize('counts', [[1, 2], np.zeros((0, 3), int)])
def test_counts_must_be_of_classes(counts):
    with pytest.raises(ValueError, match=r'counts must be \(C, K\), got'):
        draw_subcenters(counts)


def image(value=100, height=30, width=20):
    return np.full((height, width, 3), value, np.uint8)


def row_of(number, label=0, **changes):
    angles = np.linspace(76, 120, number)
    return DroppedRow(
        **dict(label=label, typical=image(), images=[image()] * number, angles=angles) | changes
    )


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_most_suspicious_come_first():
    colors = [image(10), image(20), image(30)]
    figure = draw_dropped([DroppedRow(4, None, colors, [80, 99.6, 90], [1, 2, 3])], 'abcde')
    said = words(figure)
    assert [word for word in said if '\N{DEGREE SIGN}' in word] == ['100°', '90°', '80°']
    assert [word for word in said if word in 'abcde'] == ['e', 'c', 'd', 'b']
    assert {'none kept', '3 not kept'} <= set(said)
    sheet = figure.axes[0].images[0].get_array()
    inner = [value for value in sheet[82, :, 0].tolist() if value in (10, 20, 30)]
    assert list(dict.fromkeys(inner)) == [20, 30, 10]


def test_twelve_are_shown_and_all_are_counted():
    said = words(draw_dropped([row_of(20)]))
    assert sum('\N{DEGREE SIGN}' in word for word in said) == 12
    assert '20 dropped' in said
    assert '99 dropped' in words(draw_dropped([row_of(3, total=99)]))


def test_images_keep_colors_and_shape():
    blue, typical = np.zeros((40, 10, 3), np.uint8), np.zeros((7, 300, 3), np.uint8)
    blue[..., 0] = 255
    sheet = draw_dropped([row_of(1, typical=typical, images=[blue])]).axes[0].images[0].get_array()
    rows, columns = np.nonzero((sheet == [0, 0, 255]).all(2))
    assert (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(4, rel=0.1)
    rows, columns = np.nonzero((sheet == 0).all(2))
    assert np.ptp(columns) + 1 == 58
    assert np.ptp(rows) + 1 == 1
    assert (sheet == [0, 114, 178]).all(2).any()


@pytest.mark.parametrize(
    'names',
    [
        None,
        {0: 'Arnold_Schwarzenegger_' * 3, 1: '$a_b$', 2: '\u5b57', 3: '\x00\n', 4: '\ue123'},
        ['a person whose name has very many letters'] * 9,
    ],
    ids=['numbers', 'mapping', 'list'],
)
@pytest.mark.parametrize('proposed', [None, range(12)], ids=['none', 'proposed'])
def test_words_are_inside_the_sheet_and_apart(names, proposed):
    rows = [row_of(12, label, proposed=proposed) for label in range(12)]
    assert_inside_and_apart(draw_dropped(rows, names))
    assert_inside_and_apart(draw_dropped([row_of(0)], names))


def test_number_where_no_font_has_the_characters(monkeypatch):
    monkeypatch.setattr(purification, '_font_files', list)
    names = {0: '\u5b57', 1: 'caf\u00e9', 2: ' ', 3: 'two\nlines'}
    figure = draw_dropped([row_of(1, label) for label in range(5)], names)
    shown = [text.get_text() for text in figure.axes[0].texts if text.get_fontsize() == 10]
    assert shown[3:] == ['0', 'caf\u00e9', '2', 'two lines', '4']
    figure_to_image(figure)


def test_wrong_rows():
    with pytest.raises(ValueError, match='rows must be at least one, got none'):
        draw_dropped([])
    with pytest.raises(ValueError, match='angles must be one per image, got 1 for 2 images'):
        DroppedRow(0, None, [image()] * 2, [90])
    with pytest.raises(ValueError, match='proposed must be one per image, got 1 for 2 images'):
        DroppedRow(0, None, [image()] * 2, [90, 91], [3])
    for wrong in (image()[..., 0], image().astype(float), image()[:0]):
        with pytest.raises(ValueError, match=r'images must be \(H, W, 3\), uint8, got'):
            DroppedRow(0, wrong, [], [])
