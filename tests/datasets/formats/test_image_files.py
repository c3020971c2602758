"""Which files are images, against what OpenCV reads of what it and Pillow write."""

import io
import os
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from mmarcface.datasets import IdentityFolder, LoadImageFromFile
from mmarcface.datasets.formats.image_files import (
    EXTENSIONS,
    FORMATS,
    can_be_read,
    extension_of,
    find_images,
)
from tests.datasets.writers import png, tiny

GRAY = ('.pbm', '.pgm')
# By no name that is known: content decides.
NAMES = {'.jpg': 'photo', '.png': 'photo.v2', '.webp': 'photo.dat', '.gif': 'photo.txt'}


@pytest.fixture(scope='module')
def image():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (64, 48))


def by_opencv(extension, image):
    shown = image[..., 0] if extension in GRAY else image
    shown = np.float32(shown) / 255 if extension == '.hdr' else shown
    return cv2.imencode(extension, shown)[1].tobytes()


def by_pillow(kind, image, mode='RGB'):
    content = io.BytesIO()
    Image.fromarray(image).convert(mode).save(content, kind)
    return content.getvalue()


@pytest.mark.parametrize('extension', [name for name in FORMATS if name != '.j2k'])
def test_formats_of_opencv(tmp_path, image, extension):
    content = by_opencv(extension, image)
    assert extension_of(content) == extension_of(content[:64]) == extension
    assert can_be_read(content)
    for name in (f'a{extension}', f'b{extension.upper()}', 'nothing', 'other.dat'):
        (tmp_path / name).write_bytes(content)
    images, others = find_images(str(tmp_path))
    assert (len(images), others) == (4, [])
    for path in images:
        assert LoadImageFromFile()(dict(img_path=path))['img'].shape == (48, 64, 3)
    assert not can_be_read(content[: len(content) // 2])


Image.init()


@pytest.mark.parametrize(
    'kind', sorted(set(Image.SAVE) & set(Image.registered_extensions().values()))
)
def test_as_opencv_tells_by_content(tmp_path, image, kind):
    """Of all that Pillow writes: what is an image here is what OpenCV has a reader for."""
    readable = 0
    for mode in ('RGB', 'L', '1', 'P', 'RGBA', 'CMYK', 'I;16'):
        try:
            content = by_pillow(kind, image, mode)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError):  # Has no such mode.
            continue
        (tmp_path / 'file').write_bytes(content)
        expected = cv2.haveImageReader(str(tmp_path / 'file'))
        if content[:2] in (b'Pf', b'PF'):  # Floats, which it would take for values of 8 bits.
            expected = False
        assert (extension_of(content) is not None) == expected, (mode, content[:16])
        readable += expected
    names = [name for name, other in Image.registered_extensions().items() if other == kind]
    if readable and kind != 'PPM':
        assert set(names) <= EXTENSIONS | {'.mpo'}
    else:
        assert kind == 'PPM' or not set(names) & EXTENSIONS


@pytest.mark.parametrize(
    'text',
    [
        b'BMW and other cars, a list',
        b'P5 is the name of a person',
        b'GIF',
        b'',
        b'II',
        b'#?',
        b'RIFF',
    ],
)
def test_text_is_no_image(tmp_path, text):
    (tmp_path / 'list').write_bytes(text)
    assert find_images(str(tmp_path)) == ([], [str(tmp_path / 'list')])


def test_what_is_found_in_a_folder(tmp_path):
    for name in (
        'b/2.png', 'b/10.png', 'b-c/1.png', 'a.JPG', 'z', 'b/.hidden.png', '.trash/1.png', '._a.jpg'
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(tiny(0))
    (tmp_path / 'broken.png').write_text('an image by its name')
    (tmp_path / 'gone.png').symlink_to(tmp_path / 'nothing')
    (tmp_path / 'gone').symlink_to(tmp_path / 'nothing')
    (tmp_path / 'notes.md').write_text('no image')
    os.mkfifo(tmp_path / 'pipe')
    images, others = find_images(str(tmp_path))
    inside = lambda paths: [os.path.relpath(path, tmp_path) for path in paths]  # noqa: E731
    assert inside(images) == [
        'a.JPG', 'b/10.png', 'b/2.png', 'b-c/1.png', 'broken.png', 'gone.png', 'z'
    ]  # fmt: skip
    assert inside(others) == ['gone', 'notes.md', 'pipe']
    # What is looked for by name alone.
    assert inside(find_images(str(tmp_path), ['.jpg'])[0]) == ['a.JPG']


def test_links_are_followed_once(tmp_path):
    """To folders elsewhere, and not to those that they are in."""
    (tmp_path / 'faces' / 'ann').mkdir(parents=True)
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / '1.png').write_bytes(tiny(1))
    (tmp_path / 'faces' / 'ann' / '0.png').write_bytes(tiny(0))
    (tmp_path / 'faces' / 'ann' / 'more').symlink_to(tmp_path / 'elsewhere')
    for name, target in (('self', '.'), ('up', '..'), ('root', '/')):
        (tmp_path / 'faces' / 'ann' / name).symlink_to(target)
    images, _ = find_images(str(tmp_path / 'faces'))
    assert [os.path.relpath(path, tmp_path / 'faces') for path in images] == [
        'ann/0.png',
        'ann/more/1.png',
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason='may read every folder')
def test_folder_that_cannot_be_read(tmp_path):
    (tmp_path / 'secret').mkdir(mode=0)
    with pytest.raises(PermissionError, match='secret'):
        find_images(str(tmp_path))


def test_identities_of_every_format(tmp_path, image, logged):
    (tmp_path / 'ann').mkdir()
    for extension in FORMATS:
        if extension != '.j2k':
            content = by_opencv(extension, image)
            (tmp_path / 'ann' / NAMES.get(extension, f'photo{extension}')).write_bytes(content)
    # A name that lies.
    (tmp_path / 'ann' / 'lies.jpg').write_bytes(png(image))
    dataset = IdentityFolder(str(tmp_path), pipeline=[LoadImageFromFile()])
    assert len(dataset) == len(FORMATS)
    assert {sample['img'].shape for sample in dataset} == {(48, 64, 3)}
    assert logged == []


def test_what_is_left_out_is_said_once(tmp_path, logged):
    for name in ('ann/1.png', 'ann/cover', 'bob/deep/1.jpg', 'stray.png', '.hidden/1.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(tiny(0))
    for name in ('ann/notes.txt', 'ann/Thumbs.db', 'bob/clip.mp4', 'list.csv', 'ann/.DS_Store'):
        (tmp_path / name).write_bytes(b'no image')
    dataset = IdentityFolder(str(tmp_path))
    assert len(dataset) == 3
    assert dataset.fingerprint
    assert logged == [
        f'{tmp_path}: 5 files left out (no image, or not in the folder of an identity), such as '
        'ann/Thumbs.db, ann/notes.txt, bob/clip.mp4'
    ]
    # Asked for by name, others are not missed; what is in other folders neither.
    logged.clear()
    assert len(IdentityFolder(str(tmp_path), extensions=['.PNG', '.jpg'])) == 2
    assert logged == []
    assert len(IdentityFolder(str(tmp_path), identities=['bob'])) == 1
    assert logged == [
        f'{tmp_path}: 1 file left out (no image, or not in the folder of an identity), such as '
        'bob/clip.mp4'
    ]


def test_wrong_extensions(tmp_path):
    (tmp_path / 'ann').mkdir()
    (tmp_path / 'ann' / '1.png').write_bytes(tiny(0))
    for extensions in ('.png', ['png'], ['.jpg', '']):
        with pytest.raises(ValueError, match=r"extensions must be a list of endings .*'\.jpg'"):
            IdentityFolder(str(tmp_path), extensions=extensions)
    with pytest.raises(ValueError, match=r"ann has no image with the extensions \('.jpg',\) am"):
        IdentityFolder(str(tmp_path), extensions=['.jpg'])
    (tmp_path / 'ann' / '1.png').rename(tmp_path / 'ann' / '1.txt')
    (tmp_path / 'ann' / '1.txt').write_text('no image')
    with pytest.raises(ValueError, match=r'ann has no image among its 1 files: remove it'):
        IdentityFolder(str(tmp_path))


def test_folders_that_link_to_one_another_are_walked_once(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / f'{name}.jpg').write_bytes(b'')
    (tmp_path / 'a' / 'link').symlink_to(tmp_path / 'b')
    (tmp_path / 'b' / 'link').symlink_to(tmp_path / 'a')
    images, _ = find_images(str(tmp_path / 'a'))
    assert sorted(os.path.basename(path) for path in images) == ['a.jpg', 'b.jpg']


@pytest.mark.parametrize(
    ('identities', 'message'),
    [
        (['a', 'a'], "must differ, as each is a class, got 'a' twice"),
        ('ab', 'must be a list of names'),
        ([1], 'must be a list of names'),
        (['.', 'a'], "must be folders of data_root itself, got '.'"),
        (['a/../b', 'b'], "must be folders of data_root itself, got 'a/../b'"),
    ],
)
def test_identities_are_folders_each_once(tmp_path, identities, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        IdentityFolder(str(tmp_path), identities=identities)
