import os
import shutil
import struct
import tempfile
from pathlib import Path

import mmengine.fileio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mmarcface.datasets import IdentityRecords, LoadImageFromFile, identity_records
from mmarcface.datasets.formats.packed import image_uri
from mmarcface.datasets.formats.recordio import RecordFile, RecordWriter
from tests.datasets.writers import (
    MAGIC,
    content,
    insightface,
    part,
    photographs,
    png,
    record,
    tiny,
    write_rec,
)

A, B = b'abcd', b'efgh'
PAYLOADS = {
    'empty': b'',
    **{f'{n} bytes': bytes(range(1, n + 1)) for n in (1, 2, 3, 4, 5, 6, 7)},
    'magic at start': MAGIC + A,
    'magic in middle': A + MAGIC + B,
    'magic at end': A + MAGIC,
    'magic alone': MAGIC,
    'magic in a row': A + MAGIC * 3 + B,
    'magic everywhere': MAGIC * 4,
    'magic apart': MAGIC + A + MAGIC + b'x',
    **{f'magic {n} past': bytes(n) + MAGIC + A for n in (1, 2, 3)},
    'magic cut short': A + MAGIC[:3],
    'magic split in two': MAGIC[2:] + MAGIC[:2],
}
# A label may look like the magic word too.
(MAGIC_LABEL,) = struct.unpack('<f', MAGIC)
LABELS = {
    'one': (3.0,),
    'two': (5.0, 0.25),
    'many': tuple(range(9)),
    'magic': (MAGIC_LABEL,),
    'several magic': (1.0, MAGIC_LABEL, MAGIC_LABEL),
}


def write(path, records):
    writer = RecordWriter(path)
    for key, (labels, image) in records.items():
        writer.write(key, labels, image)
    writer.finish()
    return RecordFile(path)


@pytest.mark.parametrize('labels', LABELS.values(), ids=LABELS)
@pytest.mark.parametrize('image', PAYLOADS.values(), ids=PAYLOADS)
def test_round_trip(tmp_path, labels, image):
    path = tmp_path / 'train.rec'
    file = write(path, {7: (labels, image), 8: ((1.0,), b'next')})
    first = record(labels, image, 7)
    assert path.read_bytes() == first + record([1], b'next', 8)
    assert path.with_suffix('.idx').read_text() == f'7\t0\n8\t{len(first)}\n'
    assert file.read(7).labels == file.labels(7) == labels
    assert file.read(7).image == file.image(7) == image
    assert file.read(7).number == 7
    assert file.image(8) == b'next'
    path.with_suffix('.idx').unlink()
    assert RecordFile(path).offsets.tolist() == [0, len(first)]


label = st.floats(width=32, allow_nan=False)
payload = st.lists(st.sampled_from([MAGIC, MAGIC[:2], A, b'x', b'']), max_size=6).map(b''.join)
contents = st.lists(
    st.tuples(st.lists(label, min_size=1, max_size=4).map(tuple), payload | st.binary(max_size=9)),
    min_size=1,
    max_size=6,
)
keys = st.integers(0, 2**63 - 1) | st.just(0xCED7230A)


@settings(deadline=None, max_examples=60)
@given(contents, st.data())
def test_round_trip_of_anything(records, data):
    numbers = data.draw(
        st.lists(keys, min_size=len(records), max_size=len(records), unique=True), 'keys'
    )
    records = dict(zip(numbers, records, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'train.rec')
        for file in (write(path, records), None):
            file = file or RecordFile(path)
            assert file.keys.tolist() == sorted(records)
            for key, (labels, image) in records.items():
                found = file.read(key)
                assert (found.labels, found.number, found.image) == (labels, key, image)
                assert (file.labels(key), file.image(key)) == (labels, image)
            path.with_suffix('.idx').unlink()


@settings(deadline=None, max_examples=60)
@given(contents, st.data())
def test_interrupted_writer_goes_on(records, data):
    encoded = [record(*one, number=key) for key, one in enumerate(records)]
    ends = np.cumsum([len(one) for one in encoded])
    cut = data.draw(st.integers(0, int(ends[-1])) | st.sampled_from(ends.tolist()), 'cut')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'train.rec')
        path.with_suffix('.rec.partial').write_bytes(b''.join(encoded)[:cut])
        writer = RecordWriter(path)
        assert writer.keys == list(range((ends <= cut).sum()))
        for key in range(len(writer.keys), len(records)):
            writer.write(key, *records[key])
        assert not path.exists()
        writer.finish()
        assert [file.name for file in sorted(Path(folder).iterdir())] == ['train.idx', 'train.rec']
        assert path.read_bytes() == b''.join(encoded)
        offsets = [0, *ends.tolist()]
        assert path.with_suffix('.idx').read_text() == ''.join(
            f'{key}\t{offsets[key]}\n' for key in range(len(records))
        )


