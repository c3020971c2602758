"""Faces of many identities in one RecordIO file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmarcface.registry import DATASETS

from .formats.packed import image_uri, open_cached
from .formats.recordio import RecordFile, are_identities, index_advice
from .identity_dataset import IdentityDataset
from .lazy_samples import LazySamples
from .log_once import log_once

# Labels are fp32, which represents every whole number up to here.
EXACT = 1 << 24


@DATASETS.register_module()
class IdentityRecords(IdentityDataset):
    """Images in a ``.rec`` file, as insightface gives CASIA-WebFace, MS1MV2, MS1MV3 and Glint360K.

    Layout::

        data/ms1mv3/
            train.rec
            train.idx    rebuilt by scanning, which takes a while, where it is missing

    In insightface's files record 0 says which records stand for identities, and these say which
    images are theirs; only they and the ends of their ranges are read in the beginning. In files of
    MXNet's im2rec every record is an image, and its first label is the identity. Record 0, and
    records with several labels, may have no image: a line in the log counts those that are left
    out. Labels count the identities from 0 in the order of their numbers. An image takes 28 bytes
    of memory, which workers share, as they share the pages of the file.

    Args:
        path: the ``.rec`` file.
        **kwargs: see :class:`IdentityDataset`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no images, a record is damaged, a label is no number, the index
            leaves records out, or see :class:`mmarcface.datasets.formats.recordio.RecordFile`. The
            message says whether a new index would help, which was tried.
    """

    def __init__(self, path: str, **kwargs):
        super().__init__(ann_file=path, **kwargs)

    def load_data_list(self) -> Sequence[dict]:
        """One dict for each image, made when asked for: ``img_path`` and ``gt_label``."""
        try:
            records = open_cached(RecordFile, self.ann_file)
            keys, identities, empty = _images_of(records)
        except ValueError as error:
            raise ValueError(f'{error}. {index_advice(self.ann_file, _images_of)}') from None
        if empty:
            log_once(
                self,
                f'{self.ann_file}: left out {len(empty)} of {len(records.keys)} records, which '
                f'hold no image, such as record {empty[0]}',
            )
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
            img_path=image_uri('rec', self.path, self.keys[place]),
            gt_label=int(self.labels[place]),
        )

    def take(self, places: np.ndarray | slice, labels: np.ndarray) -> _Samples:
        return _Samples(self.path, self.keys[places], labels)


def _images_of(records: RecordFile) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Keys and identities of the images, and keys of the records without an image."""
    return _of_identity_records(records) or _of_all_records(records)


def _of_identity_records(records: RecordFile) -> tuple[np.ndarray, np.ndarray, list[int]] | None:
    """The images that records of identities list; None where there are no such records."""
    head = _head(records)
    if head is None:
        return None
    # The order in which insightface writes; with another order each record has to be read.
    if (np.diff(records.offsets[1:]) <= 0).any():
        return None
    first, end = head
    images, people = np.split(records.keys[1:], [records.keys[1:].searchsorted(first)])
    if len(images) != first - 1:
        raise ValueError(
            f'{records.path} must have {first - 1:g} images by its record 0, and its .idx names '
            f'{len(images)}'
        )
    _refuse_a_part(records, [records.head(int(records.keys[records.offsets.argmax()]))[1]])
    if end <= EXACT:
        people, beyond = np.split(people, [people.searchsorted(end)])
        if any(records.head(key)[0].image for key in beyond.tolist()):
            return None
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
    # From here on all numbers are among the keys.
    starts, ends = starts.astype(np.int64), ends.astype(np.int64)
    numbers = [records.identity(key) for key in starts.tolist()]
    if numbers != [records.identity(key - 1) for key in ends.tolist()]:
        return None
    others = [records.identity(key) for key in images[images >= last].tolist()]
    identities = np.concatenate([np.repeat(numbers, ends - starts), others]).astype(np.int64)
    return images, identities, []


def _of_all_records(records: RecordFile) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The images, by the headers of all records."""
    head = _head(records)
    first = head[0] if head else np.inf
    images, labels, empty, ends = [], [], [], []
    for key in records.keys.tolist():
        record, end = records.head(key)
        ends.append(end)
        if record.image or (0 < key < first and len(record.labels) == 1):
            images.append(key)
            labels.append(record.labels[0])
        elif head is None or 0 < key < first:
            empty.append(key)
    _refuse_a_part(records, ends)
    if not images:
        raise ValueError(f'{records.path} holds no images')
    labels = np.array(labels)
    wrong = np.flatnonzero(~are_identities(labels))
    if len(wrong):
        records.identity(images[wrong[0]])  # Says so.
    return np.array(images), labels.astype(np.int64), empty


def _refuse_a_part(records: RecordFile, ends: Sequence[int]) -> None:
    """Refuse an index that leaves records out, as far as the ends of some tell."""
    missing = records.find_unindexed(ends)
    if missing is not None:
        raise ValueError(
            f'{records.path} has a record at byte {missing}, and its .idx, of {len(records.keys)} '
            'records, does not name it'
        )


def _head(records: RecordFile) -> tuple[float, float] | None:
    """The labels of record 0, if they may be keys: that of the first identity, and the end."""
    head = records.read(0) if records.keys[0] == 0 else None
    if head is None or head.image or len(head.labels) != 2:
        return None
    first, end = head.labels
    if not 1 <= first <= end or first % 1:
        return None
    if first > EXACT:
        # fp32 may have rounded it by a few; it points to the first record after the images.
        near = records.keys[np.abs(records.keys - first) <= 4].tolist()
        first = min((key for key in near if not records.read(key).image), default=first)
    if first in records.keys and records.head(int(first))[0].image:
        return None
    return first, end
