"""The index of a ``.rec`` file: an ``.idx`` file of lines ``key<TAB>offset``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from mmarcface.atomic_files import replacing


def read_index(path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and offsets of an ``.idx`` file, each (R,), int64, in the order of its lines.

    Args:
        path: path of the ``.idx`` file.
        size: size of the ``.rec`` file in bytes.

    Raises:
        ValueError: if a line is not ``key<TAB>offset``, an offset is beyond the end, or a key or
            an offset is there twice.
    """
    try:
        with warnings.catch_warnings():  # An empty file.
            warnings.simplefilter('ignore')
            table = np.loadtxt(path, np.int64, comments=None, ndmin=2, encoding='utf-8-sig')
        good = table.size and table.shape[1] == 2 and table.min() >= 0 and table[:, 1].max() < size
    except (ValueError, OverflowError):
        good = False
    if not good:
        _refuse_index(path, size)
    for name, column in (('a key', table[:, 0]), ('an offset', table[:, 1])):
        values, counts = np.unique(column, return_counts=True)
        if len(values) < len(table):
            first, again = np.flatnonzero(column == values[counts > 1][0])[:2]
            raise ValueError(
                f'{path}:{again + 1}: {name} must be there once, {column[again]} is in line '
                f'{first + 1} too. Delete the file, and it is rebuilt'
            )
    return table[:, 0], table[:, 1]


def write_index(path: Path, keys: Sequence[int], offsets: Sequence[int]) -> None:
    """Write an ``.idx`` file, whole or not at all.

    Args:
        path: path of the ``.idx`` file.
        keys: keys of the records, R.
        offsets: offsets of the records in the ``.rec`` file, in bytes, R.
    """
    # Other processes, on other machines too, may be writing the same file.
    with replacing(path, shared=True) as partial, partial.open('w') as file:
        file.writelines(f'{key}\t{offset}\n' for key, offset in zip(keys, offsets, strict=True))


def _refuse_index(path: Path, size: int) -> NoReturn:
    """Name the first line that breaks the format."""
    rule = f'a line must be "key<TAB>offset", key from 0 on and offset in [0, {size})'
    advice = 'The .rec file may be cut short; if not, delete the .idx, and it is rebuilt'
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        fields = line.split()
        whole = all(field.isdigit() and len(field) < 19 for field in fields)
        if len(fields) != 2 or not whole or int(fields[1]) >= size:
            shown = line.decode(errors='replace')
            raise ValueError(f'{path}:{number}: {rule}; got {shown!r}. {advice}')
    raise ValueError(f'{path}: {rule}; the file has no lines. {advice}')
