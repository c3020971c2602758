"""Damaged and hostile files: what is raised names file, place, rule and the value that was seen."""

import os
import pickle
import re
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mmarcface.datasets import (
    IJB,
    LFW,
    AlignFace,
    CelebA,
    IdentityRecords,
    LoadImageFromFile,
    VerificationBin,
)
from mmarcface.datasets.formats.bin_file import BinFile
from mmarcface.datasets.formats.landmarks import read_landmarks
from mmarcface.datasets.formats.packed import image_uri
from mmarcface.datasets.formats.recordio import RecordFile

from . import writers
from .writers import MAGIC, content, insightface, part, record, tiny

MISSING, NOT_UTF8 = None, b'\xff\xfe'
FACES = {name: [b'image'] * 3 for name in ('ann', 'bea', 'cyd', 'dot')}


def damage(path: Path, line: int | None, to: str | bytes | None) -> None:
    """Replace a line of a file (or all of it, or its bytes) or remove it."""
    if isinstance(to, bytes):
        path.write_bytes(to)
    elif line is None and to is MISSING:
        path.unlink()
    elif line is None:
        path.write_text(to)
    else:
        lines = path.read_text().splitlines()
        lines[line - 1 : line] = [] if to is None else [to]
        path.write_text('\n'.join(lines) + '\n')


def check(read: Callable, path: Path, message: str, kind: type = ValueError) -> None:
    """What is raised names the file, and more."""
    with pytest.raises(kind) as raised:
        read()
    assert raised.type is kind
    found = str(raised.value)
    assert str(path) in found
    assert re.search(re.escape(path.name) + message, found), found


SAME = r'"name i j", two images of one identity.*got '
DIFFERENT = r'"name_a i name_b j", images of two identities.*got '
HEAD = r':1: the first line must be folds<TAB>pairs, or pairs; got '


@pytest.mark.parametrize(
    ('line', 'to', 'message'),
    [
        (1, '2\t3', r':1: 2 folds of 3 \+ 3 pairs are 12 lines, and 8 follow'),
        (1, '3\t2', r':1: 3 folds .* 12 lines, and 8 follow'),
        (9, None, r':1: 2 folds of 2 \+ 2 pairs are 8 lines, and 7 follow'),
        (9, 'a\t1\tb\t1\nc\t1\td\t1', r':1: .* 8 lines, and 9 follow'),
        (1, 'x\t2', HEAD + r"'x\\t2'"),
        (1, '2\t2\t2', HEAD + r"'2\\t2\\t2'"),
        (1, '0\t2', HEAD + r"'0\\t2'"),
        (1, '-2\t2', HEAD + r"'-2\\t2'"),
        (1, '2\t2.5', HEAD),
        (1, '\N{SUPERSCRIPT TWO}\t2', HEAD),
        (1, '9999999999\t2', HEAD),
        (None, '', HEAD + "''"),
        (None, '\n\n', HEAD + "''"),
        (None, NOT_UTF8, r':1: a list must be text in UTF-8, got the byte 0xff: save it in'),
        (2, 'ann\t1', r':2: line 1 of fold 1 must be ' + SAME + r"'ann\\t1'"),
        (2, 'ann\t1\t2\t3', r':2: line 1 of fold 1 must be ' + SAME),
        (2, '', r':2: .*' + SAME + "''"),
        (2, 'ann\t0\t2', r':2: .*numbers from 1 on; got ' + r"'ann\\t0\\t2'"),
        (2, 'ann\t1\t-2', r':2: .*' + SAME),
        (2, 'ann\tone\ttwo', r':2: .*' + SAME),
        (2, 'ann\t2\t2', r':2: .*' + SAME + r"'ann\\t2\\t2'"),
        (2, 'ann\t2\t02', r':2: .*' + SAME + r"'ann\\t2\\t02'"),
        (
            8,
            'cyd\t3\tcyd\t2',
            r':8: line 3 of fold 2 must be ' + DIFFERENT + r"'cyd\\t3\\tcyd\\t2'",
        ),
        (8, 'cyd\t3\t2', r':8: .*' + DIFFERENT),
        (8, 'cyd\t3\tdot\tx', r':8: .*' + DIFFERENT),
    ],
)
def test_pairs(tmp_path, line, to, message):
    writers.lfw(tmp_path, FACES)
    damage(tmp_path / 'pairs.txt', line, to)
    check(lambda: LFW(str(tmp_path)), tmp_path / 'pairs.txt', message)


