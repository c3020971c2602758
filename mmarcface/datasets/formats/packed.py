"""Images inside larger files, as addresses that every reader of images understands.

``rec://data/train.rec#17`` is record 17 of a ``.rec`` file, ``bin://data/lfw.bin#5`` image 5 of a
``.bin`` file. mmengine's file backends give their bytes, so that mmcv's transforms, mmpretrain's
inferencers and whatever else takes a path takes them too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.fileio import BaseStorageBackend, register_backend

from .bin_file import BinFile
from .recordio import RecordFile

T = TypeVar('T')
READERS = {'rec': RecordFile, 'bin': BinFile}
_OPENED: dict[str, tuple[list, Any]] = {}


def address(kind: str, path: str, key: int) -> str:
    """Where an image is.

    Args:
        kind: 'rec' or 'bin'.
        path: of the file.
        key: of the record, or place of the image.
    """
    return f'{kind}://{path}#{key}'


def read_inside(where: str) -> bytes | None:
    """The encoded image at an address; None for the path of a file of its own, or a URL.

    Args:
        where: as :func:`address` makes it.

    Raises:
        FileNotFoundError: if the larger file does not exist.
        ValueError: if it is damaged.
    """
    kind, _, rest = where.partition('://')
    if kind not in READERS or not rest:
        return None
    path, _, key = rest.rpartition('#')
    # Data sets look whether their file has changed, and do so once.
    opened = _OPENED[path][1] if path in _OPENED else open_once(READERS[kind], path)
    return opened.image(int(key))


def file_of(where: str) -> str:
    """The file in which an image is: that of an address, or the path itself.

    Args:
        where: as :func:`address` makes it, or a path.
    """
    kind, _, rest = where.partition('://')
    return rest.rpartition('#')[0] if kind in READERS else where


def open_once(read: Callable[[str], T], path: str) -> T:
    """A file as it was read before in this process, if it has not changed.

    Args:
        read: opens it; raises where it is missing.
        path: the file.
    """
    if path not in _OPENED or _OPENED[path][0] != _signature(path):
        opened = read(path)
        # After reading, as an index may have been written.
        _OPENED[path] = _signature(path), opened
    return _OPENED[path][1]


def _signature(path: str) -> list[tuple[int, int]]:
    """Sizes and times of change of a file and its index."""
    files = filter(os.path.exists, (path, f'{os.path.splitext(path)[0]}.idx'))
    return [(status.st_size, status.st_mtime_ns) for status in map(os.stat, files)]


class ImageInside(BaseStorageBackend):
    """mmengine's way to the images inside larger files."""

    def get(self, filepath: str) -> bytes:
        """The encoded image at an address."""
        return read_inside(filepath)

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Refused: an image is no text."""
        raise ValueError(f'{filepath} is an image, and no text')


register_backend('inside', ImageInside, prefixes=list(READERS), force=True)
