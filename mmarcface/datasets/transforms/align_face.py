"""Alignment of faces: eyes, nose and mouth go to where face models expect them."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmarcface.datasets.formats.landmarks import are_exchanged, read_landmarks
from mmarcface.datasets.log_once import log_once
from mmarcface.datasets.wrappers import class_of
from mmarcface.functional.arguments import are_numbers, is_number
from mmarcface.registry import TRANSFORMS

# Eyes, nose and corners of the mouth in the 112 x 112 crops of the ArcFace models, x and y.
TEMPLATE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
TEMPLATE_SIZE = 112
# In pixels, larger than any image; NaN is not below it either.
MAX_COORDINATE = 1e6
HOW_TO_GIVE = 'give an inferencer the image as dict(img=..., landmarks=...)'
EXCHANGED = (
    'of the eyes, and of the corners of the mouth, the landmarks must have the one on the left of '
    'the upright image first'
)


@TRANSFORMS.register_module()
class AlignFace(BaseTransform):
    """Turn, scale and shift a face so that its landmarks come closest to ArcFace's template.

    It fits the similarity transform of least squared distances to five points, or to the eyes
    alone. The template is that of 112 x 112 pixels; for other sizes it is scaled with the height
    and stays in the middle, so that 112 x 96 is the crop of SphereFace and CosFace.

    Where landmarks turn an image upside down, or have left and right exchanged, a warning in the
    log names the image: it may really be upside down, and one poor detection among many is no
    reason to stop.

    Args:
        size: height and width of the crop in pixels, or one number for both.
        landmarks: path of a list of landmarks, see :func:`read_landmarks`, for data sets whose
            samples have none; it replaces those that samples have. Inferencers take landmarks with
            an image, ``dict(img=..., landmarks=...)``, and these count before the list.
        img_prefix: folder that the names in the list start from.

    Raises:
        ValueError: if ``size`` is not positive, or the list is damaged; in use if an image has no
            landmarks, or they lie on one point.
        FileNotFoundError: if there is no such list.
    """

    def __init__(
        self,
        size: int | Sequence[int] = TEMPLATE_SIZE,
        landmarks: str | None = None,
        img_prefix: str = '',
    ):
        both = (size, size) if is_number(size) else size
        if not are_numbers(both, 2, whole=True) or min(both) < 1:
            raise ValueError(f'size must be a height and a width in pixels, got {size!r}')
        self.size = tuple(both)
        self.file = landmarks
        self.img_prefix = img_prefix
        self.landmarks = {} if landmarks is None else read_landmarks(landmarks)
        # A gallery's cache notices by this that the list has changed.
        self.digest = landmarks and blake2b(Path(landmarks).read_bytes(), digest_size=8).hexdigest()
        height, width = self.size
        scale = height / TEMPLATE_SIZE
        middle = (TEMPLATE_SIZE / 2, 0)
        self.template = (TEMPLATE - middle) * scale + (width / 2, 0)

    def transform(self, results: dict) -> dict:
        """Replace ``img``, (H, W, C), by the aligned crop.

        Sets ``img_shape``, and ``landmarks`` to where they are in the crop, (5, 2) or (2, 2).
        """
        points = self.landmarks_of(results)
        matrix = fit_similarity(points, self.template[: len(points)])
        if matrix is None:
            raise ValueError(
                f'the landmarks of {_name(results)} must be different points, got {points.tolist()}'
            )
        self._warn(_name(results), points, matrix)
        height, width = self.size
        image = cv2.warpAffine(results['img'], matrix, (width, height), flags=cv2.INTER_LINEAR)
        points = points @ matrix[:, :2].T + matrix[:, 2]
        return results | dict(img=image, img_shape=image.shape[:2], landmarks=points)

    def landmarks_of(self, results: dict) -> np.ndarray:
        """Landmarks of a sample, (5, 2) or (2, 2), whose image need not be read yet.

        Args:
            results: sample, as transforms pass it on.

        Raises:
            ValueError: if there are none, or they are not such points.
        """
        if 'landmarks' in results and (self.file is None or 'landmarks_given' in results):
            points = np.asarray(results['landmarks'], float)
        elif self.file is not None and 'img_path' in results:
            name = os.path.relpath(results['img_path'], self.img_prefix or '.')
            if name not in self.landmarks:
                raise ValueError(
                    f'{self.file} has no landmarks of {name}: names are paths from img_prefix, '
                    f'{self.img_prefix!r}; or {HOW_TO_GIVE}'
                )
            points = self.landmarks[name][:, :2]
        else:
            raise ValueError(
                f'{_name(results)} has no landmarks: give AlignFace a list of them and images by '
                f'path, use a data set that has them (CelebA, IJB), or {HOW_TO_GIVE}'
            )
        if points.shape not in ((2, 2), (5, 2)) or not (np.abs(points) < MAX_COORDINATE).all():
            raise ValueError(
                f'the landmarks of {_name(results)} must be x and y of two or five points in '
                f'pixels, got {points.tolist()}'
            )
        return points

    def _warn(self, name: str, points: np.ndarray, matrix: np.ndarray) -> None:
        """Warn, once, of an image whose crop may be upside down or wrong."""
        angle = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
        if are_exchanged(points):
            text = f'{EXCHANGED}, got {points.tolist()} of {name}: its crop may be wrong'
        elif abs(angle) > 90:
            text = f'{name} is turned by {angle:.0f} degrees by its landmarks: is it upside down?'
        else:
            return
        log_once(self, text, logging.WARNING)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, landmarks={self.file!r}, '
            f'img_prefix={self.img_prefix!r}, digest={self.digest!r})'
        )


def _name(results: dict) -> str:
    return results.get('img_path', 'an image without a path')


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """The similarity transform that brings points closest to others, in squared distance.

    Args:
        source: points to transform, (P, 2), P >= 2.
        target: points to come close to, (P, 2).

    Returns:
        ``[[a, -b, x], [b, a, y]]``, without reflection; None where all points are the same.
    """
    # The problem is linear in a, b, x and y.
    x, y = source.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    system = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    (a, b, dx, dy), _, rank, _ = np.linalg.lstsq(system, target.T.ravel(), rcond=None)
    return np.array([[a, -b, dx], [b, a, dy]]) if rank == 4 else None


def alignment_of(pipeline: Sequence | None) -> str | None:
    """The template that a pipeline aligns faces to, as a manifest names it; None if it does not.

    Args:
        pipeline: transforms, built or as configs.
    """
    transforms = getattr(pipeline, 'transforms', pipeline) or []
    return 'arcface' if AlignFace in [class_of(t, TRANSFORMS) for t in transforms] else None
