"""The result of an inversion."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from .settings import InversionSettings


@dataclass
class Inversion:
    """Result of an inversion with N targets.

    Attributes:
        images: the images, (N, H, W, 3), uint8 in [0, 255], BGR.
        labels: the class of each image, or None for embeddings.
        terms: lists of one number an image, by name, without the weights: ``target``, ``center``
            (for classes), ``total_variation``, ``l2``, ``bn`` (that of its batch), their weighted
            sum ``objective``, the ``cosine`` to the target, and the ``restart`` that the image
            comes from. They are those of the 8-bit images, without jitter and flip.
        history: the terms of the first batch over the steps, means over its images, with their
            ``step``; after an undone step, and at the end, the terms of the best images so far.
        frames: the first images of the first batch over the steps, (T, n, H, W, 3), uint8, BGR.
        settings: the settings of the search.
        seed: seed of the noise.
        seconds: time that the search took, without interruptions; summed over processes.
        converged: whether the objective of every batch ended below that of the noise at its start.
    """

    images: np.ndarray = field(repr=False)
    labels: list[int] | None
    terms: dict[str, list[float]] = field(repr=False)
    history: dict[str, list[float]] = field(repr=False)
    frames: np.ndarray = field(repr=False)
    settings: InversionSettings
    seed: int
    seconds: float
    converged: bool = True

    def report(self) -> dict:
        """Everything but the images as JSON types, with the mean of every term."""
        means = {name: float(np.mean(values)) for name, values in self.terms.items()}
        del means['restart']
        return dict(
            number=len(self.images),
            labels=self.labels,
            means=means,
            terms=self.terms,
            history=self.history,
            settings=asdict(self.settings),
            seed=self.seed,
            seconds=self.seconds,
            converged=self.converged,
        )
