"""Lists as the world's programs write them: marks, line ends, blanks, tabs, on any system."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmarcface.datasets import IJB, LFW, MNIST, CelebA, InShop
from mmarcface.datasets.formats.keep_list import read_keep_list, write_keep_list
from mmarcface.datasets.formats.landmarks import read_landmarks
from mmarcface.datasets.formats.pairs import read_pairs, read_people
from mmarcface.datasets.formats.text_lists import read_lines
from mmarcface.models.heads.class_margins import ClassMargins
from tests.datasets import writers

FACES = {name: [writers.tiny(10 * i + n) for n in range(3)] for i, name in enumerate('abcd')}
BOM = b'\xef\xbb\xbf'


def facts(dataset) -> list:
    """All that a data set knows, as plain values."""

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        if isinstance(value, np.ndarray):
            return value.tolist()
        if isinstance(value, tuple):
            return [plain(part) for part in value]
        return plain(vars(value)) if hasattr(value, '__dict__') else value

    samples = [dataset.get_data_info(place) for place in range(len(dataset))]
    return [plain(dataset.metainfo), *map(plain, samples)]


def margins(path: Path) -> list:
    return ClassMargins(str(path), 3).values.tolist()


def keep(path: Path) -> list:
    kept = read_keep_list(path)
    return [kept.samples, kept.labels.tolist(), kept.data_set]


def classes(path: Path) -> tuple:
    return MNIST('test', str(path.parent), classes=str(path), **QUICKLY).metainfo['classes']


# Else the samples are serialized, and garbage is collected for each list.
QUICKLY = dict(serialize_data=False)

READERS: dict[str, tuple[str, Callable]] = {
    'pairs.txt': ('lfw', lambda path: facts(LFW(str(path.parent), **QUICKLY))),
    'pairsDevTrain.txt': ('lfw', lambda path: facts(LFW(str(path.parent), 'view1', **QUICKLY))),
    'people.txt': ('lfw', lambda path: facts(LFW(str(path.parent), 'people', **QUICKLY))),
    'peopleDevTest.txt': (
        'lfw',
        lambda path: facts(LFW(str(path.parent), 'people_test', **QUICKLY)),
    ),
    'identity_CelebA.txt': ('celeba', lambda path: facts(CelebA(str(path.parent), **QUICKLY))),
    'list_eval_partition.txt': (
        'celeba',
        lambda path: facts(CelebA(str(path.parent), 'val', **QUICKLY)),
    ),
    'list_landmarks_align_celeba.txt': (
        'celeba',
        lambda path: facts(CelebA(str(path.parent), landmarks=path.name, **QUICKLY)),
    ),
    **{
        f'meta/ijbc_{name}': ('ijb', lambda path: facts(IJB(str(path.parent.parent), **QUICKLY)))
        for name in (
            'face_tid_mid.txt',
            'name_5pts_score.txt',
            'template_pair_label.txt',
            '1N_gallery_G1.csv',
            '1N_probe_mixed.csv',
        )
    },
    'Eval/list_eval_partition.txt': (
        'inshop',
        lambda path: facts(InShop(str(path.parent.parent), 'test', **QUICKLY)),
    ),
    'margins.txt': ('margins', margins),
    'keep.csv': ('keep', keep),
    'classes.txt': ('classes', classes),
}


@pytest.fixture
def tree(request, tmp_path) -> Callable[[str], Path]:
    """Makes the tree that a list is part of, and gives the list's path."""

    def make(name: str) -> Path:
        kind = READERS[name][0]
        path = tmp_path / name
        if kind == 'inshop':
            return request.getfixturevalue('inshop') / name
        if kind == 'margins':
            path.write_text('0.1\n0.2\n0.3\n')
        elif kind == 'keep':
            write_keep_list(path, dict(sample=['a b/1.jpg', 'é/2.jpg'], label=[3, 0]), 'abc')
        elif kind == 'classes':
            path.write_text(''.join(f'digit {label}\n' for label in range(10)))
            for kind, sizes in (('images-idx3', (1, 1, 1)), ('labels-idx1', (1,))):
                header = bytes([0, 0, 8, len(sizes)]) + b''.join(b'\0\0\0\1' for _ in sizes)
                (tmp_path / f't10k-{kind}-ubyte').write_bytes(header + b'\0')
        else:
            getattr(writers, kind)(tmp_path, FACES)
        return path

    return make


