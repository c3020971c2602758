"""On the Latin letters of matplotlib's fonts, and on Han where the Debian fonts are installed."""

import random
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmarcface.datasets import HanGlyphs, RenderGlyph
from mmarcface.datasets.han_glyphs import DEBIAN_FONTS
from mmarcface.registry import DATASETS, TRANSFORMS

FOLDER = Path(matplotlib.get_data_path(), 'fonts', 'ttf')
FONTS = [str(FOLDER / name) for name in ('DejaVuSans.ttf', 'DejaVuSerif.ttf')]
LETTERS = 'ABCDEFGHKL'
SAMPLE = dict(character='A', font=FONTS[0], rendering=3)
needs_han = pytest.mark.skipif(
    not all(Path(font).is_file() for font in DEBIAN_FONTS), reason='the Debian fonts are missing'
)


def letters(**arguments) -> HanGlyphs:
    defaults = dict(
        num_classes=10, renderings=8, fonts=FONTS, characters=LETTERS, pipeline=[RenderGlyph()]
    )
    return HanGlyphs(**(defaults | arguments))


def images_of(dataset) -> np.ndarray:
    return np.stack([dataset[index]['img'] for index in range(len(dataset))])


def likeness(images: np.ndarray) -> np.ndarray:
    return np.corrcoef(images.reshape(len(images), -1))


def means_within_and_between(dataset) -> tuple[float, float]:
    labels = dataset.get_gt_labels()
    same = labels[:, None] == labels
    alike = likeness(images_of(dataset))
    return alike[same & ~np.eye(len(same), dtype=bool)].mean(), alike[~same].mean()


def test_samples():
    dataset = letters(num_classes=3, renderings=4, first_rendering=5)
    assert dataset.metainfo['classes'] == ('A', 'B', 'C')
    assert dataset.get_gt_labels().tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [info['rendering'] for info in map(dataset.get_data_info, range(4))] == [5, 6, 7, 8]
    assert dataset.get_data_info(4) == dict(
        character='B', font=FONTS[1], rendering=5, gt_label=1, sample_idx=4
    )
    assert dataset.get_data_info(5)['font'] == FONTS[0]


def test_is_registered():
    assert DATASETS.get('mmarcface.HanGlyphs') is HanGlyphs
    assert TRANSFORMS.get('mmarcface.RenderGlyph') is RenderGlyph


def test_image():
    result = RenderGlyph(size=40)(dict(SAMPLE, gt_label=7))
    image = result['img']
    assert image.shape == (40, 40, 3)
    assert image.dtype == np.uint8
    assert result['img_shape'] == result['ori_shape'] == (40, 40)
    assert result['gt_label'] == 7
    assert (image == image[..., :1]).all()
    assert image.std() > 20


def test_plain_glyph_stands_upright_in_the_middle():
    plain = dict(degrees=0, shift=0, scale=(1, 1), blur=0, noise=0)
    gray = RenderGlyph(size=64, **plain)(dict(SAMPLE, character='H'))['img'][..., 0]
    ink = 224.0 - gray
    assert gray.max() == 224
    assert 32 <= gray.min() <= 40
    # The bar of the H lies in the middle, its columns fill the height of capitals.
    assert likeness(np.stack([ink, ink[:, ::-1]]))[0, 1] > 0.9
    rows = np.flatnonzero(ink.max(1) > 100)
    assert abs(rows.mean() - 31.5) < 4
    assert len(rows) == pytest.approx(0.73 * 64, abs=2)
    half = RenderGlyph(size=64, **plain | dict(scale=(0.5, 0.5)))(dict(SAMPLE, character='H'))
    half_rows = np.flatnonzero(224.0 - half['img'][..., 0].min(1) > 100)
    assert len(half_rows) == pytest.approx(len(rows) / 2, abs=2)


@pytest.mark.parametrize(
    ('argument', 'value'),
    [('degrees', 90), ('shift', 0.3), ('scale', (0.3, 0.4)), ('blur', 3.0), ('noise', 40.0)],
)
def test_each_argument_varies_the_image(argument, value):
    plain = dict(degrees=0, shift=0, scale=(1, 1), blur=0, noise=0)
    images = [
        RenderGlyph(**settings)(dict(SAMPLE, rendering=number))['img'].tobytes()
        for settings in (plain, plain | {argument: value})
        for number in range(4)
    ]
    assert len(set(images[:4])) == 1
    assert len(set(images)) == 5