@pytest.mark.parametrize(
    ('name', 'line', 'to', 'message'),
    [
        ('pairs.txt', None, MISSING, ' does not exist'),
        ('pairs.txt', 3, 'bea\t1\t4', ':3: image .*lfw/bea/bea_0004.jpg does not exist'),
        ('pairs.txt', 3, 'eve\t1\t2', ':3: image .*lfw/eve/eve_0001.jpg does not exist'),
        ('pairs.txt', 3, f'{"x" * 300}\t1\t2', ':3: image .*_0001.jpg does not exist'),
        ('pairs.txt', 3, 'a\0b\t1\t2', ':3: image .* does not exist'),
        ('people.txt', None, MISSING, ' does not exist'),
        ('people.txt', 3, 'ann\t4', ':3: image .*lfw/ann/ann_0004.jpg does not exist'),
        ('people.txt', 3, 'ann\t999999999', ':3: image .*lfw/ann/ann_0004.jpg does not exist'),
    ],
)
def test_missing_lfw(tmp_path, name, line, to, message):
    writers.lfw(tmp_path, FACES)
    damage(tmp_path / name, line, to)
    split = 'people' if name == 'people.txt' else 'view2'
    check(lambda: LFW(str(tmp_path), split), tmp_path / name, message, kind=FileNotFoundError)


PEOPLE_HEAD = r':1: the first line must be the number of folds or of people; got '


@pytest.mark.parametrize(
    ('name', 'line', 'to', 'message'),
    [
        ('people', 1, '3', r':1: 3 folds are announced, and 4 people in 2 folds follow'),
        ('people', 1, '1', r':1: 1 folds are announced, and 4 people in 2 folds follow'),
        ('people', 7, None, r':1: 2 folds are announced, and 3 people in 2 folds follow'),
        ('people', 1, '2\t2', PEOPLE_HEAD + r"'2\\t2'"),
        ('people', 1, '0', PEOPLE_HEAD + "'0'"),
        ('people', None, '', PEOPLE_HEAD + "''"),
        ('people', None, NOT_UTF8, ':1: a list must be text in UTF-8'),
        ('people', 5, 'two', ":5: a fold must begin with its number of people; got 'two'"),
        ('people', 2, '1', ":4: a fold must begin with its number of people; got 'bea"),
        ('people', 3, 'ann', ':3: a line must be "name images"; got \'ann\''),
        ('people', 3, 'ann\t0', r':3: a line must be "name images"; got ' + r"'ann\\t0'"),
        ('people', 3, 'ann\tmany', ':3: a line must be "name images"'),
        ('people', 3, 'ann\t1\t2', ':3: a line must be "name images"'),
        ('people', 6, 'ann\t1', ':6: ann is in line 3 already'),
        ('peopleDevTrain', 1, '3', ':1: 3 people are announced, and 2 people in 1 folds follow'),
        ('peopleDevTrain', 1, '1', ':1: 1 people are announced, and 2 people in 1 folds follow'),
        ('peopleDevTest', 2, None, ':1: 1 people are announced, and 0 people'),
    ],
)
def test_people(tmp_path, name, line, to, message):
    writers.lfw(tmp_path, FACES)
    path = tmp_path / f'{name}.txt'
    damage(path, line, to)
    split = dict(people='people', peopleDevTrain='people_train', peopleDevTest='people_test')[name]
    check(lambda: LFW(str(tmp_path), split), path, message)


GOOD_BIN = ([tiny(1), tiny(2)], [True])


