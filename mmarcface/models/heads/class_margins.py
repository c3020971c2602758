"""One margin a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path

import torch
from torch import nn

from mmarcface.datasets.text_lists import read_lines


class ClassMargins(nn.Module):
    """The margin of each class, from a number, a sequence or a text file.

    Args:
        margin: one number for all classes; or one per class: a sequence, or the path of a text
            file with a number a line.
        num_classes: number of classes.
        least: the smallest margin allowed.
        most: the largest margin allowed.
        uniform: whether all classes must have the same.

    Raises:
        ValueError: if the count is not ``num_classes``, a margin is not in [least, most], or
            margins differ where they must not.
    """

    def __init__(
        self,
        margin: float | Sequence[float] | str,
        num_classes: int,
        least: float = 0.0,
        most: float = math.pi / 2,
        uniform: bool = False,
    ):
        super().__init__()
        self.least, self.most, self.uniform = least, most, uniform
        # Share of each margin that counts, set by MarginScheduleHook.
        self.strength = 1.0
        self.register_buffer('values', torch.empty(num_classes), persistent=False)
        self.set(margin)

    def set(self, margin: float | Sequence[float] | str) -> None:
        """Replace all margins; arguments and errors as for the class."""
        if isinstance(margin, (str, Path)):
            margins = _read_margins(margin)
        elif isinstance(margin, Real):
            margins = [float(margin)] * len(self.values)
        else:
            margins = [float(value) for value in margin]
        if len(margins) != len(self.values):
            raise ValueError(
                f'margin must be one number or one per class: {len(self.values)} classes, '
                f'got {len(margins)} margins'
            )
        for label, value in enumerate(margins):
            if not self.least <= value <= self.most:
                raise ValueError(
                    f'margin must be in [{self.least:.4g}, {self.most:.4g}], '
                    f'got {value} for class {label}'
                )
        if self.uniform and len(set(margins)) > 1:
            raise ValueError(
                f'margin must be the same for all classes, got {min(margins)} to {max(margins)}'
            )
        self.values.copy_(torch.tensor(margins))

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Margins of the given classes at this time: (N,) labels to (N,) margins."""
        return self.least + (self.values[labels] - self.least) * self.strength


def _read_margins(path: str | Path) -> list[float]:
    margins = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            margins.append(float(line))
        except ValueError:
            raise ValueError(f'{path}:{number}: a margin must be a number, got {line!r}') from None
        if not math.isfinite(margins[-1]):
            raise ValueError(f'{path}:{number}: a margin must be finite, got {line!r}')
    return margins