def test_split_record_by_hand(tmp_path):
    path = tmp_path / 'train.rec'
    image = bytes(range(40))
    whole = struct.pack('<IfQQ', 0, 6.0, 2, 0) + image[:8]
    path.write_bytes(
        struct.pack('<II', 0xCED7230A, 1 << 29 | len(whole))
        + whole
        + struct.pack('<II', 0xCED7230A, 2 << 29)
        + struct.pack('<II', 0xCED7230A, 2 << 29 | 12)
        + image[8:20]
        + struct.pack('<II', 0xCED7230A, 3 << 29 | 19)
        + image[20:39]
        + b'\0'
    )
    file = RecordFile(path)
    joined = image[:8] + MAGIC * 2 + image[8:20] + MAGIC + image[20:39]
    assert file.keys.tolist() == [2]
    assert file.read(2).image == file.image(2) == joined
    assert file.labels(2) == (6.0,)


def test_split_record_in_a_large_file(tmp_path):
    # The bits of the kind may not be taken for the length of a whole record that would fit.
    path = tmp_path / 'train.rec'
    write_rec(path, {0: record([1], A + MAGIC + B)})
    with path.open('r+b') as file:
        file.truncate((1 << 29) + 1000)
    assert RecordFile(path).image(0) == A + MAGIC + B


def test_too_long_record(tmp_path, monkeypatch):
    monkeypatch.setattr('mmarcface.datasets.formats.recordio.LENGTH_BITS', 6)
    writer = RecordWriter(tmp_path / 'train.rec')
    with pytest.raises(ValueError, match=r'train.rec: .* shorter than 64 bytes, record 4 has 64'):
        writer.write(4, [1], bytes(40))
    writer.write(5, [1], bytes(39))
    assert writer.keys == [5]


@pytest.mark.parametrize('number_of', [lambda key: key, lambda key: 0], ids=['noted', 'all 0'])
def test_missing_index(tmp_path, number_of):
    path = tmp_path / 'train.rec'
    records = {k: record([k], A * k, number_of(k)) for k in (1, 2, 3, 0)}
    write_rec(path, records, index=False)
    file = RecordFile(path)
    # Without numbers, keys count the records as they are in the file.
    expected = {0: 0, 1: 1, 2: 2, 3: 3} if number_of(1) else {0: 1, 1: 2, 2: 3, 3: 0}
    assert {key: int(file.labels(key)[0]) for key in file.keys.tolist()} == expected
    assert path.with_suffix('.idx').is_file()
    again = RecordFile(path)
    assert (again.keys.tolist(), again.offsets.tolist()) == (
        file.keys.tolist(),
        file.offsets.tolist(),
    )


def test_index_that_cannot_be_written(tmp_path):
    path = tmp_path / 'train.rec'
    write_rec(path, insightface({4: [A]}), index=False)
    path.with_suffix('.idx').mkdir()
    assert RecordFile(path).keys.tolist() == [0, 1, 2]
    assert sorted(file.name for file in tmp_path.iterdir()) == ['train.idx', 'train.rec']


@pytest.mark.skipif(os.geteuid() == 0, reason='may write to every folder')
def test_read_only_folder(tmp_path):
    path = tmp_path / 'train.rec'
    write_rec(path, insightface({4: [A]}), index=False)
    tmp_path.chmod(0o500)
    try:
        assert RecordFile(path).keys.tolist() == [0, 1, 2]
        assert not path.with_suffix('.idx').exists()
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize('key', [-1, 5, 2**31, 2**63, 10**30])
def test_unknown_key(tmp_path, key):
    path = write_rec(tmp_path / 'train.rec', {1: record([0], A), 9: record([0], B)})
    with pytest.raises(ValueError, match=rf'train.rec has no record {key}'):
        RecordFile(path).read(key)


PEOPLE = {3: [b'a', b'bb'], 8: [b'ccc'], 9: [A, B, A]}
OF_PEOPLE = [(b'a', 0), (b'bb', 0), (b'ccc', 1), (A, 2), (B, 2), (A, 2)]


def found_in(dataset):
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [(mmengine.fileio.get(info['img_path']), info['gt_label']) for info in infos]


def without(*left_out, **changed):
    changed = {int(key[1:]): value for key, value in changed.items()}
    return {k: r for k, r in (insightface(PEOPLE) | changed).items() if k not in left_out}


