"""The names of classes: of a data set, and of the one that a checkpoint was trained on."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from mmengine.dataset import BaseDataset


def class_names(dataset) -> list[str] | None:
    """The names of a data set's classes, in the order of their labels.

    Args:
        dataset: a data set of ours, of mmpretrain or of mmengine, or a wrapper of theirs or of
            torch's.

    Returns:
        The names; None where the data set has none. Where the parts of a ConcatDataset name a label
        differently, its name is all of theirs, joined by slashes.
    """
    if hasattr(dataset, 'full_init'):
        # Most data sets know their classes only after they have loaded their samples.
        dataset.full_init()
    own = _noted_names(dataset)
    parts = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if isinstance(dataset, BaseDataset) or parts == [None]:
        return own
    if own is not None and own != _noted_names(parts[0]):
        return own
    # A wrapper copied the names of its first part when it was made.
    columns = zip_longest(*(class_names(part) or () for part in parts))
    return [' / '.join(sorted(set(filter(None, names)))) for names in columns] or None


def class_mismatch(meta: dict[str, Any], dataset, allow_fewer: bool = False) -> str | None:
    """The first difference between the classes of a checkpoint and those of a data set, in words.

    Args:
        meta: ``meta`` of the checkpoint.
        dataset: a data set, as for :func:`class_names`.
        allow_fewer: whether the data set may lack classes at the end.

    Returns:
        The first label that means something else, and both numbers of classes; None where all
        labels mean the same, or the names of one side are not known.
    """
    then, now = meta.get('class_names'), class_names(dataset)
    if then is None:
        # mmengine wrote it without our hook, and asked only the first part of a ConcatDataset.
        then = (meta.get('dataset_meta') or {}).get('classes')
        now = _noted_names(dataset) or now
    if not then or not now:
        return None
    for label, names in enumerate(zip_longest(map(str, then), now)):
        if names[0] != names[1] and (names[1] is not None or not allow_fewer):
            was, now_is = ('no class' if name is None else repr(name) for name in names)
            counts = f'{len(then)} classes then, {len(now)} now'
            return f'label {label} was {was} and is {now_is} ({counts})'
    return None


def _noted_names(dataset) -> list[str] | None:
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    return None if names is None else list(map(str, names))
