"""Parts of data sets, with the pairs and templates that are among their samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dataset import force_full_init
from mmpretrain.datasets import BaseDataset


class Immutable:
    """Data that nobody changes, so that a deep copy is the same object.

    mmengine copies all of ``metainfo`` whenever it is asked for, and there may be millions of pairs
    or samples in it.
    """

    def __deepcopy__(self, _: dict) -> Immutable:
        return self


class IndexedMetainfo(Immutable):
    """A value of ``metainfo`` that names samples by their place in the data set, such as pairs."""

    @abstractmethod
    def for_subset(self, places: np.ndarray, number: int) -> IndexedMetainfo:
        """The part that is about some of the samples.

        Args:
            places: places of these samples in the whole data set, in their new order, (N,), int64.
            number: number of samples of the whole data set.
        """


class SubsettableDataset(BaseDataset):
    """A data set that mmengine can take a part of, serialized or not.

    mmengine's ways are ``indices``, ``get_subset`` and ``get_subset_``, and wrappers that use them,
    such as :class:`mmpretrain.datasets.KFoldDataset`. They take a number (the first samples or,
    below 0, the last ones) or a list of places (below 0, counted from the end). ``metainfo`` is
    that of the loaded data, also with ``lazy_init``; where it names samples by place (``pairs``,
    ``templates``) a part has those among its samples.

    Raises:
        ValueError: if ``indices`` are no integers, or beyond the samples.
    """

    _loading = False

    def full_init(self) -> None:
        """Load the samples, unless they are."""
        if self._loading:
            return  # Loading asks for the metainfo that is known so far.
        self._loading = True
        try:
            super().full_init()
        finally:
            self._loading = False

    @property
    def metainfo(self) -> dict:
        """Facts about the data set; wrappers ask for them before anything is loaded."""
        self.full_init()
        return super().metainfo

    @property
    def CLASSES(self) -> Sequence[str] | None:
        """Names of the classes."""
        self.full_init()
        return super().CLASSES

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Sample ``idx``, in [-N, N), without its image."""
        return super().get_data_info(self._place(idx))

    @force_full_init
    def get_subset(self, indices: int | Sequence[int]) -> SubsettableDataset:
        """A part of the data set, as a data set of its own.

        Args:
            indices: a number or places, see the class.
        """
        part = self._copy_without_annotation()
        for name in {'data_list', 'data_bytes', 'data_address'} & set(vars(self)):
            setattr(part, name, getattr(self, name))
        part.get_subset_(indices)
        return part

    def _place(self, idx: int) -> int:
        """A place in [0, N)."""
        number = len(self)
        if not -number <= idx < number:
            raise IndexError(f'{type(self).__name__} has {number} samples, got place {idx}')
        return idx % number

    # mmengine calls this for subsets, and for `indices` while the data set is being loaded.
    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Sequence[dict]:
        places = self._keep_places(indices, len(self.data_list))
        return [self.data_list[place] for place in places.tolist()]

    def _get_serialized_subset(self, indices: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        places = self._keep_places(indices, len(self.data_address))
        return super()._get_serialized_subset(places.tolist())

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.data_list:
            return np.zeros(0, np.uint8), np.zeros(0, np.int64)
        return super()._serialize_data()

    def _copy_without_annotation(self, memo: dict | None = None) -> SubsettableDataset:
        # mmengine's default is one dict for all calls, so that subsets would share attributes.
        return super()._copy_without_annotation({} if memo is None else memo)

    def _keep_places(self, indices: int | Sequence[int], number: int) -> np.ndarray:
        """Places of the samples to keep, in [0, number); ``metainfo`` is reduced to them."""
        places = resolve_indices(indices, number)
        self._metainfo = _for_subset(self._metainfo, places, number)
        return places


def resolve_indices(indices: int | Sequence[int], number: int) -> np.ndarray:
    """The places that mmengine's ``indices`` mean, (P,), int64, in [0, number).

    Args:
        indices: number of samples, the first ones or, below 0, the last ones; or places.
        number: number of samples of the data set.

    Raises:
        ValueError: if they are no integers, or beyond the samples.
    """
    if isinstance(indices, int | np.integer) and not isinstance(indices, bool):
        if abs(indices) > number:
            raise ValueError(f'indices must be in [-{number}, {number}], got {indices}')
        return np.arange(number)[:indices] if indices >= 0 else np.arange(number)[indices:]
    if isinstance(indices, bool | float | slice) or np.ndim(indices) == 0:
        raise ValueError(f'indices must be an integer or places, got {indices}')
    places = np.array(list(indices))
    if not len(places):
        return places.astype(np.int64)
    if places.ndim != 1 or places.dtype.kind not in 'iu':
        raise ValueError(f'indices must be an integer or places, got {indices}')
    beyond = places[(places < -number) | (places >= number)]
    if len(beyond):
        raise ValueError(f'places in indices must be in [-{number}, {number}), got {beyond[0]}')
    return places.astype(np.int64) % number


def _for_subset(facts: Any, places: np.ndarray, number: int) -> Any:
    if isinstance(facts, dict):
        return {name: _for_subset(value, places, number) for name, value in facts.items()}
    return facts.for_subset(places, number) if isinstance(facts, IndexedMetainfo) else facts
