"""Samples that are made when asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from .subsets import Immutable


class LazySamples(Immutable, Sequence):
    """Samples that are made from arrays when asked for.

    Millions of them take little memory, and the workers of a loader share the arrays.

    Attributes:
        labels: the class of each sample, (N,).
    """

    labels: np.ndarray

    @abstractmethod
    def make(self, place: int) -> dict:
        """Make one sample.

        Args:
            place: its place among the samples, in [-N, N).
        """

    @abstractmethod
    def take(self, places: np.ndarray | slice, labels: np.ndarray) -> LazySamples:
        """Choose some of the samples.

        Args:
            places: places of the samples, in the new order.
            labels: new classes of the samples.
        """

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int | slice) -> dict | LazySamples:
        if isinstance(place, slice):
            return self.take(place, self.labels[place])
        return self.make(place)
