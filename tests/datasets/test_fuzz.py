"""Files with some bytes changed are read, or refused by name; nothing else happens."""

import itertools
import pickle
import struct
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import mmengine.fileio
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mmarcface.datasets import (
    IJB,
    LFW,
    AlignFace,
    CelebA,
    IdentityRecords,
    LoadImageFromFile,
    VerificationBin,
)
from mmarcface.datasets.formats import packed
from mmarcface.datasets.formats.recordio import RecordFile

from . import writers
from .writers import MAGIC


def tiny(value: int) -> bytes:
    """A small image of a format whose header alone tells sizes."""
    return cv2.imencode('.bmp', np.full((6, 5, 3), value, np.uint8))[1].tobytes()


FACES = {
    name: [tiny(10 * person + number) for number in range(3)]
    for person, name in enumerate(('ann', 'bea', 'cyd', 'dot'))
}
# What parsers stumble over.
PIECES = [b'', b'\n', b'\t', b' ', b',', b'-', b'0', b'9' * 20, b'nan', b'1e99', b'\r', b'\0', b'#']
PIECES += [b'\xff' * 4, b'\0' * 8, MAGIC, b'.', b'(', b'R', b'2', '\N{SUPERSCRIPT TWO}'.encode()]

place = st.floats(0, 1)
mutation = st.one_of(
    st.tuples(st.just('flip'), place, st.integers(1, 255)),
    st.tuples(st.just('delete'), place, st.integers(1, 40)),
    st.tuples(st.just('insert'), place, st.sampled_from(PIECES) | st.binary(max_size=6)),
    st.tuples(st.just('replace'), place, st.sampled_from(PIECES) | st.binary(max_size=6)),
    st.tuples(st.just('truncate'), place, st.none()),
    st.tuples(st.just('repeat'), place, st.integers(1, 80)),
)
mutations = st.lists(mutation, min_size=1, max_size=3)


def mutate(content: bytes, changes: list[tuple]) -> bytes:
    for kind, where, what in changes:
        at = int(where * len(content))
        if kind == 'flip':
            middle, end = bytes(byte ^ what for byte in content[at : at + 1]), at + 1
        elif kind == 'delete':
            middle, end = b'', at + what
        elif kind == 'insert':
            middle, end = what, at
        elif kind == 'replace':
            middle, end = what, at + len(what)
        elif kind == 'truncate':
            middle, end = b'', len(content)
        else:
            middle, end = content[at : at + what] * 2, at + what
        content = content[:at] + middle + content[end:]
    return content


