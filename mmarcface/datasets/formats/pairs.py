"""Pairs of images for verification, and the text files in which LFW lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmarcface.datasets.subsets import IndexedMetainfo

from .text_lists import read_lines, split_fields


@dataclass(frozen=True, eq=False)
class Pairs(IndexedMetainfo):
    """Which samples of a data set are compared; data sets give it as ``metainfo['pairs']``.

    Attributes:
        indices: places in the data set of the two samples of each pair, (P, 2), int64.
        is_same: whether the two samples show one identity, (P,), bool.
        folds: fold of each pair, (P,), int64. Pairs of fold -1 only help to choose thresholds.
    """

    indices: np.ndarray
    is_same: np.ndarray
    folds: np.ndarray

    def shifted(self, number: int) -> Pairs:
        """The same pairs, of samples that come after others.

        Args:
            number: number of samples that come before.
        """
        return Pairs(self.indices + number, self.is_same, self.folds)

    def for_subset(self, places: np.ndarray, number: int) -> Pairs:
        """See :meth:`IndexedMetainfo.for_subset`: the pairs of which both samples are left.

        Their folds count from 0 on without gaps, and a line in the log says how many pairs are.
        """
        new = np.full(number, -1)
        new[places] = np.arange(len(places))
        kept = self.among(new >= 0)
        folds = kept.folds.copy()
        tested = folds >= 0
        folds[tested] = np.unique(folds[tested], return_inverse=True)[1]
        return Pairs(new[kept.indices], kept.is_same, folds)

    def count_by_fold(self) -> tuple[np.ndarray, np.ndarray]:
        """How many pairs of each tested fold show one identity, and how many two; each (F,)."""
        tested = self.folds >= 0
        folds = np.unique(self.folds[tested], return_inverse=True)[1]
        same = np.bincount(folds[self.is_same[tested]], minlength=folds.max(initial=-1) + 1)
        return same, np.bincount(folds) - same

    def among(self, is_kept: np.ndarray) -> Pairs:
        """The pairs of which both sides are kept; a line in the log says how many these are.

        Args:
            is_kept: whether each sample, or whatever ``indices`` name, is kept, (N,), bool.
        """
        kept = is_kept[self.indices].all(1)
        print_log(
            f'{kept.sum()} of {len(kept)} pairs are among the samples that are left', 'current'
        )
        return Pairs(self.indices[kept], self.is_same[kept], self.folds[kept])


@dataclass
class ListedPair:
    """A line of a pairs file.

    Attributes:
        line: number of the line.
        first: name and number, from 1 on, of one image.
        second: name and number of the other image.
        fold: number of the fold, from 0 on.
    """

    line: int
    first: tuple[str, int]
    second: tuple[str, int]
    fold: int

    @property
    def is_same(self) -> bool:
        """Whether both images are of one identity."""
        return self.first[0] == self.second[0]


def read_pairs(path: str | Path) -> list[ListedPair]:
    """Pairs of ``pairs.txt`` (LFW's View 2) or ``pairsDevTrain.txt`` and the like (View 1).

    The first line is ``folds<TAB>pairs`` or, for one fold, ``pairs``. For each fold there follow
    that many lines ``name<TAB>i<TAB>j`` of one identity, and that many lines
    ``name_a<TAB>i<TAB>name_b<TAB>j`` of two.

    Args:
        path: path of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line breaks the format; it names file and line.
    """
    lines, head = _read_numbers(path, 2, 'folds<TAB>pairs, or pairs')
    num_folds, number = head if len(head) == 2 else (1, *head)
    num_pairs = 2 * num_folds * number
    if len(lines) != num_pairs:
        raise ValueError(
            f'{path}:1: {num_folds} folds of {number} + {number} pairs are {num_pairs} lines, and '
            f'{len(lines)} follow. Is the file cut short?'
        )
    pairs = []
    for place, line in enumerate(lines):
        same = place % (2 * number) < number
        fields = split_fields(line, 3 if same else 4)
        names, numbers = (fields[:1] * 2, fields[1:]) if same else (fields[::2], fields[1::2])
        good = len(fields) == (3 if same else 4) and all(map(_is_number, numbers))
        # Two different images: two numbers of one name, or two names.
        if not good or len(set(map(int, numbers) if same else names)) < 2:
            rule = (
                '"name i j", two images of one identity'
                if same
                else ('"name_a i name_b j", images of two identities')
            )
            raise ValueError(
                f'{path}:{place + 2}: line {place % (2 * number) + 1} of fold '
                f'{place // (2 * number) + 1} must be {rule}, numbers from 1 on; got {line!r}'
            )
        first, second = ((name, int(i)) for name, i in zip(names, numbers, strict=True))
        pairs.append(ListedPair(place + 2, first, second, place // (2 * number)))
    return pairs


def write_pairs(path: str | Path, pairs: Sequence[ListedPair], num_folds: int) -> None:
    """Write a pairs file.

    Args:
        path: path of the file.
        pairs: pairs in the order of their folds; each fold has pairs of one identity first, and
            then equally many of two.
        num_folds: number of folds.
    """
    rows = [(num_folds, len(pairs) // (2 * num_folds))]
    rows += [
        (*pair.first, pair.second[1]) if pair.is_same else (*pair.first, *pair.second)
        for pair in pairs
    ]
    Path(path).write_text(
        '\n'.join('\t'.join(map(str, row)) for row in rows) + '\n', encoding='utf-8'
    )


def read_people(path: str | Path) -> list[tuple[int, str, int, int]]:
    """Line, name, number of images and fold of the people of ``people.txt`` and the like.

    The first line is the number of folds, and each fold begins with its number of people; or, for
    one fold, the first line is that number. A person is ``name<TAB>images``.

    Args:
        path: path of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line breaks the format or names someone again; it names file and line.
    """
    lines, (head,) = _read_numbers(path, 1, 'the number of folds or of people')
    in_folds = bool(lines) and _is_number(lines[0])
    counts, people, seen = [] if in_folds else [head], [], {}
    left = 0 if in_folds else head
    for number, line in enumerate(lines, 2):
        if in_folds and left == 0:
            if not _is_number(line):
                raise ValueError(
                    f'{path}:{number}: a fold must begin with its number of people; got {line!r}'
                )
            left = int(line)
            counts.append(left)
            continue
        fields = split_fields(line, 2)
        if len(fields) != 2 or not _is_number(fields[1]):
            raise ValueError(f'{path}:{number}: a line must be "name images"; got {line!r}')
        if seen.setdefault(fields[0], number) != number:
            raise ValueError(f'{path}:{number}: {fields[0]} is in line {seen[fields[0]]} already')
        people.append((number, fields[0], int(fields[1]), len(counts) - 1))
        left -= 1
    if left != 0 or (in_folds and len(counts) != head):
        raise ValueError(
            f'{path}:1: {f"{head} folds" if in_folds else f"{head} people"} are announced, and '
            f'{len(people)} people in {len(counts)} folds follow. Is the file cut short?'
        )
    return people


def write_people(path: str | Path, images_of: dict[str, int]) -> None:
    """Write a people file, of one fold.

    Args:
        path: path of the file.
        images_of: number of images of each identity.
    """
    lines = [str(len(images_of)), *(f'{name}\t{images}' for name, images in images_of.items())]
    Path(path).write_text('\n'.join(lines) + '\n', encoding='utf-8')


def make_pairs(
    images_of: dict[str, int], num_folds: int, number: int, seed: int
) -> list[ListedPair]:
    """Draw pairs for verification, in folds without identities in common.

    Args:
        images_of: number of images of each identity.
        num_folds: number of folds.
        number: number of pairs of one identity in each fold, and of pairs of two.
        seed: seed of the draws.

    Returns:
        Pairs, none twice, in the order of a pairs file.

    Raises:
        ValueError: if a fold has not enough identities or images for that many pairs.
    """
    random = np.random.default_rng(seed)
    pairs = []
    for fold, names in enumerate(np.array_split(random.permutation(sorted(images_of)), num_folds)):
        images = [(str(name), i + 1) for name in names for i in range(images_of[name])]
        counts = np.array([images_of[name] for name in names], np.int64)
        end, place = np.repeat(counts.cumsum(), counts), np.arange(len(images))
        # The partners of an image come after it: those of the same identity, then the others.
        for first, partners in ((place + 1, end - place - 1), (end, len(images) - end)):
            total = int(partners.sum())
            if total < number:
                raise ValueError(
                    f'fold {fold + 1} of {num_folds} has {len(names)} identities with '
                    f'{len(images)} images: {total} pairs where {number} of each kind are wanted; '
                    'ask for fewer pairs or folds'
                )
            chosen = random.choice(total, number, replace=False)
            one = np.searchsorted(partners.cumsum(), chosen, side='right')
            other = first[one] + chosen - (partners.cumsum() - partners)[one]
            pairs += [
                ListedPair(0, images[i], images[j], fold)
                for i, j in zip(one.tolist(), other.tolist(), strict=True)
            ]
    return pairs


def _read_numbers(path: str | Path, max_numbers: int, rule: str) -> tuple[list[str], list[int]]:
    """The lines after the first one, and the numbers in the first."""
    first, *lines = read_lines(path) or ['']
    fields = first.split()
    if not 1 <= len(fields) <= max_numbers or not all(map(_is_number, fields)):
        raise ValueError(f'{path}:1: the first line must be {rule}; got {first!r}')
    return lines, [int(field) for field in fields]


def _is_number(field: str) -> bool:
    """Whether a field counts something, from 1 on."""
    return field.isascii() and field.isdigit() and len(field) < 10 and int(field) > 0
