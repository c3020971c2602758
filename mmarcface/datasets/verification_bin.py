"""Pairs of faces in one ``.bin`` file."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from mmengine.logging import print_log

from mmarcface.functional.arguments import check_number
from mmarcface.functional.verification import consecutive_folds
from mmarcface.registry import DATASETS

from .formats.bin_file import BinFile
from .formats.packed import image_uri, open_cached
from .formats.pairs import Pairs
from .subsets import SubsettableDataset

# Largest number of folds that is tried to find how many a file was written with.
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
        path: the ``.bin`` file, a pickle, of which only the instructions for lists of bytes and
            bools are run.
        num_folds: number of folds of consecutive pairs, each of which needs both kinds. Give the
            number that the file was written with, which it does not say; 1 for pairs without folds.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if ``num_folds`` is no whole number from 1 on, or a fold has pairs of one kind
            alone and there are enough for all folds (a warning in the log where there are too few),
            or see :func:`mmarcface.datasets.formats.bin_file.BinFile`.
    """

    def __init__(self, path: str, num_folds: int = 10, **kwargs):
        check_number('num_folds', num_folds, minimum=1, whole=True)
        self.num_folds = num_folds
        super().__init__(ann_file=path, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each distinct image: ``img_path`` and ``gt_label``."""
        file = open_cached(BinFile, self.ann_file)
        place_of = {}
        places = [place_of.setdefault(image, len(place_of)) for image in file.images]
        first = {}
        for position, place in enumerate(places):
            first.setdefault(place, position)
        pairs = list(zip(places[::2], places[1::2], strict=True))
        same = [pair for pair, is_same in zip(pairs, file.is_same, strict=True) if is_same]
        folds = consecutive_folds(len(pairs), self.num_folds)
        self._metainfo['pairs'] = Pairs(np.array(pairs), np.array(file.is_same), folds)
        if self.num_folds > 1:
            _check_folds(self.ann_file, self._metainfo['pairs'], self.num_folds)
        return [
            dict(img_path=image_uri('bin', self.ann_file, first[place]), gt_label=label)
            for place, label in enumerate(_connected(len(first), same))
        ]


def _check_folds(path: str, pairs: Pairs, num_folds: int) -> None:
    """Refuse folds of one kind of pairs, and warn of uneven ones that another number makes even."""
    same, other = pairs.count_by_fold()
    sizes, share = same + other, pairs.is_same.mean()
    one_kind = np.flatnonzero((same == 0) | (other == 0))
    surplus = np.abs(same - share * sizes)
    # More than a tenth of a fold, and more than chance makes of pairs in random order.
    allowed = np.maximum(0.1 * sizes, 2.5 * np.sqrt(sizes * share * (1 - share)))
    if not len(one_kind) and (surplus <= allowed).all():
        return
    best, even = _best_num_folds(pairs)
    if not len(one_kind) and not even:
        return
    fold = one_kind[0] if len(one_kind) else surplus.argmax()
    found = (
        f'{path}: fold {fold + 1} of num_folds={num_folds} has {same[fold]} pairs of the same '
        f'identity and {other[fold]} of different ones'
    )
    max_folds = min(same.sum(), other.sum())
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
            f'num_folds={best} gives every fold both{" in equal shares" if even else ""}; give '
            'the number that the file was written with'
        )
    if len(one_kind):
        raise ValueError(f'{found}, and both kinds are needed: {advice}')
    print_log(f'{found}, unlike others: {advice}', 'current', logging.WARNING)


def _best_num_folds(pairs: Pairs) -> tuple[int | None, bool]:
    """The number of folds that spreads both kinds of pairs best, and whether evenly; or None."""
    surplus = {}
    for number in range(2, MAX_FOLDS + 1):
        folds = consecutive_folds(len(pairs.folds), number)
        same, other = replace(pairs, folds=folds).count_by_fold()
        if same.all() and other.all():
            most = np.abs(same - pairs.is_same.mean() * (same + other)).max()
            surplus[number] = round(most, 6)
    best = min(surplus, key=lambda number: (surplus[number], -number), default=None)
    return best, best is not None and surplus[best] <= 0.5


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
