"""Lists of landmarks: the places of eyes, nose and mouth in images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .text_lists import read_lines, split_fields

# Numbers of values in a line: x and y of two or five points, and possibly a score.
COUNTS = (4, 5, 10, 11)
# Below this the way from the left to the right eye or corner of the mouth leads to the left.
MIN_COORDINATE = -0.25


def read_landmarks(path: str | Path) -> dict[str, np.ndarray]:
    """Landmarks of a text file: each line has an image, and x and y of two or five points.

    Two points are the eyes; five are eyes, nose and corners of the mouth. The eye and the corner on
    the left of an upright image, which are the person's right ones, come first::

        anna/1.jpg 38.3 51.7 73.5 51.5 56.0 71.7 41.5 92.4 70.7 92.2
        ben/1.jpg 30.1 45.6 62.0 45.9

    A number of images and a line of column names may come first, as in
    ``list_landmarks_align_celeba.txt``, and a score may end a line, as in IJB's lists: it becomes a
    third column of that image's array, the same in each row. Names may contain blanks where tabs
    separate the fields.

    Args:
        path: path of the file.

    Returns:
        Points by name of the image: x and y in pixels, (2, 2) or (5, 2), or with scores (2, 3) or
        (5, 3).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line breaks the format or names an image again, or in most lines left and
            right are exchanged; it names file and line.
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
    wrong = [name for name, points in landmarks.items() if are_exchanged(points)]
    if 2 * len(wrong) > len(landmarks):
        raise ValueError(
            f'{path}:{seen[wrong[0]]}: eyes and corners of the mouth must be those on the left of '
            f'the image first, and those on the right are in {len(wrong)} of {len(landmarks)} '
            f'lines: exchange them; got {landmarks[wrong[0]][:, :2].tolist()} of {wrong[0]}'
        )
    return landmarks


def are_exchanged(points: np.ndarray) -> bool:
    """Whether left and right are exchanged in landmarks.

    Five points show it however the face is turned, as only a mirror exchanges them; faces in
    profile and poor detections are not counted. Two eyes show it unless the image is upside down.

    Args:
        points: landmarks of one image, (2, 2) or (5, 2), or with scores.
    """
    eyes = points[1, :2] - points[0, :2]
    if len(points) == 2:
        return bool(eyes[0] < 0)
    mouth = points[4, :2] - points[3, :2]
    down = points[3:, :2].mean(0) - points[:2, :2].mean(0)
    # About 0.9 and 0.7 for a face from the front, and about 0 in profile.
    return any(
        across[0] * down[1] - across[1] * down[0]
        < MIN_COORDINATE * max(across @ across, down @ down)
        for across in (eyes, mouth)
    )


def _number(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
