"""Which samples of a data set to train on, and under which labels, as a CSV or Parquet file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from mmarcface.atomic_files import replacing

from .text_lists import delimiter_of

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = ('.csv', '.parquet')
NEEDED = ('sample', 'label', 'data_set')
INTEGERS = ('label', 'given_label', 'centre')
# More than fp32 has of an angle, and enough to tell two angles apart.
ANGLE_DECIMALS = 4


@dataclass
class KeepList:
    """The content of a keep-list.

    Args:
        path: path of the file.
        samples: N names of samples, none of them twice.
        labels: class to train each sample under, (N,), int64.
        data_set: fingerprint of the data set that the list was made for.
    """

    path: str
    samples: list[str]
    labels: np.ndarray
    data_set: str


def fingerprint_samples(names: Iterable[str], labels: Iterable[int]) -> str:
    """A fingerprint of a data set that does not depend on its place or on the order of samples.

    The digests of all samples are added, so that their order does not matter.

    Args:
        names: names of the samples, N.
        labels: labels of the samples, N.

    Returns:
        16 hexadecimal digits.
    """
    total = count = 0
    for name, label in zip(names, labels, strict=True):
        total += int.from_bytes(digest(f'{label} {name}'), 'little')
        count += 1
    return digest(f'{count} {total % 2**128}')[:8].hex()


def digest(text: str) -> bytes:
    """A hash of 16 bytes that is the same on every machine.

    Args:
        text: text to hash; file names that are not UTF-8 are allowed.
    """
    return blake2b(text.encode(errors='surrogateescape'), digest_size=16).digest()


def first_duplicate(names: Sequence[str]) -> tuple[int, int] | None:
    """The places of the first name that is there twice; None where all differ.

    Args:
        names: names of samples.
    """
    if len(set(names)) == len(names):
        return None
    places = {}
    for place, name in enumerate(names):
        if name in places:
            return places[name], place
        places[name] = place


def write_keep_list(path: str | Path, columns: Mapping[str, Sequence], fingerprint: str) -> None:
    """Write a keep-list, or another list in its format, so that it is there whole or not at all.

    Args:
        path: path of the file, which ends in ``.csv`` or ``.parquet``.
        columns: columns by name, with one value for each sample: ``sample``, its name; ``label``,
            the class to train it under; and others, such as ``given_label``, ``centre`` or
            ``angle`` (degrees, written with 4 decimals).
        fingerprint: fingerprint of the data set, for the column ``data_set``.

    Raises:
        ImportError: if the package ``pyarrow`` is not installed.
        ValueError: if the suffix is another, a column is missing, of another length or type, or a
            name is there twice.
    """
    suffix, pa = _suffix(path), import_pyarrow()
    missing = [name for name in ('sample', 'label') if name not in columns]
    if missing or 'data_set' in columns:
        raise ValueError(
            'columns must have sample and label, and not data_set, which is the fingerprint; got '
            f'{", ".join(columns) or "none"}'
        )
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f'columns must have one value for each sample, got {lengths}')
    arrays = {name: _array(name, values) for name, values in columns.items()}
    _refuse_repeated('columns', arrays['sample'].to_pylist(), lambda row: f'place {row}')
    data_set = pa.array([fingerprint] * lengths['sample'], pa.string())
    # CSV has no dictionary encoding.
    arrays['data_set'] = data_set.dictionary_encode() if suffix == '.parquet' else data_set
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        if suffix == '.csv':
            pa.csv.write_csv(pa.table(arrays), str(partial))
        else:
            pa.parquet.write_table(pa.table(arrays), str(partial))


def read_keep_list(path: str | Path) -> KeepList:
    """Read a keep-list; columns that training does not need are not read.

    Semicolons or tabs may separate the columns of a CSV file in place of commas.

    Args:
        path: path of the file, which ends in ``.csv`` or ``.parquet``.

    Returns:
        Its samples, in its order.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if the package ``pyarrow`` is not installed.
        ValueError: if it is damaged, lacks a column, keeps nothing, was made for two data sets, or
            has a label that is no integer or a sample twice.
    """
    suffix, pa = _suffix(path), import_pyarrow()
    if not Path(path).is_file():
        raise FileNotFoundError(f'keep-list {path} does not exist')
    try:
        table = _read_csv(path) if suffix == '.csv' else _read_parquet(path)
        texts = {name: table[name].cast(pa.string()) for name in NEEDED}
    except (pa.ArrowException, OSError, csv.Error) as error:
        raise ValueError(f'{path} cannot be read, is it damaged? {error}') from error
    if len(table) == 0:
        raise ValueError(f'{path} keeps nothing: it has no rows')

    def where(row: int) -> str:
        if suffix == '.parquet':
            return f'{path}, row {row + 1}'
        line, _ = next(islice(_csv_rows(path), row + 1, None))
        return f'{path}:{line}'

    for name, values in texts.items():
        if values.null_count:
            row = values.is_null().index(True).as_py()
            raise ValueError(f'{where(row)}: {name} must have a value, and has none')
    data_sets = texts['data_set'].unique().to_pylist()
    if len(data_sets) > 1:
        row = texts['data_set'].index(data_sets[1]).as_py()
        raise ValueError(
            f'{where(row)}: data_set must be the same in all rows, got {data_sets[1]!r} after '
            f'{data_sets[0]!r}: is it two lists in one?'
        )
    labels = _integers(texts['label'], where)
    samples = texts['sample'].to_pylist()
    _refuse_repeated(str(path), samples, where)
    return KeepList(str(path), samples, labels, data_sets[0])


def _suffix(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f'a keep-list must end in {" or ".join(SUFFIXES)}, got {path}')
    return suffix


def import_pyarrow() -> ModuleType:
    """The package that reads and writes the lists.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            'keep-lists are read and written with the package pyarrow: pip install pyarrow'
        ) from error
    return pyarrow


