"""Pairs of faces in one ``.bin`` file."""

from __future__ import annotations

import logging

import numpy as np
from mmengine.logging import print_log

from mmarcface.functional.verification import consecutive_folds
from mmarcface.registry import DATASETS

from .formats.bin_file import BinFile
from .formats.packed import address, open_once
from .formats.pairs import Pairs
from .subsets import SubsettableDataset

# Folds that are tried to find how many a file was written with.
MAX_FOLDS = 20


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
        num_folds: folds of consecutive pairs, each of which needs both kinds: as many as the file
            was written with, which it does not say. 1 for pairs without folds.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if ``num_folds`` is no whole number from 1 on, or a fold has pairs of one kind
            alone and there are enough for all folds (a warning in the log where there are too few),
            or see :func:`mmarcface.datasets.formats.bin_file.BinFile`.
    """

    def __init__(self, path: str, num_folds: int = 10, **kwargs):
        whole = isinstance(num_folds, int | np.integer) and not isinstance(num_folds, bool)
        if not whole or num_folds < 1:
            raise ValueError(f'num_folds must be a whole number from 1 on, got {num_folds!r}')
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
        is_same = np.array(file.is_same)
        if self.num_folds > 1:
            _check_folds(self.ann_file, is_same, self.num_folds)
        self._metainfo['pairs'] = Pairs(
            np.array(pairs), is_same, consecutive_folds(len(pairs), self.num_folds)
        )
        return [
            dict(img_path=address('bin', self.ann_file, first[place]), gt_label=label)
            for place, label in enumerate(_connected(len(first), same))
        ]


def _check_folds(path: str, is_same: np.ndarray, num_folds: int) -> None:
    """Refuse folds of one kind, and warn of unequal ones where another number has equal ones."""
    same, sizes, gaps = _count(is_same, num_folds)
    alone = np.flatnonzero((same == 0) | (same == sizes))
    # More than a tenth of a fold, and more than pairs in random order come to.
    limits = np.maximum(0.1 * sizes, 2.5 * np.sqrt(sizes * is_same.mean() * (1 - is_same.mean())))
    if len(alone) == 0 and (gaps <= limits).all():
        return
    worst = {}
    for number in range(2, MAX_FOLDS + 1):
        counts, totals, differences = _count(is_same, number)
        if ((counts > 0) & (counts < totals)).all():
            worst[number] = round(differences.max(), 6)
    best = min(worst, key=lambda number: (worst[number], -number), default=None)
    equal = best is not None and worst[best] <= 0.5
    if len(alone) == 0 and not equal:
        return
    fold = alone[0] if len(alone) else gaps.argmax()
    found = (
        f'{path}: fold {fold + 1} of num_folds={num_folds} has {same[fold]} pairs of the same '
        f'identity and {sizes[fold] - same[fold]} of different ones'
    )
    max_folds = min(is_same.sum(), (~is_same).sum())
    if max_folds < num_folds:
        # Too few for the metric, which says so; the images may be wanted for something else.
        print_log(f'{found}: at most {max_folds} folds are possible', 'current', logging.WARNING)
        return
    if best is None:
        advice = (
            f'in this order of pairs no number does. Write them in another: python '
            f'tools/convert.py bin {path} OTHER.bin --folds {num_folds}'
        )
    else:
        advice = (
            f'num_folds={best} gives every fold both{" in equal shares" if equal else ""}; give '
            'the number that the file was written with'
        )
    if len(alone):
        raise ValueError(f'{found}, and both kinds are needed: {advice}')
    print_log(f'{found}, unlike others: {advice}', 'current', logging.WARNING)


def _count(is_same: np.ndarray, num_folds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each fold the pairs of the same identity, all pairs, and how far off equal shares."""
    folds = consecutive_folds(len(is_same), num_folds)
    same, sizes = (np.bincount(chosen, minlength=num_folds) for chosen in (folds[is_same], folds))
    return same, sizes, np.abs(same - is_same.mean() * sizes)


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