def between(content: bytes, separator: bytes) -> bytes:
    """Other blanks between the fields, but those within names."""
    return re.sub(rb'[ \t]+(?=[^"]*$)', separator, content, flags=re.MULTILINE)


MANGLED = {
    'mark': lambda content: BOM + content,
    'CRLF': lambda content: content.replace(b'\n', b'\r\n'),
    'CR': lambda content: content.replace(b'\n', b'\r'),
    'blanks': lambda content: content.replace(b'\n', b' \t \n'),
    'lines': lambda content: content + b'\n \n\t\n',
    'no end': lambda content: content.rstrip(),
    'tabs': lambda content: between(content, b'\t'),
    'spaces': lambda content: between(content, b'  '),
    'all': lambda content: BOM + between(content, b'\t ').replace(b'\n', b' \r\n') + b'\r\n \r\n',
}


@pytest.mark.parametrize('name', READERS)
def test_what_is_read_is_the_same(tree, name):
    path, read = tree(name), READERS[name][1]
    content = path.read_bytes()
    expected = read(path)
    # In these, blanks are part of the names.
    named = {'tabs', 'spaces', 'all'} if name in ('keep.csv', 'classes.txt') else {}
    for how in MANGLED.keys() - named:
        path.write_bytes(MANGLED[how](content))
        assert read(path) == expected, how


@pytest.mark.parametrize('name', ['keep.csv', 'meta/ijbc_1N_gallery_G1.csv'])
def test_columns_as_spreadsheets_separate_them(tree, name):
    path, read = tree(name), READERS[name][1]
    content, expected = path.read_bytes(), read(path)
    for separator in (b';', b'\t'):
        path.write_bytes(BOM + content.replace(b',', separator))
        assert read(path) == expected


@pytest.mark.parametrize('name', [name for name in READERS if name != 'classes.txt'])
def test_errors_name_the_line(tree, name):
    path = tree(name)
    *good, _ = path.read_text(encoding='utf-8').splitlines()
    where = rf'{path.name}:{len(good) + 1}: |Row #{len(good) + 1}'
    for end in ('\n', '\r\n', '\r'):
        text = end.join([*good, 'x? x', '', ''])
        path.write_bytes(BOM + text.encode())
        with pytest.raises(ValueError, match=where):
            READERS[name][1](path)


@pytest.mark.parametrize('name', [n for n in READERS if n not in ('classes.txt', 'keep.csv')])
def test_a_blank_line_amid_the_others_is_named(tree, name):
    path = tree(name)
    lines = path.read_text(encoding='utf-8').splitlines()
    place = len(lines) - 1
    lines[place:place] = ['']
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    # Lists that announce their length name the line that does.
    with pytest.raises(ValueError, match=rf'{path.name}:({place + 1}|1): '):
        READERS[name][1](path)


@pytest.mark.parametrize('name', [name for name in READERS if name != 'keep.csv'])
def test_other_encodings_are_named(tree, name):
    path = tree(name)
    first, *others = path.read_bytes().splitlines()
    path.write_bytes(b'\n'.join([first, *others[:1], 'é'.encode('latin-1')]))
    rule = f'{path.name}:{2 + len(others[:1])}: a list must be text in UTF-8, got the byte 0xe9'
    with pytest.raises(ValueError, match=rule):
        READERS[name][1](path)
    path.write_text('ä', encoding='utf-16')
    with pytest.raises(ValueError, match=rf'{path.name}:1: a list must be text in UTF-8'):
        READERS[name][1](path)


