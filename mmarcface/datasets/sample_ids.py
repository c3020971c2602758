"""Names that samples keep where the data moves and where their order changes."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from .formats.keep_list import fingerprint_samples, first_repeated
from .formats.packed import file_of
from .labels import labels_of


def sample_ids(dataset) -> list[str]:
    """The names of all samples, in their order.

    Args:
        dataset: of ours, of mmpretrain or mmengine, or a wrapper of theirs: whatever has
            ``get_data_info``.

    Returns:
        One name for each sample. A data set of ours gives its own; others have paths relative to
        their ``data_root`` or prefix of images, or else to the folder that all images have in
        common; those of a ConcatDataset follow the number of the part.

    Raises:
        ValueError: if a sample has neither name nor path, or two have the same name.
    """
    names = list(LazySampleIds(dataset))
    refuse_repeated_ids(names)
    return names


def fingerprint_of(dataset) -> str:
    """What tells a data set from others; see :func:`fingerprint_samples`.

    Args:
        dataset: as for :func:`sample_ids`.

    Returns:
        For a data set of ours, the fingerprint of all its samples, those among them that it leaves
        out by ``filter_file`` or ``indices``.

    Raises:
        ValueError: see :func:`sample_ids` and :func:`labels_of`.
    """
    own = getattr(dataset, 'fingerprint', None)
    return own or fingerprint_samples(sample_ids(dataset), labels_of(dataset).tolist())


def path_id(path: str, roots: Sequence[str] = ()) -> str:
    """An image's path without what changes where the data moves.

    Args:
        path: of the image, or an address as :func:`mmarcface.datasets.formats.packed.address` makes
            it.
        roots: folders, of which the first that the image is in counts.

    Returns:
        The path relative to the folder, with slashes; the whole path if it is in none of them; for
        an address the name of the file and the key.
    """
    file = file_of(path)
    if file != path:
        return f'{os.path.basename(file)}#{path.rpartition("#")[2]}'
    inside = _inside(path, roots)
    return (os.path.abspath(path) if inside is None else inside).replace(os.sep, '/')


def sample_id_of(sample: dict, roots: Sequence[str] = ()) -> str:
    """What a sample is called: its ``sample_id`` if it has one, else after its path.

    Args:
        sample: from ``get_data_info``.
        roots: see :func:`path_id`.
    """
    return sample['sample_id'] if 'sample_id' in sample else path_id(sample['img_path'], roots)


def refuse_repeated_ids(names: Sequence[str]) -> None:
    """See that every sample has a name of its own.

    Args:
        names: of all samples.

    Raises:
        ValueError: if two samples have the same.
    """
    places = first_repeated(names)
    if places:
        raise ValueError(
            f'names of samples must differ, got {names[places[0]]!r} at places {places[0]} and '
            f'{places[1]}; of a wrapper that repeats samples, purify the data set inside'
        )


class LazySampleIds(Sequence):
    """The names of a data set's samples by place, made when asked for.

    Args:
        dataset: as for :func:`sample_ids`.

    Raises:
        ValueError: see :func:`sample_ids`; names may be the same here.
    """

    def __init__(self, dataset):
        if not hasattr(dataset, 'get_data_info'):
            raise ValueError(f'dataset must have get_data_info, got {type(dataset).__name__}')
        self.dataset = dataset
        concatenated = hasattr(dataset, 'cumulative_sizes')
        self.parts = [LazySampleIds(part) for part in dataset.datasets] if concatenated else []
        self.name = None if self.parts else _naming(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> str:
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self.of(place, self.dataset.get_data_info(place))

    def of(self, place: int, sample: dict) -> str:
        """The name of a sample that is at hand.

        Args:
            place: of the sample, in [0, N).
            sample: what ``get_data_info`` says of it.
        """
        if not self.parts:
            return self.name(sample)
        ends = self.dataset.cumulative_sizes
        part = bisect_right(ends, place)
        return f'{part}/{self.parts[part].of(place - (ends[part - 1] if part else 0), sample)}'

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))


def _naming(dataset) -> Callable[[dict], str]:
    """How samples of a data set are named."""
    if hasattr(dataset, 'sample_id'):
        return dataset.sample_id
    inside = getattr(dataset, 'dataset', None)
    if hasattr(inside, 'get_data_info'):
        return _naming(inside)
    prefixes = getattr(dataset, 'data_prefix', None) or {}
    roots = [root for root in (getattr(dataset, 'data_root', ''), *prefixes.values()) if root]
    paths = []
    for place in range(len(dataset)):
        sample = dataset.get_data_info(place)
        if 'sample_id' in sample:
            continue
        if 'img_path' not in sample:
            raise ValueError(
                f'a sample must have img_path or sample_id to be named, that at place {place} '
                f'of {type(dataset).__name__} has {", ".join(sample)}'
            )
        if file_of(sample['img_path']) == sample['img_path']:
            paths.append(sample['img_path'])
    if any(_inside(path, roots) is None for path in paths):
        roots = [os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])]
    return partial(sample_id_of, roots=roots)


def _inside(path: str, roots: Sequence[str]) -> str | None:
    """The path relative to the first folder that it is in, if there is one."""
    # Most paths start as the folder does, and to make them absolute takes longer.
    for whole in (os.path.normpath, os.path.abspath):
        found = whole(path)
        for root in roots:
            prefix = os.path.join(whole(root), '')
            if found.startswith(prefix):
                return found[len(prefix) :]
    return None
