"""RecordIO, the format of ``.rec`` files: reading, writing, rebuilding the index.

A record is a magic word, a word with the kind (3 bits) and the length (29 bits) of the content, and
the content, padded to four bytes. Where the content has the magic word at a multiple of four it is
split there: the parts are of kind first, middle and last, and the magic word joins them again. The
content of an image record is a header (flag, label, two numbers), ``flag`` more labels where that
is not 0, and the encoded image. For the index see :mod:`mmarcface.datasets.formats.record_index`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmarcface.atomic_files import move_into_place

from .record_index import read_index, write_index

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack('<I', MAGIC)
WORDS = struct.Struct('<II')
HEADER = struct.Struct('<IfQQ')
# Both words, and the flag of the header.
START = struct.Struct('<III')
WHOLE, FIRST, MIDDLE, LAST = range(4)
LENGTH_BITS = 29


@dataclass(frozen=True)
class Record:
    """The content of a record.

    Attributes:
        labels: at least one number; the first is the identity of an image.
        number: key of the record, if its writer noted it.
        image: encoded image; empty in records that only have labels.
    """

    labels: tuple[float, ...]
    number: int
    image: bytes


class _Parts:
    """The bytes of a ``.rec`` file, as parts of records."""

    def __init__(self, path: Path):
        self.path = path
        with path.open('rb') as file:
            self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.expect('RANDOM')

    def expect(self, order: str) -> None:
        """Tell the system how the file is going to be read: 'RANDOM' or 'SEQUENTIAL'.

        Without that it reads ahead, megabytes for each record of a shuffled epoch.
        """
        advice = getattr(mmap, f'MADV_{order}', None)
        if advice is not None:
            self.content.madvise(advice)

    def spans(self, offset: int) -> tuple[list[slice], int]:
        """Where the parts of the record at an offset are, and the offset of what comes next."""
        kind, span = self._part(offset)
        if kind not in (WHOLE, FIRST):
            raise ValueError(
                f'{self.path}: byte {offset} is in the middle of a split record, where none begins'
            )
        spans = [span]
        while kind not in (WHOLE, LAST):
            following = _aligned(spans[-1].stop)
            kind, span = self._part(following)
            if kind not in (MIDDLE, LAST):
                raise ValueError(
                    f'{self.path}: the split record at byte {offset} must go on at byte '
                    f'{following}, and another begins there'
                )
            spans.append(span)
        return spans, _aligned(spans[-1].stop)

    def join(self, spans: list[slice]) -> bytes:
        """The content of a record."""
        return MAGIC_BYTES.join([self.content[span] for span in spans])

    def header(self, offset: int) -> tuple[Record, int]:
        """A record with the first byte of its image alone, and the offset of what comes next."""
        spans, following = self.spans(offset)
        name = f'{self.path}: record at byte {offset}'
        start, stop = spans[0].start, spans[0].stop
        if len(spans) > 1 or stop - start < HEADER.size:
            return unpack(self.join(spans), name), following
        flag = HEADER.unpack_from(self.content, start)[0]
        head = self.content[start : min(start + HEADER.size + 4 * flag + 1, stop)]
        return unpack(head, name), following

    def _part(self, offset: int) -> tuple[int, slice]:
        """Kind and place of the part of a record that begins at an offset."""
        size = len(self.content)
        if offset + WORDS.size > size:
            raise ValueError(
                f'{self.path}: a record must begin at byte {offset}, and the file ends at {size}: '
                'it is cut short (fetch it again), or its .idx is of another file (delete that, '
                'and it is rebuilt)'
            )
        magic, word = WORDS.unpack_from(self.content, offset)
        if magic != MAGIC:
            raise ValueError(
                f'{self.path}: the record at byte {offset} must begin with the magic word '
                f'{MAGIC:#x}, got {magic:#x}: the file is damaged (fetch it again), or its .idx is '
                'of another file (delete that, and it is rebuilt)'
            )
        kind, length = word >> LENGTH_BITS, word & (1 << LENGTH_BITS) - 1
        start = offset + WORDS.size
        if kind > LAST:
            raise ValueError(f'{self.path}: the record at byte {offset} is of unknown kind {kind}')
        if start + length > size:
            raise ValueError(
                f'{self.path}: the record at byte {offset} is cut short, it is {length} bytes long '
                f'and {size - start} are left: fetch the file again'
            )
        return kind, slice(start, start + length)


class RecordFile:
    """Records of a ``.rec`` file by their keys, through a memory map.

    Processes forked from one that opened the file share its pages and its index.

    Args:
        path: path of the ``.rec`` file. Its index is the ``.idx`` file of the same name; where that
            is missing it is rebuilt by scanning, and written if the folder permits.

    Attributes:
        keys: keys of all records, rising, (R,), int64.
        offsets: offsets of all records in the file, in bytes, (R,), int64.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty or an index does not fit it; in reading if a record is damaged.
    """

    def __init__(self, path: str | Path):
        self._open(path)
        index = self.path.with_suffix('.idx')
        if index.is_file():
            self._use(*read_index(index, len(self._parts.content)))
            return
        keys, offsets = self._scan()
        with suppress(OSError):  # A folder that cannot be written to.
            write_index(index, keys, offsets)
        self._use(keys, offsets)

    @classmethod
    def without_index(cls, path: str | Path) -> RecordFile:
        """The records by scanning the file, with or without an index; errors as for the class.

        Args:
            path: path of the ``.rec``.
        """
        records = cls.__new__(cls)
        records._open(path)
        records._use(*records._scan())
        return records

    def _open(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f'{path} does not exist: a .rec file is needed')
        if self.path.stat().st_size == 0:
            raise ValueError(f'{path} is empty: a .rec file must hold records')
        self._parts = _Parts(self.path)

    def _use(self, keys: np.ndarray, offsets: np.ndarray) -> None:
        order = np.argsort(keys, kind='stable')
        self.keys, self.offsets = keys[order], offsets[order]
        self._first_key = int(self.keys[0])

    def read(self, key: int) -> Record:
        """The record of a key.

        Args:
            key: key of the record.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        offset = self._offset(key)
        spans, _ = self._parts.spans(offset)
        return unpack(self._parts.join(spans), f'{self.path}: record {key} at byte {offset}')

    def image(self, key: int) -> bytes:
        """The encoded image of a record, in the fastest way; errors as :meth:`read`.

        Args:
            key: key of the record.
        """
        offset = self._offset(key)
        content = self._parts.content
        if offset + START.size <= len(content):
            magic, word, flag = START.unpack_from(content, offset)
            start, end = offset + WORDS.size + HEADER.size + 4 * flag, offset + WORDS.size + word
            # The kind, in the bits above the length, is 0 for a whole record.
            if magic == MAGIC and word < 1 << LENGTH_BITS and start <= end <= len(content):
                return content[start:end]
        return self.read(key).image

    def labels(self, key: int) -> tuple[float, ...]:
        """The labels of a record, without reading its image; errors as :meth:`read`.

        Args:
            key: key of the record.
        """
        return self.head(key)[0].labels

    def head(self, key: int) -> tuple[Record, int]:
        """A record with only the first byte of its image, and the byte of the file where it ends.

        Args:
            key: key of the record.

        Raises:
            ValueError: as :meth:`read`.
        """
        return self._parts.header(self._offset(key))

    def identity(self, key: int) -> int:
        """The first label of a record.

        Args:
            key: key of the record.

        Raises:
            ValueError: as :meth:`read`, or if the label is not a whole number of at least 0 that
                fits in 64 bits.
        """
        label = self.labels(key)[0]
        if not are_identities(label):
            raise ValueError(
                f'{self.path}: record {key}: the label must be a whole number from 0 on, of 64 '
                f'bits at most, got {label}'
            )
        return int(label)

    def find_unindexed(self, ends: Sequence[int]) -> int | None:
        """The byte of a record that the index leaves out; None if none is found.

        Args:
            ends: ends of records of the index, in bytes.
        """
        begins, known = np.array([0, *ends]), np.sort(self.offsets)
        nearest = known.searchsorted(begins).clip(max=len(known) - 1)
        others = begins[known[nearest] != begins].tolist()
        # The file may end there, or have other bytes between records.
        content = self._parts.content
        return next((at for at in others if content[at : at + 4] == MAGIC_BYTES), None)

    def _offset(self, key: int) -> int:
        # Keys usually count without gaps.
        place = key - self._first_key
        if not 0 <= place < len(self.keys) or self.keys.item(place) != key:
            place = int(self.keys.searchsorted(key))
            if place == len(self.keys) or self.keys[place] != key:
                raise ValueError(f'{self.path} has no record {key}')
        return self.offsets.item(place)

    def _scan(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and offsets of all records, from the file alone."""
        self._parts.expect('SEQUENTIAL')
        offsets, numbers, offset = [], [], 0
        while offset < len(self._parts.content):
            record, following = self._parts.header(offset)
            numbers.append(record.number)
            offsets.append(offset)
            offset = following
        self._parts.expect('RANDOM')
        # Writers of data other than images leave the number at 0.
        distinct = len(set(numbers)) == len(numbers) and max(numbers) < 1 << 63
        keys = numbers if distinct else range(len(offsets))
        return np.array(keys, np.int64), np.array(offsets, np.int64)


def index_advice(path: str | Path, read: Callable[[RecordFile], object]) -> str:
    """Advice for a file that cannot be read; it tries a new index, and scans the whole file.

    Args:
        path: path of the ``.rec`` file.
        read: function that fails, with a ValueError.
    """
    try:
        read(RecordFile.without_index(path))
    except ValueError:
        return 'A new .idx was tried and does not help: fetch or write the .rec file again'
    return f'Delete {Path(path).with_suffix(".idx")}: it is rebuilt, and the file then read'


class RecordWriter:
    """Write a ``.rec`` file and its ``.idx``, going on where an earlier writer was interrupted.

    Records go to ``.rec.partial``; :meth:`finish` gives the files their names.

    Args:
        path: path of the ``.rec`` file; :meth:`finish` replaces one that is there.

    Attributes:
        keys: keys of the records written so far, also by an interrupted writer.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.partial = self.path.with_suffix('.rec.partial')
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.keys, self.offsets = [], []
        interrupted = self.partial.is_file() and self.partial.stat().st_size > 0
        end = self._recover() if interrupted else 0
        self.file = self.partial.open('r+b' if interrupted else 'wb')
        self.file.truncate(end)
        self.file.seek(end)

    def write(self, key: int, labels: Sequence[float], image: bytes) -> None:
        """Append a record.

        Args:
            key: key of the record, from 0 on, that no record has yet.
            labels: labels of the record, at least one number.
            image: encoded image; may be empty.

        Raises:
            ValueError: if the record is longer than the format permits.
        """
        content = pack(key, labels, image)
        if len(content) >= 1 << LENGTH_BITS:
            raise ValueError(
                f'{self.path}: a record must be shorter than {1 << LENGTH_BITS} bytes, record '
                f'{key} has {len(content)}'
            )
        self.keys.append(key)
        self.offsets.append(self.file.tell())
        words = np.frombuffer(content, '<u4', len(content) // 4)
        splits = (4 * np.flatnonzero(words == MAGIC)).tolist()
        kinds = [FIRST, *[MIDDLE] * (len(splits) - 1), LAST] if splits else [WHOLE]
        starts, ends = [0, *(split + 4 for split in splits)], [*splits, len(content)]
        for kind, start, end in zip(kinds, starts, ends, strict=True):
            self.file.write(WORDS.pack(MAGIC, kind << LENGTH_BITS | end - start))
            self.file.write(content[start:end])
        self.file.write(bytes(-len(content) % 4))

    def finish(self) -> None:
        """Close the file and write its index."""
        self.file.close()
        write_index(self.path.with_suffix('.idx'), self.keys, self.offsets)
        move_into_place(self.partial, self.path)

    def _recover(self) -> int:
        """Note the complete records of an interrupted writer; gives the byte where they end."""
        parts, end = _Parts(self.partial), 0
        with suppress(ValueError):  # The record that was being written.
            while end < len(parts.content):
                record, following = parts.header(end)
                if following > len(parts.content):
                    break
                self.keys.append(record.number)
                self.offsets.append(end)
                end = following
        parts.content.close()
        return end


def pack(number: int, labels: Sequence[float], image: bytes) -> bytes:
    """Content of an image record; one label is kept in the header alone.

    Args:
        number: key of the record.
        labels: labels of the record, at least one.
        image: encoded image; may be empty.
    """
    if len(labels) == 1:
        return HEADER.pack(0, labels[0], number, 0) + image
    header = HEADER.pack(len(labels), 0.0, number, 0)
    return header + struct.pack(f'<{len(labels)}f', *labels) + image


def unpack(content: bytes, name: str) -> Record:
    """Labels, number and image of a record's content.

    Args:
        content: content of the record, its parts joined.
        name: name of the record, for errors.

    Raises:
        ValueError: if the content is shorter than its header says.
    """
    if len(content) < HEADER.size:
        raise ValueError(
            f'{name}: an image record has a header of {HEADER.size} bytes, this one {len(content)}'
        )
    flag, label, number, _ = HEADER.unpack_from(content)
    end = HEADER.size + 4 * flag
    if len(content) < end:
        raise ValueError(
            f'{name}: the header announces {flag} labels, and {len(content) - HEADER.size} bytes '
            'follow'
        )
    labels = struct.unpack_from(f'<{flag}f', content, HEADER.size) if flag else (label,)
    return Record(labels, number, content[end:])


def _aligned(offset: int) -> int:
    return offset + -offset % 4


def are_identities(labels: float | np.ndarray) -> bool | np.ndarray:
    """Whether labels, which are floats, may be numbers of identities.

    Args:
        labels: one label, or an array of them.
    """
    with np.errstate(invalid='ignore'):  # Of an infinite label.
        return (labels >= 0) & (labels < 2.0**63) & (np.mod(labels, 1) == 0)
