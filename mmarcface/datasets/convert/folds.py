"""Pairs of a source, by fold."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from mmengine.logging import print_log

from mmarcface.datasets.formats.pairs import ListedPair, make_pairs
from mmarcface.functional.verification import consecutive_folds

from .source import Source

# Number of folds of LFW, and of a .bin for readers that are not told another.
NUM_FOLDS = 10


def with_pairs(
    source: Source, num_folds: int | None, number: int | None, seed: int | None
) -> Source:
    """Return the source with pairs: its own, or random ones where it has none.

    Args:
        source: data set to convert.
        num_folds: number of folds. A source without pairs gets 10 by default. One with pairs keeps
            its folds by default; otherwise its pairs are split in their order, with equally many of
            each kind in each fold, and a warning in the log says how many identities are in several
            folds.
        number: number of pairs of each kind in a fold, 300 by default; for sources without pairs.
        seed: seed of the random pairs, 0 by default; for sources without pairs.

    Raises:
        ValueError: if there are too few images or pairs, or if ``number`` or ``seed`` is given for
            a source with pairs.
    """
    if source.pairs is None:
        num_folds, number = num_folds or NUM_FOLDS, number or 300
        pairs = make_pairs(source.images_per_identity, num_folds, number, seed or 0)
        return replace(source, pairs=pairs, num_folds=num_folds)
    for name, value in dict(pairs=number, seed=seed).items():
        if value is not None:
            raise ValueError(
                f'{name} must be left out for a source that has pairs, as this one has '
                f'{len(source.pairs)}; got {value}'
            )
    source = source if num_folds is None else split_into_folds(source, num_folds)
    folds = {(name, pair.fold) for pair in source.pairs for name, _ in (pair.first, pair.second)}
    shared = [name for name, count in Counter(name for name, _ in folds).items() if count > 1]
    if shared:
        print_log(
            f'{len(shared)} identities are in several of the {source.num_folds} folds, such as '
            f'{shared[0]}: thresholds are then tested on people that they were chosen on',
            'current',
            logging.WARNING,
        )
    return source


def split_into_folds(source: Source, num_folds: int) -> Source:
    """Split the pairs of a source into folds, as readers of a ``.bin`` do.

    Args:
        source: data set with pairs, whose own folds are ignored.
        num_folds: number of folds.

    Raises:
        ValueError: if a fold would lack pairs of one identity, or of two.
    """
    same = sum(pair.is_same for pair in source.pairs)
    max_folds = max(1, min(same, len(source.pairs) - same))
    if num_folds > max_folds:
        raise ValueError(
            f'folds must have pairs of both kinds in each, and the source has {same} of the same '
            f'identity and {len(source.pairs) - same} of different ones: at most {max_folds}, got '
            f'{num_folds}'
        )
    pairs = interleave_kinds([replace(pair, fold=0) for pair in source.pairs])
    folds = consecutive_folds(len(pairs), num_folds).tolist()
    pairs = [replace(pair, fold=fold) for pair, fold in zip(pairs, folds, strict=True)]
    return replace(source, pairs=pairs, num_folds=num_folds)


def interleave_kinds(pairs: Sequence[ListedPair]) -> list[ListedPair]:
    """Sort pairs so that both kinds are spread evenly over each fold.

    Args:
        pairs: pairs of one identity and of two; those of a kind keep their order.
    """
    counts = Counter((pair.fold, pair.is_same) for pair in pairs)
    seen, places = Counter(), []
    for pair in pairs:
        kind = pair.fold, pair.is_same
        places.append((pair.fold, (seen[kind] + 0.5) / counts[kind], not pair.is_same))
        seen[kind] += 1
    order = sorted(range(len(pairs)), key=places.__getitem__)
    return [pairs[place] for place in order]


def sort_for_pairs_file(source: Source) -> list[ListedPair]:
    """Sort pairs as ``pairs.txt`` lists them: in each fold those of one identity first.

    Args:
        source: data set with pairs.

    Raises:
        ValueError: if a fold does not have equally many pairs of each kind.
    """
    pairs = sorted(source.pairs, key=lambda pair: (pair.fold, not pair.is_same))
    counts = Counter((pair.fold, pair.is_same) for pair in pairs)
    if len(set(counts.values())) > 1 or len(counts) != 2 * source.num_folds:
        raise ValueError(
            'pairs.txt needs equally many pairs of each kind in every fold; the source has '
            + ', '.join(
                f'{counts[fold, True]} + {counts[fold, False]}' for fold in range(source.num_folds)
            )
            + _advise_folds(source.pairs)
        )
    return pairs


def _advise_folds(pairs: Sequence[ListedPair]) -> str:
    same = sum(pair.is_same for pair in pairs)
    if 2 * same != len(pairs):
        return ': write a .bin instead'
    numbers = [str(number) for number in range(1, 21) if same % number == 0]
    return f': give --folds {" or ".join(numbers)}'
