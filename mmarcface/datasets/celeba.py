"""CelebA, as faces of known identity."""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterable
from pathlib import Path

from mmarcface.registry import DATASETS

from .formats.landmarks import read_landmarks
from .formats.text_lists import read_lines, split_fields
from .identity_dataset import IdentityDataset

SPLITS = ('train', 'val', 'test')
HOMEPAGE = 'https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html'


@DATASETS.register_module()
class CelebA(IdentityDataset):
    """CelebA: 202,599 images of 10,177 people, 178 x 218 pixels.

    Layout, as the `homepage <https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html>`_ gives it::

        data_root/
            identity_CelebA.txt              000001.jpg 2880
            list_eval_partition.txt          000001.jpg 0, needed for a split only
            list_landmarks_align_celeba.txt  needed for landmarks only
            img_align_celeba/
                000001.jpg

    Labels count the identities of the images in use, in the order of their numbers.

    Args:
        data_root: the folder shown above.
        split: 'train', 'val' or 'test'; all images by default.
        landmarks: name of a list of landmarks in ``data_root``, for :class:`AlignFace`; each
            sample then has ``landmarks``, (5, 2).
        folder: folder of the images in ``data_root``.
        **kwargs: see :class:`IdentityDataset`.

    Raises:
        FileNotFoundError: if a list or an image is missing.
        ValueError: if the split is unknown, a line breaks the format or names an image again, or
            the lists do not name the same images.
    """

    def __init__(
        self,
        data_root: str,
        split: str | None = None,
        landmarks: str | None = None,
        folder: str = 'img_align_celeba',
        **kwargs,
    ):
        if split not in (None, *SPLITS):
            raise ValueError(f'split must be one of {SPLITS} or None, got {split!r}')
        self.split = split
        self.landmarks = landmarks
        super().__init__(
            ann_file='identity_CelebA.txt', data_root=data_root, data_prefix=folder, **kwargs
        )

    def load_data_list(self) -> list[dict]:
        """One dict for each image: ``img_path``, ``gt_label``, ``identity`` and ``landmarks``."""
        identities = _read_table(self.ann_file, 'image identity, a number')
        names = list(identities)
        if self.split is not None:
            path = Path(self.data_root, 'list_eval_partition.txt')
            parts = _read_table(path, 'image part, 0, 1 or 2', maximum=2)
            _check_same(names, parts, self.ann_file, path)
            names = [name for name in names if parts[name][1] == SPLITS.index(self.split)]
        landmarks = {}
        if self.landmarks is not None:
            path = Path(self.data_root, self.landmarks)
            landmarks = read_landmarks(path)
            _check_same(names, landmarks, self.ann_file, path)
        # One listing is much quicker than asking for 202,599 files one by one.
        there = set(os.listdir(self.img_prefix)) if os.path.isdir(self.img_prefix) else set()
        numbers = sorted({identities[name][1] for name in names})
        labels = {number: label for label, number in enumerate(numbers)}
        samples = []
        for name in names:
            line, number = identities[name]
            path = Path(self.img_prefix, name)
            if name not in there:
                raise FileNotFoundError(f'{self.ann_file}:{line}: image {path} does not exist')
            sample = dict(img_path=str(path), gt_label=labels[number], identity=str(number))
            if landmarks:
                sample['landmarks'] = landmarks[name]
            samples.append(sample)
        if not samples:
            raise ValueError(f'{self.data_root} has no image of split {self.split!r}')
        self._metainfo['classes'] = tuple(map(str, numbers))
        return samples


def _read_table(
    path: str | Path, rule: str, maximum: float = math.inf
) -> dict[str, tuple[int, int]]:
    """Line and number of each image of a list of images and numbers."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'{path} does not exist: fetch it from {HOMEPAGE}, or correct data_root'
        )
    rows = {}
    for number, line in enumerate(read_lines(path), 1):
        fields = split_fields(line, 2)
        good = len(fields) == 2 and fields[1].isascii() and fields[1].isdigit()
        if not good or int(fields[1][:18]) > maximum:
            raise ValueError(f'{path}:{number}: a line must be "{rule}"; got {line!r}')
        if fields[0] in rows:
            raise ValueError(
                f'{path}:{number}: {fields[0]} is in line {rows[fields[0]][0]} already'
            )
        rows[fields[0]] = number, int(fields[1][:18])
    if not rows:
        raise ValueError(f'{path} lists no images')
    return rows


def _check_same(names: Iterable[str], others: Container[str], path: str, other: Path) -> None:
    missing = [name for name in names if name not in others]
    if missing:
        raise ValueError(
            f'{other} must list the images of {path}: {len(missing)} are missing, the first is '
            f'{missing[0]}'
        )