def test_all_images_of_training_and_test_differ():
    train, test = letters(), letters(first_rendering=1000)
    images = {image.tobytes() for data in (train, test) for image in images_of(data)}
    assert len(images) == 160


def test_a_character_is_more_like_itself_than_like_others():
    within, between = means_within_and_between(letters())
    assert within > between + 0.1


def test_images_do_not_depend_on_seeds_or_order():
    images = images_of(letters())
    again = letters()
    np.random.seed(1)
    random.seed(1)
    for index in np.random.permutation(len(again)):
        assert (again[index]['img'] == images[index]).all()
    np.random.seed(2)
    state = np.random.get_state()[1].copy()
    assert (again[3]['img'] == images[3]).all()
    assert (np.random.get_state()[1] == state).all()


# Forked from a server, a worker is of another interpreter, with hash() of another seed.
@pytest.mark.parametrize('start', ['fork', 'forkserver'])
def test_workers_give_the_same_images(start):
    dataset = letters(num_classes=5)
    expected = images_of(dataset)
    loader = DataLoader(
        dataset, batch_size=4, num_workers=2, collate_fn=list, multiprocessing_context=start
    )
    loaded = np.stack([sample['img'] for batch in loader for sample in batch])
    assert (loaded == expected).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_classes=0), 'num_classes must be at least 1, got 0'),
        (dict(renderings=0), 'renderings must be at least 1, got 0'),
        (dict(renderings=2.5), 'renderings must be a whole number of at least 1, got 2.5'),
        (dict(first_rendering=-1), 'first_rendering must be at least 0, got -1'),
        (dict(fonts=[]), r'fonts must be .* got \[\]'),
        (dict(fonts=FONTS[0]), 'fonts must be a list .*DejaVuSans.ttf'),
        (dict(num_classes=11), 'characters must be at least num_classes, 11, got 10'),
        (dict(num_classes=3, characters='ABA'), "characters must differ, got 'A' 2 times"),
        (
            dict(num_classes=3, characters='A\u4e00\u4e01'),
            "must be in all fonts, got '\u4e00', one of 2 that .*DejaVuSans.ttf lacks",
        ),
        (
            dict(characters=None),
            r'num_classes must be at most 0, the number of CJK unified .* got 10',
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        letters(**arguments)


def test_wrong_fonts(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone.ttf does not exist.*apt-get install fonts-'):
        letters(fonts=[*FONTS, tmp_path / 'gone.ttf'])
    (tmp_path / 'text.ttf').write_text('not a font')
    with pytest.raises(ValueError, match=r'TrueType or OpenType, .*text.ttf is not'):
        letters(fonts=[tmp_path / 'text.ttf'])


def test_without_fonttools(monkeypatch):
    monkeypatch.setitem(sys.modules, 'fontTools.ttLib', None)
    with pytest.raises(ImportError, match='pip install fonttools'):
        letters()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(size=0), 'size must be at least 1, got 0'),
        (dict(degrees=-1), r'degrees must be in \[0, 180\], got -1'),
        (dict(degrees=181), r'degrees must be in \[0, 180\], got 181'),
        (dict(shift=1.1), r'shift must be in \[0, 1\], got 1.1'),
        (dict(blur=-0.1), 'blur must be at least 0, got -0.1'),
        (dict(noise=float('nan')), 'noise must be a finite number of at least 0, got nan'),
        (dict(scale=(0, 1)), r'scale must be two numbers.* got \(0, 1\)'),
        (dict(scale=(1.1, 0.9)), r'scale must be two numbers.* got \(1.1, 0.9\)'),
        (dict(scale=(1,)), r'scale must be two numbers.* got \(1,\)'),
    ],
)
def test_wrong_arguments_of_the_transform(arguments, message):
    with pytest.raises(ValueError, match=message):
        RenderGlyph(**arguments)


@needs_han
def test_han():
    dataset = HanGlyphs(num_classes=20, renderings=8, pipeline=[RenderGlyph()])
    assert dataset.metainfo['classes'] == tuple(chr(0x4E00 + i) for i in range(20))
    assert [dataset.get_data_info(i)['font'] for i in range(8)] == list(DEBIAN_FONTS) * 2
    within, between = means_within_and_between(dataset)
    assert within > between + 0.1


@needs_han
def test_all_fonts_have_18366_ideographs():
    assert len(HanGlyphs(num_classes=18366, renderings=1)) == 18366
    with pytest.raises(ValueError, match=r'at most 18366, .* got 18367'):
        HanGlyphs(num_classes=18367)