LAYOUTS = {
    'identity records': without(),
    'identity records of one label': without(_8=record([3], b'', 8)),
    'ranges that overlap': without(_7=record([1, 4], b'', 7)),
    'ranges with a hole': without(_8=record([4, 4], b'', 8)),
    'ranges at the wrong person': without(
        _7=record([1, 2], b'', 7), _8=record([2, 4], b'', 8), _9=record([4, 7], b'', 9)
    ),
    'ranges of parts': without(_7=record([1, 2.5], b'', 7), _8=record([2.5, 4], b'', 8)),
    'ranges that are nan': without(_8=record([float('nan'), 4], b'', 8)),
    'ranges beyond all numbers': without(_8=record([1e38, 3e38], b'', 8)),
    'infinite ranges': without(_8=record([3, float('inf')], b'', 8)),
    'no identity records': without(7, 8, 9),
    'other keys': {10 * key + 5: record for key, record in without(0, 7, 8, 9).items()},
    'from 0 on': {key - 1: record for key, record in without(0, 7, 8, 9).items()},
}


@pytest.mark.parametrize('records', LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path, records):
    dataset = IdentityRecords(write_rec(tmp_path / 'train.rec', records))
    assert found_in(dataset) == OF_PEOPLE
    assert dataset.metainfo['classes'] == ('3', '8', '9')


def test_identity_record_without_images_of_its_own(tmp_path):
    # The end of the images is taken from record 0, and the rest from their headers.
    records = without(_3=record([3], b'ccc', 3))
    dataset = IdentityRecords(write_rec(tmp_path / 'train.rec', records))
    assert [label for _, label in found_in(dataset)] == [0, 0, 0, 1, 1, 1]


IM2REC = {key: record([label], image, key) for key, (image, label) in enumerate(OF_PEOPLE)}
WITHOUT_IMAGE = {
    'one label': record([5], b''),
    'label of an image': record([1], b''),
    'two labels': record([3, 9], b''),
    'labels that rise not': record([9, 3], b''),
    'parts': record([0.5, 2], b''),
    'three labels': record([7, 10, 1], b''),
}


@pytest.mark.parametrize('head', WITHOUT_IMAGE.values(), ids=WITHOUT_IMAGE)
@pytest.mark.parametrize('first', [1, 2], ids=['from 1 on', 'from 2 on'])
def test_record_0_without_an_image(tmp_path, head, first, logged):
    """Of im2rec, or of a header that is cut short; not the head of insightface's files."""
    path = tmp_path / 'train.rec'
    records = {0: head} | {key + first: record for key, record in IM2REC.items()}
    dataset = IdentityRecords(write_rec(path, records))
    assert found_in(dataset) == OF_PEOPLE
    assert dataset.metainfo['classes'] == ('0', '1', '2')
    assert dataset.fingerprint
    assert logged == [f'{path}: left out 1 of 7 records, which hold no image, such as record 0']


def test_images_behind_those_of_record_0(tmp_path):
    """Added to a file of insightface's layout after it was made."""
    records = insightface(PEOPLE)
    for key in (10, 30):
        more = records | {key: record([8], b'more', key)}
        dataset = IdentityRecords(write_rec(tmp_path / f'{key}.rec', more))
        assert found_in(dataset) == [*OF_PEOPLE, (b'more', 1)]


def test_people_without_record_0(tmp_path, logged):
    """Records of people have several labels and no image; with the numbers all 0 too."""
    for number_of in (lambda key: key, lambda key: 0):
        records = {
            key: record([label], image, number_of(key))
            for key, (image, label) in enumerate(OF_PEOPLE, 1)
        } | {key: record([1, 4], b'', number_of(key)) for key in (7, 8)}
        path = tmp_path / f'{number_of(1)}.rec'
        assert found_in(IdentityRecords(write_rec(path, records, index=False))) == OF_PEOPLE
        assert 'left out 2 of 8 records, which hold no image' in logged[-1]


def test_im2rec_with_float_and_several_labels(tmp_path):
    images = {key: (label, b'%d' % key) for key, label in enumerate((4.0, 0.0, 4.0), 5)}
    records = {key: record([label, 0.25], image, key) for key, (label, image) in images.items()}
    dataset = IdentityRecords(write_rec(tmp_path / 'train.rec', records))
    assert found_in(dataset) == [(b'5', 1), (b'6', 0), (b'7', 1)]
    records[6] = record([0.25, 4.0], b'', 6)
    assert len(IdentityRecords(write_rec(tmp_path / 'train.rec', records))) == 2
    records[6] = record([0.25], b'6', 6)
    with pytest.raises(
        ValueError, match=r'record 6: the label must be a whole .* got 0.25.*does no'
    ):
        IdentityRecords(write_rec(tmp_path / 'train.rec', records))


