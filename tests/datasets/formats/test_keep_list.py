"""Lists written by the code and by hand, and what data sets make of them."""

import csv
import random
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmarcface.datasets.formats.keep_list import (
    fingerprint_samples,
    read_keep_list,
    write_keep_list,
)

SUFFIXES = ('csv', 'parquet')
# Names of files may have all but surrogates, which no text file has, and the end of a string.
NAMES = st.text(
    st.characters(exclude_categories=['Cs'], exclude_characters='\0'), min_size=1, max_size=12
)
AWKWARD = ['a b.jpg', 'x, y.jpg', 'a "quoted" one.png', '王/1.png', "o'neil/é.jpg", '1', ' ', 'nan']


@pytest.fixture(params=SUFFIXES)
def suffix(request) -> str:
    return request.param


def rows_of(path) -> list[dict]:
    if path.suffix == '.csv':
        with path.open(encoding='utf-8', newline='') as file:
            return list(csv.DictReader(file))
    return pyarrow.parquet.read_table(path).to_pylist()


def write_by_hand(path, rows, header=('sample', 'label', 'data_set')):
    if path.suffix == '.csv':
        with path.open('w', encoding='utf-8', newline='') as file:
            csv.writer(file).writerows([header, *rows])
    else:
        columns = list(zip(*rows, strict=True)) or [()] * len(header)
        arrays = [pyarrow.array(column) for column in columns]
        pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(header)), path)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(
        st.tuples(NAMES, st.integers(-(10**18) + 1, 10**18 - 1)),
        unique_by=lambda row: row[0],
        min_size=1,
    )
)
def test_round_trip_of_anything(tmp_path, suffix, rows):
    path = tmp_path / f'keep.{suffix}'
    names, labels = zip(*rows, strict=True)
    write_keep_list(path, dict(sample=list(names), label=np.array(labels)), 'abc')
    kept = read_keep_list(path)
    assert kept.samples == list(names)
    assert kept.labels.tolist() == list(labels)
    assert kept.labels.dtype == np.int64
    assert (kept.path, kept.data_set) == (str(path), 'abc')
    assert read_keep_list(str(path)).samples == kept.samples


def test_other_readers_read_it(tmp_path, suffix):
    path = tmp_path / 'new' / f'keep.{suffix}'
    count = len(AWKWARD)
    angles = np.linspace(0, 180, count, dtype=np.float32) / 7
    write_keep_list(
        path,
        dict(
            angle=angles,
            label=list(range(count)),
            given_label=np.arange(count, dtype=np.int32),
            sample=np.array(AWKWARD),
            why=['far'] * count,
        ),
        'abc',
    )
    rows = rows_of(path)
    assert list(rows[0]) == ['angle', 'label', 'given_label', 'sample', 'why', 'data_set']
    assert [row['sample'] for row in rows] == AWKWARD
    assert [int(row['label']) for row in rows] == list(range(count))
    assert [float(row['angle']) for row in rows] == [round(float(angle), 4) for angle in angles]
    assert {(row['why'], row['data_set']) for row in rows} == {('far', 'abc')}
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if suffix == 'parquet':
        kind = pyarrow.parquet.read_table(path).schema.field('data_set').type
        assert pyarrow.types.is_dictionary(kind)


def test_reads_what_others_write(tmp_path, suffix):
    rows = [[name, label, 'abc', 1.5] for label, name in enumerate(AWKWARD)]
    path = write_by_hand(tmp_path / f'k.{suffix}', rows, ['sample', 'label', 'data_set', 'more'])
    assert read_keep_list(path).samples == AWKWARD
    assert read_keep_list(path).labels.tolist() == list(range(len(AWKWARD)))


def test_byte_order_mark(tmp_path):
    path = tmp_path / 'keep.csv'
    path.write_text('\ufeffsample,label,data_set\r\na,1,x\r\n', encoding='utf-8')
    assert read_keep_list(path).samples == ['a']


def test_an_old_list_stays_where_writing_fails(tmp_path, suffix):
    path = tmp_path / f'keep.{suffix}'
    write_keep_list(path, dict(sample=['a'], label=[1]), 'abc')
    before = path.read_bytes()
    with pytest.raises(ValueError, match='label'):
        write_keep_list(path, dict(sample=['a'], label=[1.5]), 'abc')
    assert path.read_bytes() == before


def test_without_rows(tmp_path, suffix):
    path = tmp_path / f'keep.{suffix}'
    write_keep_list(path, dict(sample=[], label=[], angle=[]), 'abc')
    assert rows_of(path) == []
    with pytest.raises(ValueError, match=rf'keep.{suffix} keeps nothing: it has no rows'):
        read_keep_list(path)


