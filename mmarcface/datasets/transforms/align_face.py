"""Bringing eyes, nose and mouth to where face models expect them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmarcface.datasets.landmarks import read_landmarks
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
# In pixels, beyond any image; NaN is not below it.
FARTHEST = 1e6


@TRANSFORMS.register_module()
class AlignFace(BaseTransform):
    """Turn, scale and shift a face so that its landmarks come closest to ArcFace's template.

    The similarity transform of least squared distances, fitted to five points or to the eyes
    alone. The template is that of 112 x 112 pixels; for other sizes it is scaled with the height
    and keeps to the middle, so that 112 x 96 is the crop of SphereFace and CosFace.

    Args:
        size: height and width of the crop in pixels, or one number for both.
        landmarks: list of landmarks, see :func:`read_landmarks`, for data sets whose samples have
            none.
        img_prefix: the folder that the names in the list start from.

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
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f'size must be a height and a width in pixels, got {size}')
        self.file = landmarks
        self.img_prefix = img_prefix
        self.landmarks = {} if landmarks is None else read_landmarks(landmarks)
        height, width = self.size
        scale = height / TEMPLATE_SIZE
        middle = (TEMPLATE_SIZE / 2, 0)
        self.template = (TEMPLATE - middle) * scale + (width / 2, 0)

    def transform(self, results: dict) -> dict:
        """Replace ``img``, (H, W, C), by the aligned crop.

        Sets ``img_shape``, and ``landmarks`` to where they are in the crop, (5, 2) or (2, 2).
        """
        points = self._landmarks_of(results)
        matrix = fit_similarity(points, self.template[: len(points)])
        if matrix is None:
            raise ValueError(
                f'the landmarks of {results.get("img_path")} must be different points, got '
                f'{points.tolist()}'
            )
        height, width = self.size
        image = cv2.warpAffine(results['img'], matrix, (width, height), flags=cv2.INTER_LINEAR)
        points = points @ matrix[:, :2].T + matrix[:, 2]
        return results | dict(img=image, img_shape=image.shape[:2], landmarks=points)

    def _landmarks_of(self, results: dict) -> np.ndarray:
        if self.file is None and 'landmarks' in results:
            points = np.asarray(results['landmarks'], float)
        elif self.file is not None:
            name = os.path.relpath(results['img_path'], self.img_prefix or '.')
            if name not in self.landmarks:
                raise ValueError(
                    f'{self.file} has no landmarks of {name}: names are paths from img_prefix, '
                    f'{self.img_prefix!r}'
                )
            points = self.landmarks[name][:, :2]
        else:
            raise ValueError(
                f'{results.get("img_path")} has no landmarks: give AlignFace a list of them, or '
                'use a data set that has them (CelebA, IJB)'
            )
        if points.shape not in ((2, 2), (5, 2)) or not (np.abs(points) < FARTHEST).all():
            raise ValueError(
                f'the landmarks of {results.get("img_path")} must be x and y of two or five '
                f'points in pixels, got {points.tolist()}'
            )
        return points

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, landmarks={self.file!r}, '
            f'img_prefix={self.img_prefix!r})'
        )


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """The similarity transform that brings points closest to others, in squared distance.

    Args:
        source: (P, 2), P >= 2.
        target: (P, 2).

    Returns:
        ``[[a, -b, x], [b, a, y]]``, without reflection; None where the points are one.
    """
    # In a, b, x and y the problem is linear.
    x, y = source.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    system = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    (a, b, dx, dy), _, rank, _ = np.linalg.lstsq(system, target.T.ravel(), rcond=None)
    return np.array([[a, -b, dx], [b, a, dy]]) if rank == 4 else None