@pytest.mark.parametrize(
    'records', [insightface({}), {0: record([1], b'')}], ids=['no people', 'one label']
)
def test_no_images(tmp_path, records):
    with pytest.raises(ValueError, match=r'train.rec holds no images'):
        IdentityRecords(write_rec(tmp_path / 'train.rec', records))


def test_parts_of_a_dataset(tmp_path):
    dataset = IdentityRecords(write_rec(tmp_path / 'train.rec', insightface(PEOPLE)))
    assert dataset.get_gt_labels().tolist() == [0, 0, 1, 2, 2, 2]
    assert dataset.get_data_info(-1)['sample_idx'] == 5
    for chosen, places in ((2, [0, 1]), ([5, 2, -6], [5, 2, 0]), (-1, [5])):
        some = dataset.get_subset(chosen)
        assert found_in(some) == [OF_PEOPLE[place] for place in places]
        assert some.get_gt_labels().tolist() == [OF_PEOPLE[place][1] for place in places]
    some = IdentityRecords(dataset.ann_file, indices=[3, 1])
    assert found_in(some) == [OF_PEOPLE[3], OF_PEOPLE[1]]
    assert len(dataset) == 6


@pytest.mark.parametrize('how', ['fork', 'forkserver'])
def test_workers(orl, tmp_path, how):
    faces = photographs(orl, 3, 3)
    people = {10 * i: list(map(png, images)) for i, images in enumerate(faces.values())}
    path = write_rec(tmp_path / 'train.rec', insightface(people))
    dataset = IdentityRecords(path, pipeline=[LoadImageFromFile()])
    loader = DataLoader(
        dataset, 2, shuffle=True, num_workers=2, collate_fn=list, multiprocessing_context=how
    )
    samples = {sample['sample_idx']: sample for batch in loader for sample in batch}
    assert sorted(samples) == list(range(9))
    for person, images in enumerate(faces.values()):
        for number, image in enumerate(images):
            sample = samples[3 * person + number]
            assert sample['gt_label'] == person
            assert (sample['img'] == image).all()
            assert sample['img_shape'] == (112, 92)


def test_address(orl, tmp_path):
    # Paths may hold what parts an address too.
    folder = tmp_path / 'a #1 b'
    folder.mkdir()
    (image,) = photographs(orl, 1, 1)['s1']
    path = write_rec(folder / 'train.rec', {17: record([0], png(image))})
    where = image_uri('rec', path, 17)
    assert where == f'rec://{path}#17'
    assert mmengine.fileio.get(where) == png(image)
    assert (LoadImageFromFile()(dict(img_path=where))['img'] == image).all()
    with pytest.raises(ValueError, match=r'train.rec has no record 18'):
        mmengine.fileio.get(image_uri('rec', path, 18))


def test_changed_file_is_read_anew(tmp_path):
    path = tmp_path / 'train.rec'
    for people in (PEOPLE, {1: [b'other', b'images']}):
        path.with_suffix('.idx').unlink(missing_ok=True)
        dataset = IdentityRecords(write_rec(path, insightface(people), index=False))
        images = [image for images in people.values() for image in images]
        assert [image for image, _ in found_in(dataset)] == images


def test_copy_without_index_is_the_same(tmp_path):
    path = write_rec(tmp_path / 'train.rec', insightface(PEOPLE))
    shutil.copy(path, tmp_path / 'copy.rec')
    assert found_in(IdentityRecords(str(tmp_path / 'copy.rec'))) == OF_PEOPLE


def test_formats_agree_with_the_format():
    # What the tests put together, spelt out once.
    assert record([2], tiny(0)[:3] + b'x', 5)[:8] == bytes.fromhex('0a23d7ce 1c000000')
    assert len(record([2], b'', 5)) == 32
    assert part(b'', 3) == bytes.fromhex('0a23d7ce 00000060')
    assert content([1, 2], b'')[24:] == struct.pack('<ff', 1, 2)


@pytest.mark.parametrize('lines', [1, 2, 4, 6])
def test_index_that_is_cut_short(tmp_path, lines):
    """It would train on some of the images, and nobody would know."""
    path = Path(write_rec(tmp_path / 'train.rec', insightface(PEOPLE)))
    listed = path.with_suffix('.idx').read_text().splitlines(keepends=True)
    # As insightface writes it, with record 0 first.
    listed = [listed[-1], *listed[:-1]]
    assert listed[0].startswith('0\t')
    path.with_suffix('.idx').write_text(''.join(listed[:lines]))
    with pytest.raises(ValueError, match=r'train.rec must have .* record 0.* Delete .*/train.idx'):
        IdentityRecords(str(path))
    path.with_suffix('.idx').unlink()
    assert len(IdentityRecords(str(path))) == sum(map(len, PEOPLE.values()))


