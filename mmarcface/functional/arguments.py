"""Checks of numeric arguments, each with one clear error.

Arguments come from configs and command lines, where a quoted number, a bool, or a single number in
place of a list is an easy mistake. NumPy's numbers are numbers; bools are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np


def is_number(value: Any, whole: bool = False) -> bool:
    """Whether a value is one finite number.

    Args:
        value: value of any type.
        whole: whether the number must be an integer.

    Example:
        >>> is_number(0.5), is_number(0.5, whole=True), is_number('0.5'), is_number(float('nan'))
        (True, False, False, False)
    """
    kind = Integral if whole else Real
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    return isinstance(value, Integral) or math.isfinite(value)


def are_numbers(values: Any, number: int | None = None, whole: bool = False) -> bool:
    """Whether a value is a sequence of finite numbers: a list, a tuple or an array (N,).

    Args:
        values: value of any type.
        number: length that the sequence must have; any length by default.
        whole: whether the numbers must be integers.

    Example:
        >>> are_numbers([1, 2.5]), are_numbers([1, 2.5], number=3), are_numbers(1)
        (True, False, False)
    """
    listed = isinstance(values, Sequence) or (isinstance(values, np.ndarray) and values.ndim == 1)
    if not listed or (number is not None and len(values) != number):
        return False
    return all(is_number(value, whole) for value in values)


def check_number(
    name: str,
    value: Any,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """Raise an error unless a value is one finite number in a range.

    Args:
        name: name of the argument, for the error.
        value: value of the argument.
        minimum: smallest number allowed.
        above: limit that the number must exceed.
        maximum: largest number allowed.
        below: limit that the number must stay below.
        whole: whether the number must be an integer.

    Raises:
        ValueError: naming the argument, the rule and the value.

    Example:
        >>> check_number('momentum', 1, minimum=0, below=1)
        Traceback (most recent call last):
        ValueError: momentum must be in [0, 1), got 1
    """
    low, high = (minimum if above is None else above), (maximum if below is None else below)
    start, end = ('[' if above is None else '('), (']' if below is None else ')')
    if low is not None and high is not None:
        rule = f'in {start}{_shown(low)}, {_shown(high)}{end}'
    elif low is not None:
        rule = f'{"at least" if above is None else "above"} {_shown(low)}'
    else:
        rule = '' if high is None else f'{"at most" if below is None else "below"} {_shown(high)}'
    if not is_number(value, whole):
        kind = 'a whole number' if whole else 'a finite number'
        rule = f'{kind} {rule}'.strip().replace(' at ', ' of at ')
        raise ValueError(f'{name} must be {rule}, got {value!r}')
    if (low is not None and (value < low or value == above)) or (
        high is not None and (value > high or value == below)
    ):
        raise ValueError(f'{name} must be {rule}, got {value!r}')


def as_ranks(name: str, ranks: Any) -> tuple[int, ...]:
    """Ranks as a tuple, from a sequence of whole numbers of at least 1, which may be empty.

    Args:
        name: name of the argument, for the error.
        ranks: value of the argument.

    Raises:
        ValueError: naming the argument, the rule and the value.

    Example:
        >>> as_ranks('recall_at', [1, 10])
        (1, 10)
    """
    if not are_numbers(ranks, whole=True) or any(rank < 1 for rank in ranks):
        raise ValueError(
            f'{name} must hold ranks of at least 1, got {ranks!r}: give a list of whole numbers, '
            'such as [1, 10]'
        )
    return tuple(map(int, ranks))


def as_rates(name: str, rates: Any) -> tuple[float, ...]:
    """Rates as a tuple, from a sequence of numbers in [0, 1], which may be empty.

    Args:
        name: name of the argument, for the error.
        rates: value of the argument.

    Raises:
        ValueError: naming the argument, the rule and the value.

    Example:
        >>> as_rates('far', [0.001, 0.01])
        (0.001, 0.01)
    """
    if not are_numbers(rates) or any(not 0 <= rate <= 1 for rate in rates):
        raise ValueError(
            f'{name} must hold rates in [0, 1], got {rates!r}: give a list of numbers, such as '
            '[0.001, 0.01]'
        )
    return tuple(map(float, rates))


def as_height_width(name: str, size: Any, minimum: int = 1) -> tuple[int, int]:
    """Height and width of images, from both or from one number for both.

    Args:
        name: name of the argument, for the error.
        size: value of the argument, in pixels.
        minimum: smallest height and width allowed, in pixels.

    Raises:
        ValueError: naming the argument, the rule and the value.

    Example:
        >>> as_height_width('input_size', 112), as_height_width('input_size', (112, 96))
        ((112, 112), (112, 96))
    """
    both = (size, size) if is_number(size, whole=True) else size
    if not are_numbers(both, 2, whole=True):
        raise ValueError(
            f'{name} must be a whole number, or two for height and width, got {size!r}'
        )
    if min(both) < minimum:
        raise ValueError(f'{name} must be at least {minimum}, got {size!r}')
    return int(both[0]), int(both[1])


def _shown(limit: float) -> str:
    return f'{limit:.4g}' if isinstance(limit, float) else str(limit)