def attempt(read: Callable, root: Path) -> None:
    """Errors are of two kinds, and say which file is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            read()
    except (ValueError, FileNotFoundError) as error:
        if type(error) not in writers.DAMAGED or str(root) not in str(error):
            raise


load = LoadImageFromFile()
# Else the samples are serialized, and garbage is collected for each file.
QUICKLY = dict(serialize_data=False)


def read_images(dataset, root: Path, then: Callable = lambda sample: sample) -> None:
    def read(index: int) -> None:
        sample = dataset.get_data_info(index)
        content = mmengine.fileio.get(sample['img_path'])
        # OpenCV makes room for gigabytes of pixels where a header announces them.
        if len(content) < 26 or max(map(abs, struct.unpack_from('<ii', content, 18))) < 1 << 12:
            then(load(sample))

    for index in range(len(dataset)):
        attempt(partial(read, index), root)


def read_rec(root: Path) -> None:
    file = RecordFile(root / 'train.rec')
    for key, read in itertools.product(file.keys.tolist(), (file.read, file.image, file.labels)):
        attempt(partial(read, key), root)
    read_images(IdentityRecords(str(root / 'train.rec')), root)


def read_bin(root: Path) -> None:
    read_images(VerificationBin(str(root / 'lfw.bin'), **QUICKLY), root)


def read_lfw(root: Path) -> None:
    for split in ('view2', 'people'):
        attempt(lambda split=split: read_images(LFW(str(root), split, **QUICKLY), root), root)


def read_celeba(root: Path) -> None:
    dataset = CelebA(str(root), 'train', landmarks='list_landmarks_align_celeba.txt', **QUICKLY)
    read_images(dataset, root, AlignFace(8))


def read_points(root: Path) -> None:
    align = AlignFace(8, str(root / 'points.txt'), str(root / 'img_align_celeba'))
    read_images(CelebA(str(root), **QUICKLY), root, align)


def read_ijb(root: Path) -> None:
    read_images(IJB(str(root), **QUICKLY), root, AlignFace(8))


def trees(kind: str, root: Path) -> None:
    if kind == 'rec':
        images = {3: [tiny(1), tiny(2)], 5: [tiny(3)]}
        records = writers.insightface(images)
        records[2] = writers.record([3], tiny(2) + MAGIC * 3, 2)
        writers.write_rec(root / 'train.rec', records)
    elif kind == 'bin':
        writers.write_bin(root / 'lfw.bin', (FACES['ann'] + FACES['bea'][:1], [True, False]))
    else:
        getattr(writers, kind)(root, FACES)
        if kind == 'celeba':
            landmarks = (root / 'list_landmarks_align_celeba.txt').read_text().splitlines()[2:]
            writers.write_lines(root / 'points.txt', landmarks)


CASES = {
    'records': ('rec', 'train.rec', read_rec),
    'records without index': ('rec', 'train.rec', read_rec),
    'index': ('rec', 'train.idx', read_rec),
    **{f'bin of protocol {n}': ('bin', 'lfw.bin', read_bin) for n in (0, 2, 4, 5)},
    'bin of arrays': ('bin', 'lfw.bin', read_bin),
    'bin of Python 2': ('bin', 'lfw.bin', read_bin),
    'pairs': ('lfw', 'pairs.txt', read_lfw),
    'people': ('lfw', 'people.txt', read_lfw),
    'identities': ('celeba', 'identity_CelebA.txt', read_celeba),
    'partition': ('celeba', 'list_eval_partition.txt', read_celeba),
    'landmarks': ('celeba', 'list_landmarks_align_celeba.txt', read_celeba),
    'landmarks of a list': ('celeba', 'points.txt', read_points),
    **{
        f'ijb {name}': ('ijb', f'meta/ijbc_{name}', read_ijb)
        for name in (
            'face_tid_mid.txt',
            'name_5pts_score.txt',
            'template_pair_label.txt',
            '1N_gallery_G1.csv',
            '1N_probe_mixed.csv',
        )
    },
}


@pytest.mark.parametrize('case', CASES)
def test_changed_bytes(tmp_path, monkeypatch, case):
    kind, name, read = CASES[case]
    trees(kind, tmp_path)
    path = tmp_path / name
    images = FACES['ann'] + FACES['bea'][:1]
    if case.startswith('bin of protocol'):
        path.write_bytes(pickle.dumps((images, [True, False]), int(case[-1])))
    elif case == 'bin of arrays':
        arrays = [np.frombuffer(image, np.uint8) for image in images]
        path.write_bytes(pickle.dumps((arrays, np.array([True, False])), 4))
    elif case == 'bin of Python 2':
        path.write_bytes(writers.python2_bin(images, [True, False]))
    good = path.read_bytes()
    with monkeypatch.context() as strict:
        strict.setitem(globals(), 'attempt', lambda read, root: read())
        read(tmp_path)

    @settings(
        deadline=2000,
        max_examples=100,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(mutations)
    @example([('truncate', 0.0, None)])
    def check(changes):
        path.write_bytes(mutate(good, changes))
        if case == 'records without index':
            path.with_suffix('.idx').unlink(missing_ok=True)
        # Files of equal size may follow each other more quickly than their times tell.
        packed._OPENED.clear()
        attempt(lambda: read(tmp_path), tmp_path)

    check()
