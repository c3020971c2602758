"""One margin a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmarcface.datasets.formats.text_lists import read_lines
from mmarcface.functional.arguments import check_number, is_number


class ClassMargins(nn.Module):
    """The margin of each class, from a number, a sequence or a text file.

    Args:
        margin: one number for all classes; or one per class: a sequence, array or tensor, or the
            path of a text file with a number a line.
        num_classes: number of classes.
        minimum: the smallest margin allowed.
        maximum: the largest margin allowed.
        uniform: whether all classes must have the same.

    Raises:
        FileNotFoundError: if a text is given that is neither a number nor a file.
        ValueError: if a margin is no number, the count is not ``num_classes``, a margin is not in
            [minimum, maximum], or margins differ where they must not.
    """

    def __init__(
        self,
        margin: float | Sequence[float] | str,
        num_classes: int,
        minimum: float = 0.0,
        maximum: float = math.pi / 2,
        uniform: bool = False,
    ):
        super().__init__()
        self.minimum, self.maximum, self.uniform = minimum, maximum, uniform
        # Share of each margin that counts, set by MarginScheduleHook.
        self.strength = 1.0
        self.register_buffer('values', torch.empty(num_classes), persistent=False)
        self.set(margin)

    def set(self, margin: float | Sequence[float] | str) -> None:
        """Replace all margins.

        Args:
            margin: margin as for the class, which raises the same errors.
        """
        if isinstance(margin, np.ndarray | torch.Tensor):
            margin = margin.tolist()
        if isinstance(margin, str | Path):
            _refuse_no_file(margin)
            margins = _read_margins(margin)
        elif is_number(margin):
            margins = [float(margin)] * len(self.values)
        elif isinstance(margin, Sequence):
            for label, value in enumerate(margin):
                check_number(f'margin of class {label}', value)
            margins = [float(value) for value in margin]
        else:
            raise ValueError(
                'margin must be a finite number, one per class in a list, or the path of a text '
                f'file, got {margin!r}'
            )
        if len(margins) != len(self.values):
            raise ValueError(
                f'margin must be one number or one per class: {len(self.values)} classes, '
                f'got {len(margins)} margins'
            )
        for label, value in enumerate(margins):
            if not self.minimum <= value <= self.maximum:
                raise ValueError(
                    f'margin must be in [{self.minimum:.4g}, {self.maximum:.4g}], '
                    f'got {value} for class {label}'
                )
        if self.uniform and len(set(margins)) > 1:
            raise ValueError(
                f'margin must be the same for all classes, got {min(margins)} to {max(margins)}'
            )
        self.values.copy_(torch.tensor(margins))

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Margins of the given classes at this time: (N,) labels to (N,) margins."""
        return self.minimum + (self.values[labels] - self.minimum) * self.strength


def _refuse_no_file(path: str | Path) -> None:
    if Path(path).is_file():
        return
    try:
        number = float(str(path))
    except ValueError:
        raise FileNotFoundError(
            f'margin {str(path)!r} is not a file: give a number, one per class in a list, or the '
            'path of a text file with a number a line'
        ) from None
    raise ValueError(
        f'margin must be a number, got the text {str(path)!r}: write {number:g} without quotes'
    )


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
