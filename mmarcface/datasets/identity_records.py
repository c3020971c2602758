"""Faces of many identities in one RecordIO file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmarcface.registry import DATASETS

from .containers import address, open_once
from .labelled import LabelledDataset, LazySamples
from .recordio import RecordFile

# Labels are fp32, which has every whole number up to here.
EXACT = 1 << 24


@DATASETS.register_module()
class IdentityRecords(LabelledDataset):
    """Images in a ``.rec`` file, as insightface gives CASIA-WebFace, MS1MV2, MS1MV3 and Glint360K.

    Layout::

        data/ms1mv3/
            train.rec
            train.idx    rebuilt by scanning, which takes a while, where it is missing

    Record 0 may tell, as in insightface's files, which records stand for identities and, these,
    which images are theirs; then only they and the ends of their ranges are read in the beginning.
    Otherwise every record is an image with its identity as first label. Labels count the
    identities from 0 in the order of their numbers. An image costs 28 bytes of
    memory, and workers share them and the pages of the file.

    Args:
        path: the ``.rec`` file.
        **kwargs: see :class:`LabelledDataset`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no images, a record is damaged, a label is no number, or see
            :class:`mmarcface.datasets.recordio.RecordFile`.
    """

    def __init__(self, path: str, **kwargs):
        super().__init__(ann_file=path, **kwargs)

    def load_data_list(self) -> Sequence[dict]:
        """One dict for each image, made when asked for: ``img_path`` and ``gt_label``."""
        records = open_once(RecordFile, self.ann_file)
        keys, identities = _of_identity_records(records) or _of_all_records(records)
        numbers, labels = np.unique(identities, return_inverse=True)
        self._metainfo['classes'] = tuple(map(str, numbers.tolist()))
        return _Samples(self.ann_file, keys, labels.astype(np.int32))


@dataclass
class _Samples(LazySamples):
    path: str
    keys: np.ndarray
    labels: np.ndarray

    def make(self, place: int) -> dict:
        return dict(
            img_path=address('rec', self.path, self.keys[place]),
            gt_label=int(self.labels[place]),
        )

    def take(self, places: np.ndarray | slice, labels: np.ndarray) -> _Samples:
        return _Samples(self.path, self.keys[places], labels)


def _of_identity_records(records: RecordFile) -> tuple[np.ndarray, np.ndarray] | None:
    """Keys and identities of the images, where records of identities tell and agree with them."""
    head = _head(records)
    if len(head) != 2:
        return None
    first, end = head
    images, people = np.split(records.keys[1:], [records.keys[1:].searchsorted(first)])
    if len(images) != first - 1:
        raise ValueError(
            f'{records.path} must have {first - 1:g} images by its record 0, and its .idx names '
            f'{len(images)}: fetch it again, or delete it, and it is rebuilt'
        )
    if end <= EXACT:
        people = people[people < end]
    ranges = [records.labels(key)[:2] for key in people.tolist()]
    if not ranges or any(len(ends) < 2 for ends in ranges):
        return None
    starts, ends = np.array(sorted(ranges)).T
    known = ends <= EXACT
    starts, ends = starts[known], ends[known]
    last = first if known.all() else ends.max(initial=1)
    whole = [1, *ends.tolist()] == [*starts.tolist(), last]
    if not whole or (starts >= ends).any() or (starts % 1).any():
        return None
    # Only numbers that are among the keys come here.
    starts, ends = starts.astype(np.int64), ends.astype(np.int64)
    numbers = [records.identity(key) for key in starts.tolist()]
    if numbers != [records.identity(key - 1) for key in ends.tolist()]:
        return None
    others = [records.identity(key) for key in images[images >= last].tolist()]
    return images, np.concatenate([np.repeat(numbers, ends - starts), others]).astype(np.int64)


def _of_all_records(records: RecordFile) -> tuple[np.ndarray, np.ndarray]:
    """Keys and identities of the images, from their own headers."""
    keys, head = records.keys, _head(records)
    if head:
        keys = keys[(keys > 0) & (keys < head[0])]
    if len(keys) == 0:
        raise ValueError(f'{records.path} holds no images')
    return keys, np.array([records.identity(key) for key in keys.tolist()])


def _head(records: RecordFile) -> tuple[float, ...]:
    """The labels of record 0, if it is no image: keys of the first identity and of the end."""
    head = records.read(0) if records.keys[0] == 0 else None
    if head is None or head.image:
        return ()
    first, *others = head.labels
    if first > EXACT:
        # Rounded, it may be off by a few; where it points, images come to their end.
        near = records.keys[np.abs(records.keys - first) <= 4].tolist()
        first = min((key for key in near if not records.read(key).image), default=first)
    return first, *others