def _array(name: str, values: Sequence) -> pyarrow.Array:
    """A column in the type that both formats have."""
    pa = import_pyarrow()
    kind = pa.string() if name == 'sample' else pa.int64() if name in INTEGERS else None
    if name == 'angle':
        values = np.round(np.asarray(values, np.float64), ANGLE_DECIMALS)
    try:
        if kind == pa.int64():
            # Of all conversions only a cast refuses to round.
            array = pa.array(np.asarray(values)).cast(kind)
        else:
            array = pa.array(values if isinstance(values, list) else np.asarray(values), kind)
    except (pa.ArrowException, UnicodeError) as error:
        rule = f'of type {kind}' if kind else 'of one type that pyarrow knows'
        raise ValueError(f'columns[{name!r}] must be {rule}: {error}') from error
    if name in NEEDED and array.null_count:
        place = array.is_null().index(True).as_py()
        raise ValueError(f'columns[{name!r}] must have all values, got None at place {place}')
    return array


def _refuse_repeated(what: str, names: Sequence[str], where: Callable[[int], str]) -> None:
    places = first_duplicate(names)
    if places:
        earlier, later = places
        raise ValueError(
            f'{where(later)}: {what} must name a sample once, got {names[later]!r} again after '
            f'{where(earlier)}'
        )


def _read_csv(path: str | Path) -> pyarrow.Table:
    pa = import_pyarrow()
    line, header = next(_csv_rows(path), (0, []))
    header = [name.strip() for name in header]
    _check_columns(path, header)
    table = pa.csv.read_csv(
        path,
        # With one thread errors have the number of the row.
        read_options=pa.csv.ReadOptions(use_threads=False, column_names=header, skip_rows=line),
        parse_options=pa.csv.ParseOptions(
            delimiter=_csv_delimiter(path),
            newlines_in_values=True,
            invalid_row_handler=lambda row: 'error' if row.text.strip() else 'skip',
        ),
        convert_options=pa.csv.ConvertOptions(
            include_columns=NEEDED,
            column_types=dict.fromkeys(NEEDED, pa.string()),
            strings_can_be_null=False,
        ),
    )
    # Strip blanks around values, but not around names, which may end with one.
    for name in ('label', 'data_set'):
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.compute.utf8_trim_whitespace(table[name]))
    return table


def _csv_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, the header among them, each with the line that it ends in."""
    with open(path, encoding='utf-8-sig', errors='replace', newline='') as file:
        reader = csv.reader(file, delimiter=_csv_delimiter(path))
        for row in reader:
            if any(map(str.strip, row)):
                yield reader.line_num, row


def _csv_delimiter(path: str | Path) -> str:
    with open(path, encoding='utf-8-sig', errors='replace') as file:
        return delimiter_of(next(filter(str.strip, file), ''))


def _read_parquet(path: str | Path) -> pyarrow.Table:
    with import_pyarrow().parquet.ParquetFile(path) as file:
        _check_columns(path, file.schema_arrow.names)
        return file.read(NEEDED)


def _check_columns(path: str | Path, names: Sequence[str]) -> None:
    if any(names.count(name) != 1 for name in NEEDED):
        raise ValueError(
            f'{path} must have the columns {", ".join(NEEDED)}, each once; got '
            f'{", ".join(names) or "nothing, it is empty"}'
        )


def _integers(texts: pyarrow.ChunkedArray, where: Callable[[int], str]) -> np.ndarray:
    """Labels as int64, if each is a whole number in its range."""
    pa = import_pyarrow()
    good = pa.compute.match_substring_regex(texts, r'^-?[0-9]{1,18}$')
    row = good.index(pa.scalar(False)).as_py()
    if row >= 0:
        raise ValueError(f'{where(row)}: label must be an integer, got {texts[row].as_py()!r}')
    return texts.cast(pa.int64()).to_numpy()
