"""Names of samples that stay where the data moves and where their order changes."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from .formats.keep_list import fingerprint_samples, first_duplicate
from .formats.packed import containing_file
from .labels import labels_of


def sample_ids(dataset) -> list[str]:
    """The names of all samples, in their order.

    Args:
        dataset: a data set of ours, of mmpretrain or of mmengine, or a wrapper of theirs: it must
            have ``get_data_info``.

    Returns:
        One name for each sample. A data set of ours gives its own. For others a name is the path
        relative to ``data_root`` or the prefix of images, or else to the folder that all images
        have in common. In a ConcatDataset the number of the part comes first.

    Raises:
        ValueError: if a sample has neither name nor path, or two have the same name.
    """
    names = list(LazySampleIds(dataset))
    refuse_repeated_ids(names)
    return names


def fingerprint_of(dataset) -> str:
    """The fingerprint of the names and labels of all samples; see :func:`fingerprint_samples`.

    Args:
        dataset: a data set, as for :func:`sample_ids`.

    Returns:
        The fingerprint. For a data set of ours it counts the samples too that a keep-list or
        ``indices`` leave out.

    Raises:
        ValueError: see :func:`sample_ids` and :func:`labels_of`.
    """
    own = getattr(dataset, 'fingerprint', None)
    return own or fingerprint_samples(sample_ids(dataset), labels_of(dataset).tolist())


def path_id(path: str, roots: Sequence[str] = ()) -> str:
    """An image's path without the part that changes where the data moves.

    Args:
        path: path of the image, or its URI
            (:func:`mmarcface.datasets.formats.packed.image_uri`).
        roots: folders; the first that the image is in counts.

    Returns:
        The path relative to that folder, with slashes; the whole path if it is in none of them; for
        a URI the name of the file and the key.
    """
    file = containing_file(path)
    if file != path:
        return f'{os.path.basename(file)}#{path.rpartition("#")[2]}'
    inside = _inside(path, roots)
    return (os.path.abspath(path) if inside is None else inside).replace(os.sep, '/')


def sample_id_of(sample: dict, roots: Sequence[str] = ()) -> str:
    """The name of a sample: its ``sample_id`` if it has one, else one made from its path.

    Args:
        sample: the sample, as ``get_data_info`` gives it.
        roots: folders, see :func:`path_id`.
    """
    return sample['sample_id'] if 'sample_id' in sample else path_id(sample['img_path'], roots)


def refuse_repeated_ids(names: Sequence[str]) -> None:
    """Refuse two samples of the same name.

    Args:
        names: names of all samples.

    Raises:
        ValueError: if two are the same.
    """
    places = first_duplicate(names)
    if places:
        raise ValueError(
            f'names of samples must differ, got {names[places[0]]!r} at places {places[0]} and '
            f'{places[1]}; of a wrapper that repeats samples, purify the data set inside'
        )


class LazySampleIds(Sequence):
    """The names of a data set's samples by place, each made when it is asked for.

    Args:
        dataset: a data set, as for :func:`sample_ids`.

    Raises:
        ValueError: see :func:`sample_ids`; names may be the same here.
    """

    def __init__(self, dataset):
        if not hasattr(dataset, 'get_data_info'):
            raise ValueError(f'dataset must have get_data_info, got {type(dataset).__name__}')
        self.dataset = dataset
        concatenated = hasattr(dataset, 'cumulative_sizes')
        self.parts = [LazySampleIds(part) for part in dataset.datasets] if concatenated else []
        self._name_of = None if self.parts else _naming(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> str:
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self.id_of(place, self.dataset.get_data_info(place))

    def id_of(self, place: int, sample: dict) -> str:
        """The name of a sample that has been read.

        Args:
            place: place of the sample in the data set, in [0, N).
            sample: the sample, as ``get_data_info`` gives it.
        """
        if not self.parts:
            return self._name_of(sample)
        ends = self.dataset.cumulative_sizes
        part = bisect_right(ends, place)
        return f'{part}/{self.parts[part].id_of(place - (ends[part - 1] if part else 0), sample)}'

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))


def _naming(dataset) -> Callable[[dict], str]:
    """The function that names samples of a data set."""
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
        if containing_file(sample['img_path']) == sample['img_path']:
            paths.append(sample['img_path'])
    if any(_inside(path, roots) is None for path in paths):
        roots = [os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])]
    return partial(sample_id_of, roots=roots)


def _inside(path: str, roots: Sequence[str]) -> str | None:
    """The path relative to the first folder that it is in, if there is one."""
    # Most paths start as the folder does; making them absolute takes longer.
    for whole in (os.path.normpath, os.path.abspath):
        found = whole(path)
        for root in roots:
            prefix = os.path.join(whole(root), '')
            if found.startswith(prefix):
                return found[len(prefix) :]
    return None
