"""Comparing what was written with its source, and refusing what cannot be converted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mmarcface.datasets.formats.image_files import can_be_read, extension_of
from mmarcface.datasets.identity_folder import UNFINISHED

from .source import Face


def read_image(face: Face) -> tuple[bytes, str]:
    """Read an image that is to be converted.

    Args:
        face: the image.

    Returns:
        The encoded image, and the extension for the name of its file.

    Raises:
        ValueError: if OpenCV does not read it.
    """
    content = face.read()
    extension = extension_of(content)
    if extension is None or not can_be_read(content):
        raise ValueError(
            f'image {face.path} of {face.identity} cannot be read: it is damaged, not an image or '
            'of a kind that OpenCV does not read; replace it or remove it from the source'
        )
    return content, extension


def with_suffix(path: str | Path, suffix: str) -> Path:
    """The path of a target, which must have a suffix.

    Args:
        path: the target.
        suffix: suffix of its name.

    Raises:
        ValueError: if the path has another one.
    """
    if Path(path).suffix != suffix:
        raise ValueError(f'the target must be named *{suffix}, got {path}')
    return Path(path)


def refuse_other_files(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Refuse files in the target that do not come from the source.

    Args:
        folder: the target.
        is_ours: tells of a path in the folder whether the source has it.

    Raises:
        ValueError: if there is one. What an interrupted call left is none.
    """
    paths = (os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)
    files = (os.path.relpath(path, folder) for path in paths)
    others = sorted(
        file
        for file in files
        if not is_ours(file) and file != UNFINISHED and not file.endswith('.partial')
    )
    if others:
        raise ValueError(
            f'{folder} must hold the images of the source alone, and has {len(others)} other '
            f'files, such as {others[0]}: remove them or choose another folder'
        )


def require_equal(path: Path, found: object, expected: object) -> None:
    """Refuse a target that differs from the source.

    Args:
        path: the target.
        found: a property of the target.
        expected: the same property of the source.

    Raises:
        ValueError: if they differ.
    """
    if found != expected:
        numbers = f' ({found} for {expected})' if isinstance(found, int) else ''
        raise ValueError(
            f'{path} does not hold what the source has{numbers}; it is of another source or '
            'damaged: remove it and convert again'
        )


def mismatch(what: str, face: Face) -> ValueError:
    """The error of a target whose image differs from that of the source.

    Args:
        what: the image of the target.
        face: image of the source.
    """
    return ValueError(
        f'{what} is not image {face.number} of {face.identity} ({face.path}): it is of another '
        'source or damaged; remove it and convert again'
    )