@pytest.mark.parametrize(
    ('content', 'lines'),
    [
        (b'', []),
        (b'\n \n\t', []),
        (BOM, []),
        (BOM + b'a', ['a']),
        (b'a\r\n\r\nb \x0c', ['a', '', 'b']),
        # These end no line in any editor.
        ('a\x0bb\x1cc\x85d\u2028e\n'.encode(), ['a\x0bb\x1cc\x85d\u2028e']),
        (b' a\tb \n', ['a\tb']),
        ('é\r王'.encode(), ['é', '王']),
    ],
)
def test_lines(tmp_path, content, lines):
    path = tmp_path / 'list.txt'
    path.write_bytes(content)
    assert read_lines(path) == lines


def test_names_with_blanks(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes(BOM + '1\r\nAnn Lee \t1\t 2\r\nAnn Lee\t1\tLi\u00a0王\t3 \r\n'.encode())
    one, two = read_pairs(path)
    assert (one.first, one.second) == (('Ann Lee', 1), ('Ann Lee', 2))
    assert (two.first, two.second) == (('Ann Lee', 1), ('Li\u00a0王', 3))
    # Tabs and spaces within one line.
    path.write_text('1\nAnn\t1 2\nAnn 1\tLi\t3\n')
    assert [pair.second for pair in read_pairs(path)] == [('Ann', 2), ('Li', 3)]
    path.write_text('1\nAnn Lee\t2\t\n')
    assert read_people(path) == [(2, 'Ann Lee', 2, 0)]
    path.write_text('a b.jpg\t1\t2\t3\t4\n')
    assert read_landmarks(path)['a b.jpg'].tolist() == [[1, 2], [3, 4]]


def test_blank_lines_of_a_keep_list_count(tmp_path):
    path = tmp_path / 'keep.csv'
    for content, line in (
        ('sample,label,data_set\na,1,x\n\nb,two,x\n', 4),
        ('\n \nsample,label,data_set\n"a\nc",1,x\nb,two,x\n', 6),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"keep.csv:{line}: label must be .* got 'two'"):
            read_keep_list(path)


def test_no_reader_asks_for_the_encoding_of_the_system(tmp_path):
    # Python warns where it would, which is UTF-8 here and is not on Windows.
    (tmp_path / 'margins.txt').write_text('0.1\n')
    writers.lfw(tmp_path / 'lfw', FACES)
    writers.celeba(tmp_path / 'celeba', FACES)
    writers.ijb(tmp_path / 'ijb', FACES)
    write_keep_list(tmp_path / 'keep.csv', dict(sample=['a'], label=[1]), 'x')
    inshop = tmp_path / 'inshop' / 'Eval' / 'list_eval_partition.txt'
    writers.write_lines(inshop, ['1', 'image item status', 'a.jpg 1 train'])
    writers.save(tmp_path / 'inshop' / 'Img' / 'a.jpg', writers.tiny(0))
    code = f"""
import warnings
from mmarcface.datasets import IJB, LFW, CelebA, InShop
from mmarcface.datasets.formats.keep_list import read_keep_list
from mmarcface.models.heads.class_margins import ClassMargins
warnings.simplefilter('error', EncodingWarning)
root = {str(tmp_path)!r}
LFW(root + '/lfw'), LFW(root + '/lfw', 'people'), IJB(root + '/ijb'), InShop(root + '/inshop')
CelebA(root + '/celeba', 'train', landmarks='list_landmarks_align_celeba.txt')
read_keep_list(root + '/keep.csv'), ClassMargins(root + '/margins.txt', 1)
"""
    command = [sys.executable, '-X', 'warn_default_encoding', '-c', code]
    subprocess.run(command, check=True, env=os.environ | dict(PYTHONPATH=':'.join(sys.path)))
