"""Pairs of faces in one ``.bin`` file."""

from __future__ import annotations

import numpy as np

from mmarcface.functional.verification import consecutive_folds
from mmarcface.registry import DATASETS

from .bin_file import BinFile
from .containers import address, open_once
from .pairs import Pairs
from .subsets import SubsettableDataset


@DATASETS.register_module()
class VerificationBin(SubsettableDataset):
    """Image pairs as insightface gives LFW, CFP-FP, AgeDB-30, CALFW and CPLFW.

    Layout::

        data/ms1mv3/
            lfw.bin
            cfp_fp.bin
            agedb_30.bin

    An image that is in many pairs is there once. ``metainfo['pairs']`` has the pairs for
    :class:`VerificationMetric`. The file does not name people: images that pairs of the same
    identity connect have one label, and one person's other images another.

    Args:
        path: the ``.bin`` file, which is read without running any of its instructions but those
            for lists of bytes and bools.
        num_folds: folds of consecutive pairs.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: see :func:`mmarcface.datasets.bin_file.BinFile`.
    """

    def __init__(self, path: str, num_folds: int = 10, **kwargs):
        self.num_folds = num_folds
        super().__init__(ann_file=path, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each distinct image: ``img_path`` and ``gt_label``."""
        file = open_once(BinFile, self.ann_file)
        place_of = {}
        places = [place_of.setdefault(image, len(place_of)) for image in file.images]
        first = {}
        for position, place in enumerate(places):
            first.setdefault(place, position)
        pairs = list(zip(places[::2], places[1::2], strict=True))
        same = [pair for pair, is_same in zip(pairs, file.is_same, strict=True) if is_same]
        self._metainfo['pairs'] = Pairs(
            np.array(pairs), np.array(file.is_same), consecutive_folds(len(pairs), self.num_folds)
        )
        return [
            dict(img_path=address('bin', self.ann_file, first[place]), gt_label=label)
            for place, label in enumerate(_connected(len(first), same))
        ]


def _connected(number: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Labels from 0 on of things that pairs connect, directly or through others."""
    parents = list(range(number))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = place = parents[parents[place]]
        return place

    for one, other in pairs:
        parents[root(one)] = root(other)
    labels = {}
    return [labels.setdefault(root(place), len(labels)) for place in range(number)]
