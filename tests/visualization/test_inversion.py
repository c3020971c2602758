import numpy as np
import pytest

from mmarcface.visualization import draw_audit, draw_convergence, figure_to_image, image_grid


def report_of(number, **changes):
    return dict(
        images=2 * number,
        identities=number,
        identities_reidentified=number - 1,
        reidentified_low=0.25,
        reidentified_high=0.975,
        attack_accuracy=0.755,
        attack_accuracy_low=0.7,
        attack_accuracy_high=0.8,
        real_accuracy=0.99,
        chance_accuracy=0.025,
        cosine_own=0.61,
        cosine_real=0.72,
        cosine_other=-0.03,
        cosine_real_other=0.04,
        frechet=0.1234,
        frechet_real=0.0567,
        nearest_image_rms=41.4,
        nearest_image_rms_min=12.6,
        nearest_image_rms_real=22.2,
        nearest_image_ratio=1.9,
        notes=['the judge is tired'],
        per_identity=[
            dict(label=i, images=2, named=min(i, 2), cosine_own=i / 100, reidentified=i > 0)
            for i in range(number)
        ],
        **{
            'accepted@FAR=0.01': 0.87,
            'accepted_real@FAR=0.01': 0.96,
            'threshold@FAR=0.01': 0.5,
            'accepted@FAR=0.001': 0.66,
            'accepted_real@FAR=0.001': 0.79,
            'threshold@FAR=0.001': 0.6,
        },
    ) | dict(changes)


def images_of(labels, number=2):
    generator = np.random.default_rng(0)
    return {
        label: (
            generator.integers(0, 256, (56, 48, 3), np.uint8),
            generator.integers(0, 256, (number, 56, 48, 3), np.uint8),
        )
        for label in labels
    }


def texts(figure):
    """All words, on the figure and its axes, as one string."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [axes.get_title(), axes.get_title('left'), axes.get_xlabel()]
        found += [label.get_text() for label in axes.get_yticklabels() + axes.get_xticklabels()]
    return ' '.join(' '.join(found).split())


def test_audit_says_the_figures():
    figure = draw_audit(report_of(9), images_of(range(9)))
    said = texts(figure)
    for words in (
        '8 of 9 identities re-identified',
        'from its weights alone',
        '95% interval 25% to 98%',
        'among 40 identities',
        'names 76% of the generated images right, 99% of the real ones, and 2.5% by chance',
        '87%', '96%', '66%', '79%', '0.1%',
        '0.61', '0.72', '-0.03', '0.04',
        'by 41 of 255 gray levels (root mean square; at least 13)',
        'other real one by 22.',
        'judge: 0.123; of as many real images: 0.057.',
        'Note: the judge is tired.',
        'Best: 8', 'Median: 4', 'Worst: 0', '2 of 2 named right', '0 of 2 named right',
    ):  # fmt: skip
        assert words in said, words


@pytest.mark.parametrize(
    ('number', 'ranks'),
    [(1, ['Only identity: 0']), (2, ['Best: 1', 'Worst: 0'])]
    + [(3, ['Best: 2', 'Median: 1', 'Worst: 0']), (500, ['Best: 499', 'Median: 249', 'Worst: 0'])],
)
def test_audit_of_any_number_of_identities(number, ranks):
    figure = draw_audit(report_of(number), images_of(range(number)))
    said = texts(figure)
    assert [rank for rank in ranks if rank in said] == ranks
    assert ('Median' in said) == (number > 2)
    assert len(figure.axes) == 2 + 2 * len(ranks)
    assert figure_to_image(figure).shape[1] == 800


def test_words_are_inside_the_page_and_apart():
    longest = 'FAR=0.001 allows 4 of 4500 pairs of different identities: ' + 'and so on ' * 20
    report = report_of(10_000, notes=[longest] * 3)
    report['per_identity'] = report['per_identity'][:3]
    report['per_identity'][0]['name'] = 'n000001'
    figure = draw_audit(report, images_of(range(3), number=20))
    picture = figure_to_image(figure)
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    boxes += [axes.get_tightbbox(renderer) for axes in figure.axes]
    for box in boxes:
        assert (box.x0, box.y0) >= (0, 0)
        assert box.x1 <= picture.shape[1]
        assert box.y1 <= picture.shape[0]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_audit_shows_the_images_in_their_colors():
    blue = np.zeros((8, 8, 3), np.uint8)
    blue[..., 0] = 255
    figure = draw_audit(report_of(1), {0: (blue, blue[None])})
    for axes in figure.axes[2:]:
        np.testing.assert_array_equal(axes.images[0].get_array()[0, 0], [0, 0, 255])


def test_audit_without_what_is_not_known():
    few = report_of(2, frechet=None, frechet_real=None, notes=[])
    said = texts(draw_audit(few, images_of([1])))
    assert 'Frechet' not in said
    assert 'Only identity: 1' in said
    with pytest.raises(ValueError, match=r'images must be of identities .* got \[7\] as labels'):
        draw_audit(few, images_of([7]))


def test_grid():
    images = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((4, 3, 3), np.uint8)
    grid = image_grid(images, 2)
    assert grid.shape == (3 * 6 - 2, 2 * 5 - 2, 3)
    assert grid.dtype == np.uint8
    for i in range(5):
        top, left = i // 2 * 6, i % 2 * 5
        assert (grid[top : top + 4, left : left + 3] == i + 1).all()
    assert (grid[12:, 5:] == 255).all()
    assert (grid[4:6] == 255).all()
    assert (grid[:, 3:5] == 255).all()
    np.testing.assert_array_equal(image_grid(images[:1], 1), images[0])


def test_grid_refuses():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    for wrong in (images[:0], images[..., 0], images[..., :1]):
        with pytest.raises(ValueError, match=r'images must be \(N, H, W, 3\), at least one'):
            image_grid(wrong, 2)
    with pytest.raises(ValueError, match='columns must be at least 1, got 0'):
        image_grid(images, 0)


def test_convergence_shows_every_term():
    history = dict(step=[0, 10, 20], loss=[9.0, 3.0, 1.0], bn=[2.0, 0.0, 0.5])
    figure = draw_convergence(history)
    (axes,) = figure.axes
    assert axes.get_yscale() == 'log'
    assert [line.get_label() for line in axes.lines] == ['loss', 'bn']
    assert len({line.get_linestyle() for line in axes.lines}) == 2
    for line in axes.lines:
        np.testing.assert_array_equal(line.get_xdata(), history['step'])
        np.testing.assert_array_equal(line.get_ydata(), history[line.get_label()])
    assert len(np.unique(figure_to_image(figure).reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize('history', [{}, dict(step=[1]), dict(loss=[1]), dict(step=[], loss=[])])
def test_convergence_of_nothing_is_refused(history):
    with pytest.raises(ValueError, match="history must have 'step' and a term"):
        draw_convergence(history)


def test_convergence_refuses_other_lengths():
    with pytest.raises(ValueError, match="got 1 of 'loss' for 2 steps"):
        draw_convergence(dict(step=[1, 2], loss=[1]))
