"""Label noise that is added on purpose, and known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmarcface.functional.arguments import check_number
from mmarcface.registry import DATASETS

from .formats.keep_list import digest
from .labels import num_classes_of
from .lazy_samples import LazySamples
from .relabeled_dataset import RelabeledDataset, RelabeledSamples
from .sample_ids import refuse_repeated_ids

STRANGER = -1


@DATASETS.register_module()
class NoisyLabels(RelabeledDataset):
    """Another data set with wrong labels and strangers' images, for experiments.

    Of n samples, ``round(rate * n)`` are changed by each kind of noise, and none by two:

    - symmetric: the label is any other class, each as likely
      (`Patrini et al. 2017 <https://arxiv.org/abs/1609.03683>`_);
    - asymmetric: the label is one fixed other class, as of classes that are easily confused
      (the same paper);
    - open-set: the label stays, and the image is of none of the classes
      (`Wang et al. 2018 <https://arxiv.org/abs/1804.00092>`_).

    ``seed`` and the names of the samples decide which samples are changed and how; their order
    does not matter. A sample has ``true_label``, its class, or -1 for a stranger, and
    ``sample_id``, its name in the clean data set. Both are for evaluation only, as is everything
    else that tells of a sample's origin, such as ``identity``: train under ``gt_label``.

    Args:
        dataset: config of the clean data set; its pipeline is not used.
        symmetric: rate of symmetric noise, in [0, 1].
        asymmetric: rate of asymmetric noise, in [0, 1]; all rates together are at most 1.
        open_set: rate of open-set noise, in [0, 1].
        strangers: config of the data set that the images of open-set noise are drawn from, each
            at most once. Its classes must be others.
        mapping: wrong class of each class, for asymmetric noise; by default the next class, and
            the first for the last.
        seed: seed of the noise.
        **kwargs: see :class:`IdentityDataset`; ``pipeline`` prepares all samples.

    Raises:
        ValueError: if a rate is out of its range, there is one class only, ``mapping`` lacks a
            class, maps one to itself or to none, or there are no strangers, too few, or some
            without need; else as the data sets.
    """

    def __init__(
        self,
        dataset: dict,
        symmetric: float = 0.0,
        asymmetric: float = 0.0,
        open_set: float = 0.0,
        strangers: dict | None = None,
        mapping: Mapping[int, int] | Sequence[int] | None = None,
        seed: int = 0,
        **kwargs,
    ):
        rates = dict(symmetric=symmetric, asymmetric=asymmetric, open_set=open_set)
        for name, rate in rates.items():
            check_number(name, rate, minimum=0, maximum=1)
        if sum(rates.values()) > 1 + 1e-9:
            raise ValueError(f'the rates of noise must be at most 1 together, got {rates}')
        if (strangers is not None) != (open_set > 0):
            raise ValueError(
                'strangers must be given if open_set is above 0, and only then; got '
                f'{"none" if strangers is None else "some"} with open_set={open_set}'
            )
        check_number('seed', seed, whole=True)
        self.strangers = strangers
        self.rates = rates
        self.mapping = mapping
        self.seed = seed
        super().__init__(dataset, **kwargs)

    def load_data_list(self) -> Sequence[dict]:
        """One dict for each sample, made when asked for; ``true_label`` is in it."""
        clean = super().load_data_list()
        num_classes = num_classes_of(self._metainfo, clean.labels)
        wrong_class = self._wrong_classes(num_classes)
        order, chance = self._shuffle(clean.ids)
        # If two rates round up, there may be too few samples: then the last kind gets less.
        changed, start = [], 0
        for rate in self.rates.values():
            end = start + round(rate * len(clean))
            changed.append(order[start:end])
            start = end
        symmetric, asymmetric, open_set = changed
        labels, truth = clean.labels.copy(), clean.labels.copy()
        if len(symmetric):
            steps = 1 + (chance[symmetric] % np.uint64(num_classes - 1)).astype(np.int64)
            labels[symmetric] = (labels[symmetric] + steps) % num_classes
        if len(asymmetric):
            labels[asymmetric] = wrong_class[labels[asymmetric]]
        truth[open_set] = STRANGER
        guests = np.full(len(clean), -1)
        strangers = self._invite(len(open_set))
        if strangers is not None:
            guests[open_set] = self._shuffle(strangers.ids)[0][: len(open_set)]
        samples = clean.take(slice(None), labels)
        return _NoisySamples(samples, strangers, truth, guests)

    def _wrong_classes(self, num_classes: int) -> np.ndarray | None:
        """For each class, the one of its asymmetric noise."""
        if num_classes < 2 and (self.rates['symmetric'] or self.rates['asymmetric']):
            raise ValueError(f'dataset must have 2 classes or more to confuse, got {num_classes}')
        if self.mapping is None:
            return np.roll(np.arange(num_classes), -1)
        given = self.mapping
        pairs = dict(given if isinstance(given, Mapping) else enumerate(given))
        if set(pairs) != set(range(num_classes)):
            raise ValueError(
                f'mapping must have each class from 0 to {num_classes - 1}, got {len(pairs)}, '
                f'{min(pairs, default=None)} to {max(pairs, default=None)}'
            )
        for label, other in sorted(pairs.items()):
            if other == label or other not in pairs:
                raise ValueError(f'mapping[{label}] must be another class, got {other}')
        return np.array([pairs[label] for label in range(num_classes)])

    def _invite(self, number: int) -> RelabeledSamples | None:
        """The data set of strangers, if there are enough."""
        if self.strangers is None:
            return None
        strangers = RelabeledSamples.from_dataset(DATASETS.build(self.strangers))
        if len(strangers) < number:
            raise ValueError(
                f'strangers must have {number} samples, as open_set={self.rates["open_set"]} '
                f'asks for, got {len(strangers)}'
            )
        return strangers

    def _shuffle(self, samples: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Places in an order that names and seed decide, and 64 random bits for each place."""
        names = list(samples)
        refuse_repeated_ids(names)
        digests = b''.join(digest(f'{self.seed} {name}') for name in names)
        keys, chance = np.frombuffer(digests, '<u8').reshape(-1, 2).T
        return keys.argsort(), chance


@dataclass
class _NoisySamples(LazySamples):
    samples: RelabeledSamples
    strangers: RelabeledSamples | None
    truth: np.ndarray
    # Place of each sample's image among the strangers, or -1.
    guests: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """See :class:`LazySamples`."""
        return self.samples.labels

    def make(self, place: int) -> dict:
        """See :meth:`LazySamples.make`."""
        sample, guest = self.samples[place], int(self.guests[place])
        own = {name: sample[name] for name in ('gt_label', 'sample_id')}
        if guest >= 0:
            sample = self.strangers[guest]
        return sample | own | dict(true_label=int(self.truth[place]))

    def take(self, places: np.ndarray | slice, labels: np.ndarray) -> _NoisySamples:
        """See :meth:`LazySamples.take`."""
        samples = self.samples.take(places, labels)
        return _NoisySamples(samples, self.strangers, self.truth[places], self.guests[places])
