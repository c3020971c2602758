"""Lists of landmarks: where eyes, nose and mouth are in an image."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .text_lists import read_lines, split_fields

# Values that a line may have: x and y of two or five points, and a score.
COUNTS = (4, 5, 10, 11)


def read_landmarks(path: str | Path) -> dict[str, np.ndarray]:
    """Landmarks of a text file with lines ``name x1 y1 x2 y2 ...``, two or five points each.

    Two points are the eyes; five are eyes, nose and corners of the mouth, the eye and corner on
    the left of the image first. A number of images and a line of column names may come first,
    as in ``list_landmarks_align_celeba.txt``, and a score may end a line, as in IJB's lists: it
    is a third column of that image's array, the same in each row.

    Args:
        path: the file.

    Returns:
        By name of the image: x and y in pixels, (2, 2) or (5, 2), or with scores (2, 3) or (5, 3).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line breaks the format or names an image again; it names file and line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} does not exist: a list of landmarks is needed')
    lines = read_lines(path)
    announced = None
    start = 0
    if lines and lines[0].isdecimal():
        announced, start = int(lines[0]), 2
    with_name = [1 + count for count in COUNTS]
    landmarks, seen = {}, {}
    for number, line in enumerate(lines[start:], start + 1):
        name, *fields = split_fields(line, *with_name) or ['']
        values = [_number(field) for field in fields]
        if len(values) not in COUNTS or None in values:
            raise ValueError(
                f'{path}:{number}: a line must be the name of an image and x and y of two or five '
                f'points; got {line!r}'
            )
        if seen.setdefault(name, number) != number:
            raise ValueError(f'{path}:{number}: {name} is in line {seen[name]} already')
        points = np.array(values[: len(values) // 2 * 2]).reshape(-1, 2)
        if len(values) % 2:
            points = np.column_stack([points, np.full(len(points), values[-1])])
        landmarks[name] = points
    if not landmarks or announced not in (None, len(landmarks)):
        raise ValueError(
            f'{path}: {"some" if announced is None else announced} images are announced, and '
            f'{len(landmarks)} are listed. Is the file cut short?'
        )
    return landmarks


def _number(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
