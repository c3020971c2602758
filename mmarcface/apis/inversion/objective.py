"""The objective of one batch of images: from pixels to its terms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmpretrain.structures import DataSample
from torch import nn

from mmarcface.functional.inversion import (
    BatchStatistics,
    batch_statistics,
    bn_prior,
    squared_l2_distances,
    squared_l2_norm,
    total_variation,
)

from .descent import resize
from .model import InversionModel
from .settings import InversionSettings
from .targets import Targets


class Objective:
    """The objective of one batch of N images, which the search minimizes.

    The pixels (N, C, h, w) that are optimized are smaller than the model's images in coarse stages,
    and have one channel where gray images are searched for.

    Args:
        net: the model, frozen.
        layers: BN layers of the model; empty for an objective without BN prior.
        targets: targets of the N images.
        settings: settings of the search.
        generator: function from a step, or -1 for the noise at the start, to its random numbers.
            They depend on the step alone, so that a resumed search needs no state of them.
    """

    def __init__(
        self,
        net: InversionModel,
        layers: dict[str, nn.Module],
        targets: Targets,
        settings: InversionSettings,
        generator: Callable[[int], torch.Generator],
    ):
        self.net, self.layers, self.settings, self.generator = net, layers, settings, generator
        self.number, self.vectors = len(targets), targets.vectors
        self.samples = targets.labels and [
            DataSample().set_gt_label(label).to(net.device) for label in targets.labels
        ]

    @property
    def augments(self) -> bool:
        """Whether the model sees the same images differently in every step."""
        return bool(self.settings.jitter or self.settings.flip)

    @property
    def limits(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Lowest and highest valid values of the pixels; None where they are not clipped."""
        if not self.settings.clip:
            return None
        mean, std = self.net.mean, self.net.std
        if self.settings.gray:
            mean, std = mean.mean(), std.mean()
        return -mean / std, (255 - mean) / std

    def resolution(self, step: int) -> tuple[int, int]:
        """Height and width of the pixels in a step.

        Args:
            step: number of the step, from 0 on.
        """
        scale = self.settings.scale(step)
        return tuple(max(1, side // scale) for side in self.net.size)

    def noise(self) -> torch.Tensor:
        """The pixels that the search starts from."""
        channels = 1 if self.settings.gray else len(self.net.mean)
        noise = torch.randn(
            self.number, channels, *self.resolution(0), generator=self.generator(-1)
        )
        return (noise * self.settings.init_std).to(self.net.device)

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        """The model's input for pixels.

        Args:
            pixels: pixels, (N, C, h, w).

        Returns:
            Normalized images, (N, channels, H, W).
        """
        if pixels.shape[-2:] != self.net.size:
            pixels = resize(pixels, self.net.size)
        if not self.settings.gray:
            # Autocast would go on with its first copy of a leaf, which the steps change in place.
            return pixels.view_as(pixels)
        mean, std = self.net.mean, self.net.std
        return (pixels * std.mean() + mean.mean() - mean) / std

    def terms(
        self, pixels: torch.Tensor, step: int, statistics: list[BatchStatistics]
    ) -> dict[str, torch.Tensor]:
        """The terms of pixels as the model sees them in a step.

        Args:
            pixels: pixels, (N, C, h, w).
            step: number of the step, which decides jitter and flip.
            statistics: list that :func:`batch_statistics` of the layers yields around this call.

        Returns:
            Scalars by name, means over the images, and their weighted sum ``objective``.
        """
        images = self.images(pixels)
        feats = self.net.feats(self._augment(images, step))
        return self._terms(feats, images, self.samples, self.vectors, self._bn_prior(statistics))

    @torch.no_grad()
    def value(self, pixels: torch.Tensor, step: int) -> float:
        """The weighted sum of the terms alone.

        Args:
            pixels: pixels, (N, C, h, w).
            step: number of the step, which decides jitter and flip.
        """
        with batch_statistics(self.layers) as statistics:
            return float(self.terms(pixels, step, statistics)['objective'])

    @torch.no_grad()
    def evaluate(self, pixels: torch.Tensor) -> tuple[float, dict[str, list[float]]]:
        """The terms of finished images, without jitter and flip.

        Args:
            pixels: pixels, (N, H, W, 3), uint8, BGR.

        Returns:
            The objective of the batch; and by name the terms of each image, with ``cosine`` to
            its target. The BN term is that of the batch.
        """
        images = self.net.from_pixels(pixels)
        with batch_statistics(self.layers) as statistics:
            feats = self.net.feats(images)
        prior = self._bn_prior(statistics)
        columns: dict[str, list[float]] = {}
        for i in range(len(images)):
            row = slice(i, i + 1)
            terms = self._terms(
                tuple(feat[row] for feat in feats),
                images[row],
                self.samples and self.samples[row],
                None if self.vectors is None else self.vectors[row],
                prior,
            )
            if self.vectors is not None:
                # |a - b|^2 = 2 - 2 cos of unit vectors.
                terms['cosine'] = 1 - terms['center' if self.samples else 'target'] / 2
            for name, value in terms.items():
                columns.setdefault(name, []).append(float(value))
        batch = self._terms(feats, images, self.samples, self.vectors, prior)
        return float(batch['objective']), columns

    def _augment(self, images: torch.Tensor, step: int) -> torch.Tensor:
        if not self.augments:
            return images
        jitter, generator = self.settings.jitter, self.generator(step)
        if jitter:
            shifts = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
            images = images.roll(shifts, (2, 3))
        if self.settings.flip and torch.rand((), generator=generator) < 0.5:
            images = images.flip(3)
        return images

    def _bn_prior(self, statistics: list[BatchStatistics]) -> torch.Tensor | None:
        return bn_prior(statistics, self.settings.bn_variant) if self.layers else None

    def _terms(
        self,
        feats: tuple[torch.Tensor, ...],
        images: torch.Tensor,
        samples: list[DataSample] | None,
        vectors: torch.Tensor | None,
        prior: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        terms = {}
        if samples is not None:
            terms['target'] = self.net.class_loss(feats, samples)
        if vectors is not None:
            name = 'target' if samples is None else 'center'
            terms[name] = squared_l2_distances(self.net.embeddings(feats), vectors).mean()
        if prior is not None:
            terms['bn'] = prior
        terms['total_variation'] = total_variation(images, self.settings.tv_variant)
        terms['l2'] = squared_l2_norm(images)
        weights = self.settings.weights
        objective = sum(weights[name] * value for name, value in terms.items() if weights[name])
        return terms | dict(objective=objective)
