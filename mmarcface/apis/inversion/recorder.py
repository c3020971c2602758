"""The record of one search: history, frames and time, also across an interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from mmengine.logging import print_log

from .descent import Descent
from .state import SearchState, WorkItem

MAX_POINTS, MAX_FRAMES = 100, 24


class Recorder:
    """Record of one work item, which goes on from its last save.

    Args:
        item: the batch and restart.
        state: the state on disk that the record is saved to.
        steps: number of steps of the search.
        show: function that gets the step and its terms at every point of the history.

    Attributes:
        step: number of steps that are done.
        began_at: the objective of the noise.
        history: the terms over the steps.
        frames: images over the steps, of the first work item only.
    """

    def __init__(
        self,
        item: WorkItem,
        state: SearchState,
        steps: int,
        show: Callable[[int, dict[str, float]], None],
    ):
        self.item, self.state, self.steps, self.show = item, state, steps, show
        self._saved = state.resume(item)
        self.step: int = self._saved['step']
        self.history, self.frames = self._saved['history'], self._saved['frames']
        self.began_at: float | None = self._saved['began_at']
        self.started = time.perf_counter() - self._saved['seconds']

    def resume(self, descent: Descent) -> None:
        """Bring a descent to the last save of an interrupted search.

        Args:
            descent: a new descent.
        """
        if self.step:
            descent.load_state_dict(self._saved)
            print_log(f'Going on at step {self.step} of {self.steps}', 'current')

    @property
    def seconds(self) -> float:
        """Time that the search took so far, without interruptions."""
        return time.perf_counter() - self.started

    @property
    def has_frames(self) -> bool:
        """Whether this is the first work item, which the animation is of."""
        return self.item == WorkItem(0, 0)

    @property
    def needs_frame(self) -> bool:
        """Whether the current step is one of the animation."""
        return self.has_frames and self.step % math.ceil(self.steps / MAX_FRAMES) == 0

    def add_point(self, terms: dict[str, float]) -> None:
        """Add the terms of the current step to the history, if it is one of its steps.

        Args:
            terms: numbers by name.
        """
        is_last = self.step == self.steps - 1
        if self.step % math.ceil(self.steps / MAX_POINTS) == 0 or is_last:
            self.history.append(dict(step=self.step, **terms))
            self.show(self.step, terms)

    def finish_step(self, descent: Descent) -> None:
        """Count the step, and save the search every ``state.interval`` steps.

        Args:
            descent: descent after the step.
        """
        self.step += 1
        if self.step % self.state.interval == 0 and self.step < self.steps:
            self.state.save(
                self.item,
                self.step,
                descent,
                self.history,
                self.frames,
                self.began_at,
                self.seconds,
            )
