"""Which files are images: those that OpenCV reads, told by their names or else by content."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import cv2
import numpy as np
from mmengine.logging import print_log

from mmarcface.datasets.log_once import log_once

# How files of each format begin, by the usual ending of their names. PFM is left out: OpenCV reads
# it, and takes its floats for values of 8 bits.
FORMATS = {
    extension: re.compile(start, re.DOTALL)
    for extension, start in {
        '.jpg': rb'\xff\xd8\xff',
        '.png': rb'\x89PNG\r\n\x1a\n',
        '.webp': rb'RIFF.{4}WEBP',
        '.gif': rb'GIF8[79]a',
        # Text may begin with BM too; the size of the header tells it from images.
        '.bmp': rb'BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0',
        '.tif': rb'II[*+]\0|MM\0[*+]',
        '.jp2': rb'\0\0\0\x0cjP  \r\n\x87\n',
        '.j2k': rb'\xff\x4f\xff\x51',
        '.avif': rb'.{4}ftyp(.{4}){0,12}avi[fs]',
        '.pbm': rb'P[14]\s+[\d#]',
        '.pgm': rb'P[25]\s+[\d#]',
        '.ppm': rb'P[36]\s+[\d#]',
        '.pam': rb'P7\n',
        '.hdr': rb'#\?(RADIANCE|RGBE)\n',
        '.ras': rb'\x59\xa6\x6a\x95',
    }.items()
}
HEAD = 64
# Names that are taken for images unseen: opening each of millions of files takes too long.
EXTENSIONS = frozenset(FORMATS) | {
    *('.jpeg', '.jpe', '.jfif', '.apng', '.tiff', '.jpf', '.jpx', '.jpc', '.j2c'),
    *('.avifs', '.pnm'),
}
EXAMPLES = 3


def extension_of(content: bytes) -> str | None:
    """The usual ending for the name of an encoded image, by how it begins; None for no image.

    Args:
        content: bytes of the image; the first 64 are enough.
    """
    head = content[:HEAD]
    return next((extension for extension, start in FORMATS.items() if start.match(head)), None)


def can_be_read(content: bytes) -> bool:
    """Whether OpenCV, and with it :class:`LoadImageFromFile`, reads an encoded image.

    Args:
        content: all bytes of the image.
    """
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None
    except cv2.error:  # Nothing at all, or more pixels than it permits.
        return False


def find_images(
    folder: str, extensions: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """The images in a folder and in the folders inside it.

    A file is an image if its name ends as names of images do; a file of another name is one if
    it begins as images do. Files and folders whose names start with a dot are passed over.

    Args:
        folder: folder to look in; links to other folders are followed.
        extensions: extensions of images, in lower case; then names alone decide.

    Returns:
        Paths of the images and of the other files, each in the order of their folders and names.

    Raises:
        OSError: if a folder, or a file that has to be looked into, cannot be read.
    """
    images, others, walked = [], [], set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        # Links may lead to a folder a second time.
        real = os.path.realpath(place)
        if real in walked:
            folders.clear()
            continue
        walked.add(real)
        folders[:] = sorted(
            name for name in folders if name[0] != '.' and not _leads_up(place, name)
        )
        for name in names:
            if name[0] != '.':
                path = os.path.join(place, name)
                (images if _is_image(path, extensions) else others).append(path)
    for paths in (images, others):
        paths.sort(key=lambda path: path.split(os.sep))
    return images, others


def log_left_out(
    folder: str, others: Sequence[str], why: str = 'no image', owner: Any = None
) -> None:
    """Log how many files of a folder are not used, and name some.

    Args:
        folder: the folder that they are in.
        others: paths of the others; nothing is logged where there are none.
        why: why they are not used.
        owner: object that logs the same message once only; each call logs it by default.
    """
    if not others:
        return
    names = ', '.join(os.path.relpath(path, folder) for path in others[:EXAMPLES])
    count = '1 file' if len(others) == 1 else f'{len(others)} files'
    message = f'{folder}: {count} left out ({why}), such as {names}'
    if owner is None:
        print_log(message, 'current')
    else:
        log_once(owner, message)


def _is_image(path: str, extensions: Sequence[str] | None) -> bool:
    extension = os.path.splitext(path)[1].lower()
    if extensions is not None:
        return extension in extensions
    if extension in EXTENSIONS:
        return True
    if not os.path.isfile(path):  # A pipe would be waited for.
        return False
    with open(path, 'rb') as file:
        return extension_of(file.read(HEAD)) is not None


def _leads_up(place: str, name: str) -> bool:
    """Whether a folder is a link to one that it is in."""
    path = os.path.join(place, name)
    if not os.path.islink(path):
        return False
    there, here = os.path.realpath(path), os.path.realpath(place)
    return os.path.commonpath([there, here]) == there


def _raise(error: OSError) -> NoReturn:
    raise error
