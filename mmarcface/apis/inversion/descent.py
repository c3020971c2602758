"""Steps on pixels that a net cannot throw off: those that make the objective jump are undone."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim import Adam

# A step that leaves the objective above so many times its least value is undone; and where the
# images are seen otherwise in every step, of which the best are less sure.
JUMP, MOVED_JUMP = 1.5, 4.0
# The rate after a step that was undone, and after one that was not, in terms of that before.
FALL, RISE = 0.5, 1.1
# Where steps so small still end in numbers that are none, smaller ones will not help.
MIN_RATE = 2**-20


class Descent:
    """Adam on pixels, which goes back to the best of them and halves its step on a jump.

    To Adam each resolution begins anew, and its first steps change every pixel by the whole rate.
    That is white noise where the gradient says little, which a net with BN layers of small variance
    takes so ill that no later step repairs it. So a step that makes the objective jump is undone
    and halved, until it does not; the rate that was found goes on to the next resolution, and grows
    again.

    Args:
        pixels: where to start, (N, C, H, W).
        limits: least and largest values of a pixel, that broadcast to ``pixels``; None for none.

    Attributes:
        pixels: where it is, with a gradient.
        rate: part of the learning rate that the steps have, in (0, 1].
        best: of this resolution, empty before the first objective: ``terms``, ``pixels``; and
            ``after``, ``adam``, where the step from there led.
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
        """Whether there is nothing to go back to, or no step left that would be worth it."""
        return not self.best or self.rate < MIN_RATE

    def resize(self, size: tuple[int, int]) -> None:
        """Go on at another resolution, (H, W), from the best pixels."""
        self._begin(resize(self.best['pixels'], size))

    def stands(
        self, terms: dict[str, float], again: Callable[[torch.Tensor], float] | None = None
    ) -> bool:
        """Judge the last step by the terms at the pixels, and undo it if the objective jumped.

        Args:
            terms: with their weighted sum, ``objective``, which may be no number.
            again: the objective of other pixels, seen as these are, where it hangs on more than the
                pixels. It is asked about the best ones before a step is undone, as they may have
                been seen by a lucky chance.

        Returns:
            Whether to go on with :meth:`step`. If not, the pixels are new already: halfway between
            the best and those that the step from there led to.
        """
        objective = terms['objective']
        least = self.best['terms']['objective'] if self.best else math.inf
        jump = JUMP if again is None else MOVED_JUMP
        if _exceeds(objective, least, jump) and again is not None:
            same = torch.equal(self.pixels, self.best['pixels'])
            least = objective if same else again(self.best['pixels'])
        if _exceeds(objective, least, jump):
            self._undo()
            return False
        if objective < least:
            self.best = dict(terms=terms, pixels=self.pixels.detach().clone())
        return True

    def step(self, gradient: torch.Tensor, lr: float) -> None:
        """Change the pixels, by a rate of at most ``lr``."""
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
        """All that it takes to go on."""
        return dict(
            pixels=self.pixels.detach(),
            adam=self.adam.state_dict(),
            rate=self.rate,
            best=self.best,
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from another's :meth:`state_dict`, on the device that this one is on."""
        device = self.pixels.device
        self._begin(state['pixels'].to(device))
        self.adam.load_state_dict(state['adam'])
        self.rate = state['rate']
        self.best = dict(state['best'])
        for name in ('pixels', 'after'):
            self.best[name] = self.best[name].to(device)


def _exceeds(objective: float, least: float, times: float) -> bool:
    # True for what is no number; never after infinity, which stands for nothing yet.
    return not objective - least <= (times - 1) * abs(least)


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Images (N, C, H, W) at another size, (H, W)."""
    return F.interpolate(images, size=size, mode='bilinear', align_corners=False)