@pytest.mark.parametrize(
    ('columns', 'message'),
    [
        (dict(sample=['a']), 'must have sample and label, .* got sample'),
        ({}, 'got none'),
        (dict(sample=['a'], label=[1], data_set=['x']), 'and not data_set'),
        (dict(sample=['a', 'b'], label=[1]), "one value for each sample, got .*'sample': 2"),
        (dict(sample=['a'], label=['x']), r"columns\['label'\] must be of type int64"),
        (dict(sample=['a'], label=[None]), r"columns\['label'\] .* got None at place 0"),
        (dict(sample=[1], label=[1]), r"columns\['sample'\] must be of type string"),
        (dict(sample=['\udc80'], label=[1]), r"columns\['sample'\] must be of type string"),
        (dict(sample=['a'], label=[1], why=[{1, 'a'}]), r"columns\['why'\] must be of one type"),
        (
            dict(sample=['a', 'b', 'a'], label=[1, 2, 1]),
            "place 2: columns must name a sample once, got 'a' again after place 0",
        ),
    ],
)
def test_wrong_columns(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        write_keep_list(tmp_path / 'keep.csv', columns, 'abc')
    assert not list(tmp_path.iterdir())


GOOD = ['a', 1, 'x']


@pytest.mark.parametrize(
    ('rows', 'place', 'message'),
    [
        ([GOOD, ['b', 2, 'x'], ['a', 3, 'x']], 2, "must name a sample once, got 'a' again after"),
        ([GOOD, ['b', 2, 'y']], 1, "data_set must be the same in all rows, got 'y' after 'x'"),
        ([['a', '1', 'x'], ['b', '2.5', 'x']], 1, "label must be an integer, got '2.5'"),
        ([['a', '1', 'x'], ['b', '', 'x']], 1, "label must be an integer, got ''"),
        ([['a', 'one', 'x']], 0, "label must be an integer, got 'one'"),
        ([['a', '9' * 19, 'x']], 0, "label must be an integer, got '9999"),
    ],
)
def test_wrong_rows(tmp_path, suffix, rows, place, message):
    path = write_by_hand(tmp_path / f'keep.{suffix}', rows)
    where = rf'keep.csv:{place + 2}' if suffix == 'csv' else rf'keep.parquet, row {place + 1}'
    with pytest.raises(ValueError, match=f'{where}: .*{message}'):
        read_keep_list(path)


def test_types_of_parquet(tmp_path):
    path = tmp_path / 'keep.parquet'
    with pytest.raises(ValueError, match=r"row 2: label must be an integer, got '2.5'"):
        read_keep_list(write_by_hand(path, [['a', 1.0, 'x'], ['b', 2.5, 'x']]))
    with pytest.raises(ValueError, match='row 2: label must have a value, and has none'):
        read_keep_list(write_by_hand(path, [['a', 1, 'x'], ['b', None, 'x']]))
    with pytest.raises(ValueError, match=r'keep.parquet cannot be read'):
        read_keep_list(write_by_hand(path, [[['a'], 1, 'x']]))


def test_wrong_header(tmp_path, suffix):
    path = tmp_path / f'keep.{suffix}'
    rule = rf'keep.{suffix} must have the columns sample, label, data_set, each once'
    with pytest.raises(ValueError, match=f'{rule}; got name, label, data_set'):
        read_keep_list(write_by_hand(path, [GOOD], ['name', 'label', 'data_set']))
    with pytest.raises(ValueError, match=f'{rule}; got sample, label, sample'):
        read_keep_list(write_by_hand(path, [GOOD], ['sample', 'label', 'sample']))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'got nothing, it is empty'),
        (b'sample,label,data_set\na,1,x\nb,2\n', r'Row #3: Expected 3 columns, got 2: b,2'),
        (b'sample,label,data_set\n\xff,1,x\n', 'cannot be read, is it damaged.*UTF8'),
        (b'sample label data_set\na 1 x\n', 'got sample label data_set'),
    ],
)
def test_damaged_csv(tmp_path, content, message):
    path = tmp_path / 'keep.csv'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'keep.csv.*{message}'):
        read_keep_list(path)


def test_damaged_parquet(tmp_path):
    path = tmp_path / 'keep.parquet'
    write_keep_list(path, dict(sample=AWKWARD, label=[0] * len(AWKWARD)), 'abc')
    whole = path.read_bytes()
    for damaged in (b'', b'garbage', b'PAR1' * 20, *(whole[:n] for n in range(1, len(whole), 97))):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r'keep.parquet cannot be read, is it damaged'):
            read_keep_list(path)


def test_wrong_files(tmp_path):
    with pytest.raises(ValueError, match=r'must end in .csv or .parquet, got .*keep.txt'):
        read_keep_list(tmp_path / 'keep.txt')
    with pytest.raises(ValueError, match=r'must end in .csv or .parquet, got keep'):
        write_keep_list('keep', {}, 'abc')
    with pytest.raises(FileNotFoundError, match=r'keep-list .*gone.csv does not exist'):
        read_keep_list(tmp_path / 'gone.csv')


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ImportError, match='pip install pyarrow'):
        read_keep_list(tmp_path / 'keep.csv')


SAMPLES = st.lists(st.tuples(NAMES, st.integers(0, 5)), unique_by=lambda row: row[0])


@given(SAMPLES, st.randoms(use_true_random=False))
def test_fingerprint_is_of_samples_in_any_order(samples, chance):
    shuffled = random.Random(chance.random()).sample(samples, len(samples))
    prints = [
        fingerprint_samples([name for name, _ in s], [label for _, label in s])
        for s in (samples, shuffled)
    ]
    assert prints[0] == prints[1]


@given(SAMPLES, SAMPLES)
def test_fingerprint_tells_others(one, other):
    prints = [
        fingerprint_samples([name for name, _ in s], [label for _, label in s])
        for s in (one, other)
    ]
    assert (prints[0] == prints[1]) == (set(one) == set(other))


def test_fingerprint_stays_the_same_for_good():
    assert fingerprint_samples(['a', 'é'], np.array([0, 7])) == fingerprint_samples(
        iter(['é', 'a']), [7, 0]
    )
    # Lists that were written before have it.
    assert fingerprint_samples(['a', 'é'], [0, 7]) == '2ab942f61ace9d12'
    with pytest.raises(ValueError, match='zip'):
        fingerprint_samples(['a'], [])


def test_many_rows(tmp_path, suffix):
    rows = 200_000
    path = tmp_path / f'keep.{suffix}'
    names = [f'{i % 1000}/{i}.jpg' for i in range(rows)]
    write_keep_list(path, dict(sample=names, label=np.arange(rows) % 1000), 'abc')
    kept = read_keep_list(path)
    assert kept.samples == names
    assert (kept.labels == np.arange(rows) % 1000).all()
