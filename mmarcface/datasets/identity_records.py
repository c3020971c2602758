"""Faces of many identities in one RecordIO file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmarcface.registry import DATASETS

from .containers import address, open_once
from .recordio import RecordFile


@DATASETS.register_module()
class IdentityRecords(BaseDataset):
    """Images in a ``.rec`` file, as insightface gives CASIA-WebFace, MS1MV2, MS1MV3 and Glint360K.

    Layout::

        data/ms1mv3/
            train.rec
            train.idx    rebuilt by scanning, which takes a while, where it is missing

    Record 0 may tell, as in insightface's files, which records stand for identities and, these,
    which images are theirs; then only they and the ends of their ranges are read in the beginning.
    Otherwise every record is an image with its identity as first label. Labels count the
    identities from 0 in the order of their numbers. An image costs the data set 12 bytes of
    memory, and workers share them and the pages of the file.

    Args:
        path: the ``.rec`` file.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no images, a record is damaged, a label is no number, or see
            :class:`mmarcface.datasets.recordio.RecordFile`.
    """

    def __init__(self, path: str, **kwargs):
        # The list of samples takes no memory as it is.
        super().__init__(ann_file=path, serialize_data=False, **kwargs)

    def load_data_list(self) -> Sequence[dict]:
        """One dict for each image, made when asked for: ``img_path`` and ``gt_label``."""
        records = open_once(RecordFile, self.ann_file)
        keys, identities = _of_identity_records(records) or _of_all_records(records)
        numbers, labels = np.unique(identities, return_inverse=True)
        self._metainfo['classes'] = tuple(map(str, numbers.tolist()))
        return _Samples(self.ann_file, keys, labels.astype(np.int32))

    def get_data_info(self, idx: int) -> dict:
        """The sample at a place; mmengine copies it, and here it is made anew each time."""
        return self.data_list[idx] | dict(sample_idx=idx if idx >= 0 else len(self) + idx)

    def get_gt_labels(self) -> np.ndarray:
        """Labels of all images, (N,)."""
        if isinstance(self.data_list, _Samples):
            return self.data_list.labels
        return super().get_gt_labels()


@dataclass
class _Samples(Sequence):
    path: str
    keys: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, place: int | slice) -> dict | _Samples:
        if isinstance(place, slice):
            return _Samples(self.path, self.keys[place], self.labels[place])
        return dict(
            img_path=address('rec', self.path, self.keys[place]),
            gt_label=int(self.labels[place]),
        )


def _of_identity_records(records: RecordFile) -> tuple[np.ndarray, np.ndarray] | None:
    """Keys and identities of the images, where records of identities tell and agree with them."""
    head = records.read(0) if records.keys[0] == 0 else None
    if head is None or len(head.labels) != 2 or head.image:
        return None
    first, end = head.labels
    images = records.keys[(records.keys > 0) & (records.keys < first)]
    identities = records.keys[(records.keys >= first) & (records.keys < end)].tolist()
    ranges = [records.labels(key)[:2] for key in identities]
    if any(len(ends) < 2 or not np.isfinite(ends).all() for ends in ranges):
        return None
    starts, ends = np.array(sorted(ranges), np.int64).reshape(-1, 2).T
    whole = len(images) == first - 1 and [1, *ends.tolist()] == [*starts.tolist(), first]
    if not whole or (starts >= ends).any():
        return None
    numbers = [records.identity(key) for key in starts.tolist()]
    if numbers != [records.identity(key - 1) for key in ends.tolist()]:
        return None
    return images, np.repeat(numbers, ends - starts)


def _of_all_records(records: RecordFile) -> tuple[np.ndarray, np.ndarray]:
    """Keys and identities of the images, from their own headers."""
    keys = records.keys
    if keys[0] == 0 and not records.read(0).image:
        head = records.labels(0)
        keys = keys[(keys > 0) & (keys < head[0])]
    if len(keys) == 0:
        raise ValueError(f'{records.path} holds no images')
    return keys, np.array([records.identity(key) for key in keys.tolist()])