WHOLE = {
    'insightface': insightface(PEOPLE),
    'people without record 0': without(0),
    'im2rec': IM2REC,
    'keys from 7 on': {key + 7: record for key, record in IM2REC.items()},
}
STALE = {
    'a line less': lambda lines: lines[:2] + lines[3:],
    'the first line less': lambda lines: lines[1:],
    'the last line less': lambda lines: lines[:-1],
    'one line': lambda lines: lines[:1],
    'of another file': lambda lines: [
        f'{key}\t{4 * int(key)}' for key in (line.split()[0] for line in lines)
    ],
    'a part of the last line': lambda lines: [*lines[:-1], lines[-1][:1]],
    'a line twice': lambda lines: [*lines, lines[0]],
    'offsets beyond the end': lambda lines: [*lines, '77\t99999'],
    'not an index': lambda lines: ['not an index'],
    'empty': lambda lines: [],
}


@pytest.mark.parametrize('change', STALE.values(), ids=STALE)
@pytest.mark.parametrize('records', WHOLE.values(), ids=WHOLE)
def test_index_that_does_not_fit(tmp_path, records, change):
    """What the message advises is tried."""
    path = Path(write_rec(tmp_path / 'train.rec', records))
    index = path.with_suffix('.idx')
    lines = index.read_text().splitlines()
    index.write_text(''.join(f'{line}\n' for line in change(lines)))
    with pytest.raises(ValueError, match=rf'Delete {index}: it is rebuilt, and the file then read'):
        IdentityRecords(str(path))
    index.unlink()
    assert [image for image, _ in found_in(IdentityRecords(str(path)))] == [
        image for image, _ in OF_PEOPLE
    ]


@pytest.mark.parametrize('index', [True, False], ids=['index', 'no index'])
@pytest.mark.parametrize('damage', ['image less', 'cut short', 'cut between', 'overwritten'])
def test_records_that_a_new_index_does_not_mend(tmp_path, damage, index):
    records = insightface(PEOPLE)
    # As insightface writes it, with record 0 first.
    records = {0: records.pop(0)} | records
    if damage == 'image less':
        del records[3]
    path = Path(write_rec(tmp_path / 'train.rec', records, index=index))
    content = path.read_bytes()
    start = sum(map(len, list(records.values())[:2]))
    path.write_bytes(
        {
            'image less': content,
            'cut short': content[:-6],
            'cut between': content[:start],
            'overwritten': content[:start] + bytes(8) + content[start + 8 :],
        }[damage]
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=r'train.* does not help: fetch') as raised:
            IdentityRecords(str(path))
        assert 'Delete' not in str(raised.value)
        # With the index that the first try may have written.
        path.with_suffix('.idx').unlink(missing_ok=True)


def test_part_of_a_file_with_the_index_of_that_part(tmp_path):
    path = Path(write_rec(tmp_path / 'train.rec', IM2REC))
    path.write_bytes(path.read_bytes()[:-6])
    index = path.with_suffix('.idx')
    index.write_text(''.join(index.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(
        ValueError, match=r'its .idx, of 5 records, does not name it. .* fetch or wr'
    ):
        IdentityRecords(str(path))
    # What is no record does not matter.
    path.write_bytes(b''.join(IM2REC.values()) + bytes(99))
    write = ''.join(f'{key}\t{sum(map(len, list(IM2REC.values())[:key]))}\n' for key in IM2REC)
    index.write_text(write)
    assert found_in(IdentityRecords(str(path))) == OF_PEOPLE


def test_numbers_that_fp32_rounds(tmp_path, monkeypatch):
    """As of more than 2^24 images: here every number from 8 on is even."""
    monkeypatch.setattr(identity_records, 'EXACT', 8)
    people = {3: [A, A, A], 5: [A, A, A], 6: [A], 9: [A, A]}
    records = insightface(people)
    rounded = {0: (10, 14), 10: (1, 4), 11: (4, 7), 12: (7, 8), 13: (8, 10)}
    assert {key: records[key] for key in rounded} == {
        key: record(labels, b'', key) for key, labels in rounded.items()
    }
    for first in (10, 12):
        records[0] = record((first, 16), b'')
        records[13] = record((8, first), b'', 13)
        dataset = IdentityRecords(write_rec(tmp_path / f'{first}.rec', records))
        assert dataset.get_gt_labels().tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 3]
