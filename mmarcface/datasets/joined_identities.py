"""Several data sets of identities as one to train on."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from mmarcface.registry import DATASETS

from .identity_dataset import IdentityDataset
from .labels import num_classes_of
from .lazy_samples import LazySamples
from .relabeled_dataset import RelabeledSamples


@DATASETS.register_module()
class JoinedIdentities(IdentityDataset):
    """Several data sets of identities as one to train on.

    mmengine's ConcatDataset leaves labels as they are, so that person 5 of one set and person 5 of
    another become one class. Here each class is one person: the classes of the first set come
    first, then those that the next one adds. Samples are taken from the sets when they are asked
    for, and need 32 bytes each beside what the sets need.

    >>> train = dict(
    ...     type='mmarcface.JoinedIdentities',
    ...     sets=dict(
    ...         casia=dict(type='mmarcface.IdentityRecords', path='data/casia/train.rec'),
    ...         own=dict(type='mmarcface.IdentityFolder', data_root='data/own'),
    ...     ),
    ... )

    Args:
        sets: configs of labeled data sets, by name; their pipelines are not used.
        merge_by_name: whether classes of the same name in two sets are the same person, as in two
            parts of one collection. By default no person is in two sets, and the classes are named
            ``set/class``. :class:`IdentityRecords` and :class:`CelebA` name people by numbers,
            which say nothing about those of another collection.
        **kwargs: see :class:`IdentityDataset`; ``pipeline`` prepares the samples of all sets. A
            keep-list names samples ``set/sample``.

    Raises:
        ValueError: if there are no sets, the name of one has a slash, or a set is a benchmark, has
            samples without a class, two classes of one name or, with ``merge_by_name``, classes
            without a name; else as the sets and :class:`IdentityDataset`.
    """

    def __init__(self, sets: dict[str, dict], merge_by_name: bool = False, **kwargs):
        if not sets:
            raise ValueError('sets must name data sets of identities, got none')
        for name in sets:
            if '/' in name:
                raise ValueError(f'sets must have names without a slash, got {name!r}')
        self.sets = sets
        self.merge_by_name = merge_by_name
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> Sequence[dict]:
        """The samples of all sets, one set after the other, made when asked for."""
        parts, labels, names, label_of = {}, [], [], {}
        for name, config in self.sets.items():
            dataset = DATASETS.build(config)
            parts[name] = RelabeledSamples.from_dataset(dataset)
            classes = self._classes(name, dataset, parts[name].labels)
            new = [label_of.setdefault(of, len(label_of)) for of in classes]
            labels.append(np.array(new, np.int64)[parts[name].labels])
            names += classes
        self._metainfo['classes'] = tuple(label_of)
        if self.merge_by_name:
            self._log_shared(names)
        *starts, number = np.cumsum([0, *map(len, parts.values())]).tolist()
        return _JoinedSamples(
            parts, starts, not self.merge_by_name, np.arange(number), np.concatenate(labels)
        )

    def _classes(self, name: str, dataset: BaseDataset, labels: np.ndarray) -> list[str]:
        """Names of the classes of a set; sets share those of the same name."""
        what, metainfo = f'sets[{name!r}], {type(dataset).__name__},', dataset.metainfo
        if {'pairs', 'templates'} & set(metainfo):
            raise ValueError(f'{what} must not be a benchmark: it is there to be tested on')
        number = num_classes_of(metainfo, labels)
        classes = [str(of) for of in metainfo.get('classes') or ()]
        if len(classes) < number:
            if self.merge_by_name:
                raise ValueError(
                    f'{what} must name its {number} classes, and names {len(classes)}: set '
                    'metainfo=dict(classes=[...]) in its config, or leave out merge_by_name'
                )
            classes = list(map(str, range(number)))
        if len(set(classes)) < number:
            twice = next(of for of in classes if classes.count(of) > 1)
            raise ValueError(f'{what} must have classes of different names, got {twice!r} twice')
        return classes if self.merge_by_name else [f'{name}/{of}' for of in classes]

    def _log_shared(self, names: list[str]) -> None:
        shared = [name for name, times in Counter(names).items() if times > 1]
        text = f'{len(shared)} classes are in several of {", ".join(self.sets)} by their names'
        numbers = any(map(str.isdecimal, shared))
        if numbers:
            text += (
                ', which are numbers: unless the sets count the same people, leave out '
                'merge_by_name'
            )
        print_log(text, 'current', logging.WARNING if numbers else logging.INFO)


@dataclass
class _JoinedSamples(LazySamples):
    parts: dict[str, RelabeledSamples]
    # The place of each part's first sample among all samples.
    starts: list[int]
    # Whether no identity of one part is one of another part.
    apart: bool
    places: np.ndarray
    labels: np.ndarray

    def make(self, place: int) -> dict:
        """See :meth:`LazySamples.make`."""
        origin = int(self.places[place])
        number = bisect_right(self.starts, origin) - 1
        name, part = list(self.parts.items())[number]
        sample = part[origin - self.starts[number]]
        if self.apart and 'identity' in sample:
            sample['identity'] = f'{name}/{sample["identity"]}'
        sample_id = f'{name}/{sample["sample_id"]}'
        return sample | dict(gt_label=int(self.labels[place]), sample_id=sample_id)

    def take(self, places: np.ndarray | slice, labels: np.ndarray) -> _JoinedSamples:
        """See :meth:`LazySamples.take`."""
        return _JoinedSamples(self.parts, self.starts, self.apart, self.places[places], labels)


def refuse_label_collisions(dataset) -> None:
    """Refuse a ConcatDataset in which one label means several classes.

    Args:
        dataset: any data set; a ConcatDataset is looked for in it, and in wrappers in it.

    Raises:
        ValueError: if a label is of other names in two parts of a ConcatDataset. Where a part does
            not name its classes, a warning in the log says so.
    """
    parts = getattr(dataset, 'datasets', ())
    for part in parts or filter(None, [getattr(dataset, 'dataset', None)]):
        refuse_label_collisions(part)
    if len(parts) < 2:
        return
    advice = (
        'ConcatDataset leaves labels as they are: where equal labels are different people, use '
        'mmarcface.JoinedIdentities(sets=dict(a=..., b=...)) in its place, which gives each '
        'person a label (with merge_by_name=True also each name)'
    )
    named = []
    for number, part in enumerate(parts):
        what = f'part {number} ({type(part).__name__})'
        classes = getattr(part, 'metainfo', {}).get('classes')
        if not classes:
            print_log(
                f'{what} of a ConcatDataset does not name its classes, so it is not known '
                f'whether its labels are the same people as those of the other parts. {advice}',
                'current',
                logging.WARNING,
            )
            continue
        for other, known in named:
            for label, (one, two) in enumerate(zip(known, classes, strict=False)):
                if one != two:
                    raise ValueError(
                        f'label {label} must be one class in all parts of a ConcatDataset, and is '
                        f'{one!r} in {other} and {two!r} in {what}. {advice}'
                    )
        named.append((what, classes))
