"""Gradient descent on pixels that undoes the steps after which the objective jumps."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim import Adam

# A step is undone if the objective is above its lowest value times this. With jitter or flip the
# model sees each step differently, so that the lowest value is less certain.
JUMP, AUGMENTED_JUMP = 1.5, 4.0
# Factors on the rate after a step that was undone, and after one that was not.
FALL, RISE = 0.5, 1.1
# If such small steps still end in NaN, smaller ones do not help.
MIN_RATE = 2**-20


class Descent:
    """Adam on pixels, which goes back to the best of them and halves its step on a jump.

    Adam starts anew at each resolution, and its first steps change every pixel by the whole
    learning rate. Where the gradient says little, that is white noise, and in nets whose BN layers
    have a small variance it raises the objective so far that later steps do not repair it. So a
    step after which the objective jumps is undone and halved until it does not; the rate that was
    found is kept for the next resolution, and grows again.

    Args:
        pixels: the start, (N, C, H, W).
        limits: lowest and highest value of a pixel, which broadcast to ``pixels``; None for no
            limits.

    Attributes:
        pixels: the current pixels, which take a gradient.
        rate: share of the learning rate that the steps use, in (0, 1].
        best: the best pixels at this resolution, empty before the first objective: ``pixels``,
            their ``terms``, and ``after`` and ``adam``, the pixels and state after the step from
            there.
    """

    def __init__(self, pixels: torch.Tensor, limits: tuple[torch.Tensor, torch.Tensor] | None):
        self.limits = limits
        self.rate = 1.0
        self._begin(pixels)

    def _begin(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels.detach().clone().requires_grad_()
        self.adam = Adam([self.pixels])
        self.best: dict[str, Any] = {}

    @property
    def is_lost(self) -> bool:
        """Whether there is nothing to go back to, or the steps have become too small."""
        return not self.best or self.rate < MIN_RATE

    def resize(self, size: tuple[int, int]) -> None:
        """Go on from the best pixels at another resolution, if it is another one.

        Args:
            size: height and width in pixels.
        """
        if self.pixels.shape[-2:] != size:
            self._begin(resize(self.best['pixels'], size))

    def accept(
        self, terms: dict[str, float], again: Callable[[torch.Tensor], float] | None = None
    ) -> bool:
        """Accept the last step by the terms at the pixels, or undo it if the objective jumped.

        Args:
            terms: numbers by name, with their weighted sum ``objective``, which may be NaN.
            again: function that gives the objective of other pixels, seen as these are, where it
                depends on more than the pixels. It is asked about the best ones before a step is
                undone, as they may have been seen by a lucky chance.

        Returns:
            Whether to go on with :meth:`step`. If not, the pixels are new already: halfway between
            the best pixels and those after the first step from them.
        """
        objective = terms['objective']
        lowest = self.best['terms']['objective'] if self.best else math.inf
        jump = JUMP if again is None else AUGMENTED_JUMP
        if _exceeds(objective, lowest, jump) and again is not None:
            same = torch.equal(self.pixels, self.best['pixels'])
            lowest = objective if same else again(self.best['pixels'])
        if _exceeds(objective, lowest, jump):
            self._undo()
            return False
        if objective < lowest:
            self.best = dict(terms=terms, pixels=self.pixels.detach().clone())
        return True

    def step(self, gradient: torch.Tensor, lr: float) -> None:
        """Change the pixels by a step of Adam.

        Args:
            gradient: gradient of the objective, of the shape of the pixels.
            lr: learning rate, of which the step uses the share ``rate``.
        """
        self.pixels.grad = gradient
        self.adam.param_groups[0]['lr'] = lr * self.rate
        self.adam.step()
        if self.limits is not None:
            with torch.no_grad():
                self.pixels.clamp_(*self.limits)
        if 'after' not in self.best:
            self.best['after'] = self.pixels.detach().clone()
            self.best['adam'] = deepcopy(self.adam.state_dict())
        self.rate = min(1.0, self.rate * RISE)

    def _undo(self) -> None:
        self.rate *= FALL
        self.best['after'].lerp_(self.best['pixels'], 1 - FALL)
        with torch.no_grad():
            self.pixels.copy_(self.best['after'])
        self.adam.load_state_dict(deepcopy(self.best['adam']))

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`load_state_dict` needs to go on."""
        return dict(
            pixels=self.pixels.detach(),
            adam=self.adam.state_dict(),
            rate=self.rate,
            best=self.best,
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of another descent, on the device of this one.

        Args:
            state: state from :meth:`state_dict`.
        """
        device = self.pixels.device
        self._begin(state['pixels'].to(device))
        self.adam.load_state_dict(state['adam'])
        self.rate = state['rate']
        self.best = dict(state['best'])
        for name in ('pixels', 'after'):
            self.best[name] = self.best[name].to(device)


def _exceeds(objective: float, lowest: float, times: float) -> bool:
    # True for NaN; never true for a lowest of infinity, which means that there is none yet.
    return not objective - lowest <= (times - 1) * abs(lowest)


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Images at another size, by bilinear interpolation.

    Args:
        images: images, (N, C, H, W).
        size: new height and width in pixels.
    """
    return F.interpolate(images, size=size, mode='bilinear', align_corners=False)
