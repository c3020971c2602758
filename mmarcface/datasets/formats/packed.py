"""Images inside larger files, as URIs that every reader of images understands.

``rec://data/train.rec#17`` is record 17 of a ``.rec`` file, ``bin://data/lfw.bin#5`` image 5 of a
``.bin`` file. A file backend of mmengine reads them, so that mmcv's transforms, mmpretrain's
inferencers and everything else that takes a path read them too.
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


def image_uri(kind: str, path: str, key: int) -> str:
    """The URI of an image inside a larger file.

    Args:
        kind: 'rec' or 'bin'.
        path: path of the larger file.
        key: key of the record, or place of the image in the file.
    """
    return f'{kind}://{path}#{key}'


def read_packed_image(uri: str) -> bytes | None:
    """The encoded image at a URI; None for the path of a file of its own, or a URL.

    Args:
        uri: URI of :func:`image_uri`, or a path.

    Raises:
        FileNotFoundError: if the larger file does not exist.
        ValueError: if it is damaged.
    """
    kind, _, rest = uri.partition('://')
    if kind not in READERS or not rest:
        return None
    path, _, key = rest.rpartition('#')
    # Data sets check whether their file has changed, and do so once.
    opened = _OPENED[path][1] if path in _OPENED else open_cached(READERS[kind], path)
    return opened.image(int(key))


def containing_file(path: str) -> str:
    """The larger file that an image is in, or the image's own file.

    Args:
        path: URI of :func:`image_uri`, or a path.
    """
    kind, _, rest = path.partition('://')
    return rest.rpartition('#')[0] if kind in READERS else path


def open_cached(read: Callable[[str], T], path: str) -> T:
    """Open a file, or take it as this process has opened it before, if it has not changed.

    Args:
        read: function that opens it, and raises where it is missing.
        path: path of the file.
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


class PackedImageBackend(BaseStorageBackend):
    """File backend of mmengine for the images inside larger files."""

    def get(self, filepath: str) -> bytes:
        """The encoded image at a URI."""
        return read_packed_image(filepath)

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Refuse: an image is no text."""
        raise ValueError(f'{filepath} is an image, and no text')


register_backend('packed', PackedImageBackend, prefixes=list(READERS), force=True)