class Calls:
    """Asks whoever unpickles it to call something."""

    def __init__(self, function: Callable | str, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


BIN_CASES = {
    'odd': (([b'1', b'2', b'3'], [True]), r': an even number of images is needed.* got 3'),
    'none': (([], []), r': an even number of images is needed.* got 0'),
    'fewer answers': (([b'1', b'2'] * 2, [True]), r': 4 images are 2 pairs, and .* 1 answers'),
    'more answers': (([b'1', b'2'], [True] * 2), r': 2 images are 1 pairs, and .* 2 answers'),
    'one list': (([b'1', b'2'],), r' must hold \(images, is_same\), got a tuple of 1'),
    'three lists': (([b'1'], [], []), r' must hold \(images, is_same\), got a tuple of 3'),
    'number': (7, r' must hold \(images, is_same\), got int 7'),
    'image is text': ((['1', b'2'], [True]), r': image 0 must be bytes, got str'),
    'image is a number': (([b'1', 2], [True]), r': image 1 must be bytes, got int 2'),
    'image is a list': (([b'1', [b'2']], [True]), r': image 1 must be bytes, got a list of 1'),
    'image of int16': (([b'1', np.zeros(2, np.int16)], [True]), r': image 1 must be bytes, got'),
    'image of one number': (([b'1', np.uint8(3)], [True]), r': image 1 must be bytes, got int 3'),
    'images are bytes': ((b'ab', [True]), r': images must be a list, got bytes'),
    'answer is text': (([b'1', b'2'], ['yes']), r': answer 0 must be a bool, got str'),
    'answer is 2': (([b'1', b'2'], [2]), r': answer 0 must be a bool, got int 2'),
    'answer is huge': (([b'1', b'2'], [1 << 99999]), r': answer 0 must be a bool, got int'),
    'answer is none': (([b'1', b'2'], [None]), r': answer 0 must be a bool, got nonetype'),
    'answers are one': (([b'1', b'2'], True), r': is_same must be a list, got int 1|bool True'),
    'answers are an array of one': (([b'1', b'2'], np.array(True)), r': is_same must be a list'),
    'answers are rows': (([b'1', b'2'], np.array([[True]])), r': answer 0 must be a bool'),
    'dict': (dict(images=[b'1', b'2'], is_same=[True]), r' is refused: .*instruction EMPTY_DICT'),
    'set': (([b'1', b'2'], {True}), r' is refused: .*instruction EMPTY_SET'),
    'float': (([b'1', b'2'], [1.0]), r' is refused: .*instruction BINFLOAT'),
    'array of floats': (([b'1', b'2'], np.ones(1)), r" is refused: .*NumPy numbers of type 'f8'"),
    'array of objects': (
        (np.array([b'1', b'2'], object), [True]),
        r" is refused: .*NumPy numbers of type 'O8'",
    ),
    'array of records': (
        (np.zeros(2, [('a', object)]), [True]),
        r" is refused: .*NumPy numbers of type 'V8'",
    ),
    'eval': (Calls(eval, '1'), r' is refused: it asks for builtins.eval.*may be malicious'),
    'getattr': (Calls(getattr, [], 'append'), r' is refused: it asks for builtins.getattr'),
    'bytes': (Calls(bytearray, 1 << 40), r' is refused: it asks for builtins.bytearray'),
    'numpy.load': (Calls(np.load, 'a', None, True), r' is refused: it asks for numpy\S*\.load'),
    'path': ((Path('a'), []), r' is refused: it asks for pathlib'),
}


@pytest.mark.parametrize(('data', 'message'), BIN_CASES.values(), ids=BIN_CASES)
def test_bin(tmp_path, data, message):
    path = tmp_path / 'lfw.bin'
    writers.write_bin(path, data)
    check(partial(VerificationBin, str(path)), path, message)


RAW_BINS = {
    'empty': (b'', r' \(0 bytes\) cannot be read: it is cut short'),
    'text': (b'not a pickle', r' \(12 bytes\) cannot be read'),
    'image': (tiny(0), r' is refused: it asks for the instruction PERSID.*or damaged'),
    'nothing': (b'.', r' \(1 bytes\) cannot be read'),
    'pop of nothing': (b'0.', r' .*cannot be read'),
    'unknown instruction': (b'\x80\x02\xff.', r' \(4 bytes\) cannot be read'),
    'later protocol': (b'\x80\x09].', r' .*cannot be read: .*unsupported pickle protocol: 9'),
    'memo of nothing': (b'\x80\x02h\x05.', r' .*cannot be read'),
    'frame beyond the end': (
        b'\x80\x04\x95' + struct.pack('<Q', 1 << 40) + b']].',
        r' .*must hold|.*cannot be read',
    ),
    'bytes beyond the end': (
        b'\x80\x04](\x8e' + struct.pack('<Q', 1 << 40) + b'abc',
        r' .*cannot be read',
    ),
    'bytearray beyond the end': (
        b'\x80\x05](\x96' + struct.pack('<Q', 1 << 40) + b'abc',
        r' .*cannot be read',
    ),
    'negative length': (b'\x80\x02](T\xff\xff\xff\xffabc', r' .*cannot be read'),
    'list in itself': (b'\x80\x02]q\0(h\0h\0e]\x88a\x86.', r': image 0 must be bytes, got a list'),
    'array without content': (
        b'\x80\x02](cnumpy.core.multiarray\n_reconstruct\n)R2e]\x88a\x86.',
        r': image 0 must be bytes, got nonetype',
    ),
    'images without content': (
        b'\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R]\x88a\x86.',
        r': images must be a list, got',
    ),
    'global that is no function': (b'\x80\x02cnumpy\nndarray\n)R.', r' .*cannot be read'),
    'extension': (b'\x80\x02\x82\x01.', r' is refused: it asks for the instruction EXT1'),
    'instance': (b'(ios\nsystem\n.', r' is refused: it asks for the instruction INST'),
    'persistent': (b'\x80\x02]Q.', r' is refused: it asks for the instruction BINPERSID'),
    'out of band': (b'\x80\x05\x97.', r' is refused: it asks for the instruction NEXT_BUFFER'),
}


@pytest.mark.parametrize(('data', 'message'), RAW_BINS.values(), ids=RAW_BINS)
def test_raw_bin(tmp_path, data, message):
    path = tmp_path / 'lfw.bin'
    path.write_bytes(data)
    check(partial(VerificationBin, str(path)), path, message)


@pytest.mark.parametrize('protocol', range(6))
def test_bin_that_is_cut_short(tmp_path, protocol):
    whole = pickle.dumps(GOOD_BIN, protocol)
    path = tmp_path / 'lfw.bin'
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        check(
            partial(VerificationBin, str(path)),
            path,
            rf' \({end} bytes\) cannot be read: it is cut short| is refused: .*, or damaged',
        )


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('nested', [False, True])
def test_bin_runs_nothing(tmp_path, protocol, nested):
    path, trace = tmp_path / 'lfw.bin', tmp_path / 'trace'
    call = Calls(os.system, f'touch {trace}')
    path.write_bytes(pickle.dumps(([call, b'2'], [True]) if nested else call, protocol))
    check(
        partial(VerificationBin, str(path)), path, r' is refused: it asks for (posix|nt|os).system'
    )
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()


def test_content_that_multiplies(tmp_path):
    """A few bytes that ask for the same megabyte again and again."""
    path = tmp_path / 'lfw.bin'
    text = b'X' + struct.pack('<I', 1 << 20) + bytes(1 << 20)
    encode = b'c_codecs\nencode\nq\x01'
    again = b'h\x01h\x00X\x06\x00\x00\x00latin1\x86R'
    path.write_bytes(b'\x80\x02' + text + b'q\x00' + encode + b'](' + again * 2000 + b'e.')
    with pytest.raises(ValueError, match=r'lfw.bin is refused: it asks for more bytes than it'):
        BinFile(path)
    image = np.zeros(1 << 20, np.uint8)
    path.write_bytes(pickle.dumps(([image] * 2000, [True] * 1000)))
    images = BinFile(path).images
    assert len({id(image) for image in images}) == 1


def test_memo_with_huge_numbers(tmp_path):
    # Room for all results up to that number would be 16 GiB.
    path = tmp_path / 'lfw.bin'
    path.write_bytes(b'\x80\x02](U\x01ar\xff\xff\xff\x7fU\x01be]\x88a\x86.')
    assert VerificationBin(str(path)).metainfo['pairs'].is_same.tolist() == [True]


def test_missing_files(tmp_path):
    for read, name in (
        (VerificationBin, 'lfw.bin'),
        (IdentityRecords, 'train.rec'),
        (read_landmarks, 'list.txt'),
    ):
        path = tmp_path / name
        check(partial(read, str(path)), path, ' does not exist', kind=FileNotFoundError)
        path.mkdir()
        check(partial(read, str(path)), path, ' does not exist', kind=FileNotFoundError)


IMAGE = record([0], b'image', 1)
SPLIT = record([0], b'four' + MAGIC + b'four' + MAGIC + b'five', 2)
FIRST, MIDDLE, LAST = (part(content([0], b'a'), 1), part(b'b', 2), part(b'c', 3))
REC_CASES = {
    'empty': (b'', r' is empty: a .rec file must hold records'),
    'text': (
        b'something else',
        r': the record at byte 0 must begin with .*0xced7230a, got 0x656d6f73',
    ),
    'bad magic': (IMAGE + b'\1' * 40, r': the record at byte 40 must .*0xced7230a, got 0x1010101'),
    'shorter than a record': (b'abc', r': a record must begin at byte 0, and the file ends at 3'),
    'cut in the words': (IMAGE + MAGIC, r': a record must begin at byte 40, .* ends at 44'),
    'cut in the header': (IMAGE[:20], r': the record at byte 0 is cut short, it is 29 bytes long'),
    'cut in the image': (
        IMAGE + IMAGE[:-8],
        r': the record at byte 40 is cut short, .* 24 are left',
    ),
    'short header': (part(bytes(23)), r': record at byte 0: .* a header of 24 bytes, this one 23'),
    'no content': (IMAGE + part(b''), r': record at byte 40: .* header of 24 bytes, this one 0'),
    'flag': (part(struct.pack('<IfQQf', 2, 0, 0, 0, 1)), r': .*announces 2 labels, and 4 bytes'),
    'huge flag': (
        part(struct.pack('<IfQQ', 2**32 - 1, 0, 0, 0)),
        r': .*announces 4294967295 labels',
    ),
    'kind': (IMAGE + part(content([0], b''), 4), r': the record at byte 40 is of unknown kind 4'),
    'middle first': (IMAGE + MIDDLE, r': byte 40 is in the middle of a split record'),
    'last first': (LAST, r': byte 0 is in the middle of a split record, where none begins'),
    'split without end': (FIRST, r': a record must begin at byte 36, and the file ends at 36'),
    'split and then whole': (
        FIRST + IMAGE,
        r': .* at byte 0 must go on at byte 36, and an',
    ),
    'split in a split': (
        FIRST + MIDDLE + FIRST + LAST,
        r': .* at byte 0 must go on at byte 48,',
    ),
    'split that is cut': (SPLIT[:-4], r': the record at byte \d+ is cut short, it is 4 bytes long'),
    **{
        f'label {label}': (
            IMAGE + record([label], b'image', 2),
            rf': record 2: the label must be a whole number .*, got {re.escape(str(label))}',
        )
        for label in (float('nan'), -1.0, 1.5, float('inf'), 2.0**63)
    },
    'label of several': (record([-2, 1], b'i', 9), r': record 9: the label must be .* got -2'),
    'label of a person': (
        b''.join((insightface({4: [b'a']}) | {1: record([0.5], b'a', 1)}).values()),
        r': record 1: the label must be a whole number from 0 on, .*, got 0.5',
    ),
}


@pytest.mark.parametrize(('data', 'message'), REC_CASES.values(), ids=REC_CASES)
def test_rec(tmp_path, data, message):
    path = tmp_path / 'train.rec'
    path.write_bytes(data)
    check(lambda: IdentityRecords(str(path)), path, message)
    assert not path.with_suffix('.idx').exists() or 'label' in message


def test_damaged_records_are_found_in_reading(tmp_path):
    # An index leads past the others.
    path = tmp_path / 'train.rec'
    data = IMAGE + part(bytes(9)) + IMAGE[:-8]
    path.write_bytes(data)
    path.with_suffix('.idx').write_text('1\t0\n2\t40\n3\t60\n')
    file = RecordFile(path)
    assert file.image(1) == b'image'
    for read in (file.read, file.image):
        check(partial(read, 2), path, ': record 2 at byte 40: .* header of 24 bytes, this one 9')
        check(partial(read, 3), path, ': the record at byte 60 is cut short, it is 29 .* 24 are')
    check(lambda: file.labels(2), path, ': record at byte 40: .* header of 24 bytes, this one 9')


RULE = r'a line must be "key<TAB>offset", key from 0 on and offset in \[0, 80\)'


@pytest.mark.parametrize(
    ('index', 'message'),
    [
        ('1\t0\n2\t80\n', rf':2: {RULE}; got ' + r"'2\\t80'"),
        ('1\t0\n2\t99999999999999999999\n', rf':2: {RULE}; got'),
        ('99999999999999999999\t0\n', rf':1: {RULE}; got'),
        ('one\t0\n', rf':1: {RULE}; got ' + r"'one\\t0'"),
        ('1\t0.0\n', rf':1: {RULE}; got'),
        ('1\tnan\n', rf':1: {RULE}; got'),
        ('-1\t0\n', rf':1: {RULE}; got ' + r"'-1\\t0'"),
        ('1\t0\n2\t-40\n', rf':2: {RULE}; got ' + r"'2\\t-40'"),
        ('1\n', rf":1: {RULE}; got '1'"),
        ('1\t0\t0\n', rf':1: {RULE}; got ' + r"'1\\t0\\t0'"),
        ('1\t0\n2\n', rf":2: {RULE}; got '2'"),
        ('1\t0\n2\t40\t1\n', rf':2: {RULE}; got'),
        ('1,0\n', rf":1: {RULE}; got '1,0'"),
        ('# 1\t0\n', rf':1: {RULE}; got'),
        (b'1\t0\n\xff\t40\n', rf':2: {RULE}; got ' + "'\N{REPLACEMENT CHARACTER}"),
        ('', rf': {RULE}; the file has no lines'),
        ('\n', rf':1: {RULE}'),
        ('1\t0\n2\t40\n1\t40\n', r':3: a key must be there once, 1 is in line 1 too'),
    ],
)
def test_idx(tmp_path, index, message):
    path = tmp_path / 'train.rec'
    path.write_bytes(IMAGE * 2)
    damage(path.with_suffix('.idx'), None, index)
    check(lambda: IdentityRecords(str(path)), path.with_suffix('.idx'), message)


@pytest.mark.parametrize(
    ('offset', 'message'),
    [
        (39, r': the record at byte 39 must begin with the magic word .* its .idx is of another'),
        (4, r': the record at byte 4 must begin with the magic word 0xced7230a, got 0x1d'),
        (76, r': a record must begin at byte 76, and the file ends at 80'),
    ],
)
def test_offset_inside_a_record(tmp_path, offset, message):
    path = tmp_path / 'train.rec'
    path.write_bytes(IMAGE * 2)
    path.with_suffix('.idx').write_text(f'1\t0\n2\t{offset}\n')
    check(lambda: IdentityRecords(str(path)), path, message)
    check(lambda: RecordFile(path).image(2), path, message)


POINTS = 'a line must be the name of an image and x and y of two or five points'


@pytest.mark.parametrize(
    ('name', 'line', 'to', 'message'),
    [
        ('identity', 4, '000003.jpg 7', ':4: 000003.jpg is in line 3 already'),
        ('identity', 2, '000002.jpg x', ':2: a line must be "image identity.*got .000002.jpg x'),
        ('identity', 2, '000002.jpg -7', ':2: a line must be "image identity, a number"'),
        ('identity', 2, '000002.jpg 7.5', ':2: a line must be "image identity, a number"'),
        ('identity', 2, '000002.jpg', ':2: a line must be .*got .000002.jpg'),
        ('identity', 2, '000002.jpg 7 7', ':2: a line must be'),
        ('identity', 2, '', ":2: a line must be .*got ''"),
        ('identity', 2, '000002.jpg \N{SUPERSCRIPT TWO}', ':2: a line must be'),
        ('identity', None, NOT_UTF8, ':1: a list must be text in UTF-8'),
        ('identity', None, '', ' lists no images'),
        ('partition', 5, '000005.jpg 3', ':5: .*image part, 0, 1 or 2"; got .000005.jpg 3'),
        ('partition', 5, '000005.jpg one', ':5: a line must be "image part, 0, 1 or 2"'),
        ('partition', 5, None, ' must list the images of .*: 1 are missing, the first is 000005'),
        ('partition', 5, '000006.jpg 0', ':6: 000006.jpg is in line 5 already'),
        ('partition', None, '', ' lists no images'),
        ('landmarks', 4, '000002.jpg 1 2 3', f":4: {POINTS}; got '000002.jpg 1 2 3'"),
        ('landmarks', 4, '000002.jpg ' + '1 ' * 12, f':4: {POINTS}'),
        ('landmarks', 4, '000002.jpg 1 2 3 nan', f':4: {POINTS}; got .*nan'),
        ('landmarks', 4, '000002.jpg 1 2 3 inf', f':4: {POINTS}; got .*inf'),
        ('landmarks', 4, '000002.jpg 1 2 3 1e999', f':4: {POINTS}; got .*1e999'),
        ('landmarks', 4, '000002.jpg 1 2 3 x', f':4: {POINTS}; got'),
        ('landmarks', 4, '', f":4: {POINTS}; got ''"),
        ('landmarks', 4, '000001.jpg 1 2 3 4', ':4: 000001.jpg is in line 3 already'),
        ('landmarks', 1, '11', ': 11 images are announced, and 12 are listed'),
        ('landmarks', 14, None, ': 12 images are announced, and 11 are listed'),
        ('landmarks', 1, '\N{SUPERSCRIPT TWO}', f':1: {POINTS}'),
        (
            'landmarks',
            4,
            '000013.jpg 1 2 3 4',
            ' must list the images of .*: 1 are missing, .*2.jpg',
        ),
        ('landmarks', None, '', ': some images are announced, and 0 are listed'),
        ('landmarks', None, '5', ': 5 images are announced, and 0 are listed'),
        ('landmarks', None, NOT_UTF8, ':1: a list must be text in UTF-8'),
    ],
)
def test_celeba(tmp_path, name, line, to, message):
    writers.celeba(tmp_path, FACES)
    names = dict(
        identity='identity_CelebA.txt',
        partition='list_eval_partition.txt',
        landmarks='list_landmarks_align_celeba.txt',
    )
    path = tmp_path / names[name]
    damage(path, line, to)
    options = dict(partition=dict(split='train'), landmarks=dict(landmarks=path.name)).get(name, {})
    check(lambda: CelebA(str(tmp_path), **options), path, message)


@pytest.mark.parametrize(
    ('name', 'line', 'to', 'message'),
    [
        ('identity_CelebA.txt', None, MISSING, ' does not exist: fetch it from https://mmlab'),
        ('identity_CelebA.txt', 3, 'x.jpg 7', ':3: image .*img_align_celeba/x.jpg does not exist'),
        ('list_eval_partition.txt', None, MISSING, ' does not exist: fetch it from https://mmlab'),
        ('points.txt', None, MISSING, ' does not exist: a list of landmarks is needed'),
    ],
)
def test_missing_celeba(tmp_path, name, line, to, message):
    writers.celeba(tmp_path, FACES)
    if (tmp_path / name).exists():
        damage(tmp_path / name, line, to)
    options = {
        'list_eval_partition.txt': dict(split='val'),
        'points.txt': dict(landmarks='points.txt'),
    }.get(name, {})
    check(
        lambda: CelebA(str(tmp_path), **options), tmp_path / name, message, kind=FileNotFoundError
    )


LISTED, SCORES, PAIRS = 'face_tid_mid.txt', 'name_5pts_score.txt', 'template_pair_label.txt'
GALLERY, PROBES = '1N_gallery_G1.csv', '1N_probe_mixed.csv'
ROW = 'a line must be "TEMPLATE_ID,SUBJECT_ID"; got '


@pytest.mark.parametrize(
    ('name', 'line', 'to', 'message'),
    [
        (LISTED, 2, '2.jpg 12', ':2: a line must be "image template media".*got .2.jpg 12'),
        (LISTED, 2, '2.jpg x 101', ':2: a line must be "image template media".*got .2.jpg x 101'),
        (LISTED, 2, '2.jpg 12 1.5', ':2: a line must be "image template media"'),
        (LISTED, 2, '2.jpg 12 99999999999999999999', ':2: a line must be "image template media"'),
        (LISTED, 2, '2.jpg 12 \N{SUPERSCRIPT TWO}', ':2: a line must be "image template media"'),
        (LISTED, None, '', ' has no lines of "image template media"'),
        (LISTED, None, b'1.jpg 11 100\n\xff.jpg 11 100\n', ':2: a list must be text in UTF-8'),
        (SCORES, 3, '9.jpg 1 2 3', f':3: {POINTS}'),
        (
            SCORES,
            12,
            '1.jpg 1 2 3 4 0.5',
            ' must give five points and a score for 1.jpg of .*txt:1',
        ),
        (SCORES, 12, None, ' must give five points and a score for 1.jpg of .*tid_mid.txt:1'),
        (SCORES, 12, '1.jpg' + 10 * ' 1', ' must give five points and a score for 1.jpg'),
        (SCORES, None, NOT_UTF8, ':1: a list must be text in UTF-8'),
        (PAIRS, 3, '11 21 2', ':3: the answer must be 0 or 1, got 2'),
        (PAIRS, 3, '11 21', ":3: a line must be .template template 0 or 1.*got '11 21'"),
        (PAIRS, 3, '11 21 no', ':3: a line must be .template template 0 or 1.*got'),
        (PAIRS, 3, '11 13 0', ':3: template 13 has no images'),
        (PAIRS, 3, '99 11 0', ':3: template 99 has no images'),
        (PAIRS, None, '', ' has no lines of'),
        (GALLERY, 2, '11', f":2: {ROW}'11'"),
        (GALLERY, 2, '11,eve,1.jpg', f":2: {ROW}'11,eve,1.jpg'"),
        (GALLERY, 2, '11 1001', f':2: {ROW}'),
        (
            GALLERY,
            3,
            '11,1009,1.jpg',
            ':3: template 11 is of subject 1009 here, and of 1001 before',
        ),
        (GALLERY, 3, '13,1009,1.jpg', ':3: template 13 has no images'),
        (GALLERY, None, 'TEMPLATE_ID,SUBJECT_ID\n', ' has no lines of "TEMPLATE_ID,SUBJECT_ID"'),
        (PROBES, 2, ',1001,1.jpg', f':2: {ROW}'),
        (PROBES, None, '', ' has no lines of "TEMPLATE_ID,SUBJECT_ID"'),
    ],
)
def test_ijb(tmp_path, name, line, to, message):
    writers.ijb(tmp_path, FACES)
    path = tmp_path / 'meta' / f'ijbc_{name}'
    damage(path, line, to)
    check(lambda: IJB(str(tmp_path)), path, message)


@pytest.mark.parametrize('name', [LISTED, SCORES, PAIRS, GALLERY, '1N_gallery_G2.csv', PROBES])
def test_missing_list_of_ijb(tmp_path, name):
    writers.ijb(tmp_path, FACES)
    path = tmp_path / 'meta' / f'ijbc_{name}'
    path.unlink()
    check(lambda: IJB(str(tmp_path)), path, ' does not exist: correct', kind=FileNotFoundError)


@pytest.mark.parametrize('name', ['3.jpg', 'x' * 300])
def test_missing_image_of_ijb(tmp_path, name):
    writers.ijb(tmp_path, FACES)
    for path in (tmp_path / 'meta').glob('*.txt'):
        path.write_text(path.read_text().replace('3.jpg', name))
    (tmp_path / 'loose_crop' / '3.jpg').unlink()
    path = tmp_path / 'meta' / f'ijbc_{LISTED}'
    check(lambda: IJB(str(tmp_path)), path, f':3: image .*/{name}', kind=FileNotFoundError)


@pytest.mark.parametrize(
    ('read', 'message'),
    [
        (lambda: LFW('', 'view3'), "split must be one of .*'view2'.*got 'view3'"),
        (lambda: CelebA('', 'dev'), r"split must be one of \('train', 'val', 'test'\).*got 'dev'"),
        (lambda: IJB('', 'ijba'), r"benchmark must be one of \['ijbb', 'ijbc'\], got 'ijba'"),
        (lambda: IJB('', protocols=('1:M',)), r"protocols must be of '1:1' and '1:N', got \('1:M'"),
        (lambda: IJB('', protocols=()), r"protocols must be of '1:1' and '1:N', got \(\)"),
    ],
)
def test_arguments(read, message):
    with pytest.raises(ValueError, match=message):
        read()


@pytest.mark.parametrize('image', [b'', b'text', tiny(1)[:40]], ids=['empty', 'text', 'cut short'])
def test_unreadable_images_inside_files(tmp_path, image):
    rec = writers.write_rec(tmp_path / 'train.rec', insightface({0: [tiny(0), image]}))
    images = writers.write_bin(tmp_path / 'lfw.bin', ([tiny(0), image], [True]))
    for path, dataset, place in (
        (rec, IdentityRecords(rec), 2),
        (images, VerificationBin(images), 1),
    ):
        assert LoadImageFromFile()(dataset[0])['img'].shape == (6, 5, 3)
        check(
            partial(LoadImageFromFile(), dataset[1]), Path(path), f'#{place} cannot be read: it is'
        )


@pytest.mark.parametrize('place', [2, -1])
def test_unknown_image_of_a_bin(tmp_path, place):
    path = writers.write_bin(tmp_path / 'lfw.bin', GOOD_BIN)
    where = image_uri('bin', path, place)
    check(lambda: LoadImageFromFile()(dict(img_path=where)), Path(path), f' has no image {place}')


IMG = dict(img=np.zeros((20, 20, 3), np.uint8), img_path='faces/a.png')


@pytest.mark.parametrize(
    ('points', 'message'),
    [
        (None, 'faces/a.png has no landmarks: give AlignFace a list of them'),
        (
            [[3, 4]] * 5,
            'landmarks of faces/a.png must be different points, got .*3.0, 4.0',
        ),
        ([[3, 4]] * 2, 'landmarks of faces/a.png must be different points'),
        (
            [[3, 4]] * 3,
            'must be x and y of two or five points in pixels, got .*3.0, 4.0',
        ),
        ([3, 4], r'faces/a.png must be x and y of two or five points in pixels, got \[3.0, 4.0\]'),
        ([[3, 4, 1]] * 5, 'faces/a.png must be x and y of two or five points'),
        ([], r'faces/a.png must be x and y of two or five points in pixels, got \[\]'),
        (
            [[3, float('nan')], [4, 5]],
            'must be x and y of .* points in pixels, got .*nan',
        ),
        (
            [[3, float('inf')], [4, 5]],
            'must be x and y of .* points in pixels, got .*inf',
        ),
    ],
)
def test_align_face(points, message):
    sample = IMG if points is None else IMG | dict(landmarks=points)
    with pytest.raises(ValueError, match=message):
        AlignFace()(sample)


def test_align_face_with_a_list(tmp_path):
    path = tmp_path / 'points.txt'
    writers.write_lines(path, ['b.png 1 2 3 4'])
    align = AlignFace(landmarks=str(path), img_prefix='faces')
    check(lambda: align(IMG), path, " has no landmarks of a.png: names are paths from .*'faces'")
    path.write_text('b.png 1 2 3\n')
    check(lambda: AlignFace(landmarks=str(path)), path, ":1: .*got 'b.png 1 2 3'")


@pytest.mark.parametrize('size', [0, -1, (112, 0), (112,), (112, 96, 3), 112.5, '112', None, True])
def test_align_face_size(size):
    with pytest.raises(ValueError, match=r'size must be a height and a width in pixels, got '):
        AlignFace(size)
