"""Numbers that are given as arguments, and the error where one is of a wrong kind or out of range.

They come from configs and command lines, where a quoted number, a bool or a single number in the
place of a list is easily written. Numbers of NumPy are numbers; bools are not.
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
        value: anything.
        whole: whether it must be an integer.
    """
    kind = Integral if whole else Real
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    return isinstance(value, Integral) or math.isfinite(value)


def are_numbers(values: Any, number: int | None = None, whole: bool = False) -> bool:
    """Whether a value is a sequence of finite numbers, such as a list, a tuple or a vector.

    Args:
        values: anything.
        number: how many there must be; any number by default.
        whole: whether they must be integers.
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
    """Refuse what is not one finite number in a range.

    Args:
        name: of the argument, for the error.
        value: as given.
        minimum: the smallest number allowed.
        above: the largest number that is too small.
        maximum: the largest number allowed.
        below: the smallest number that is too large.
        whole: whether it must be an integer.

    Raises:
        ValueError: naming the argument, the rule and the value.
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
    """Ranks from a sequence of whole numbers from 1 on, which may be empty.

    Args:
        name: of the argument, for the error.
        ranks: as given.

    Raises:
        ValueError: naming the argument, the rule and the value.
    """
    if not are_numbers(ranks, whole=True) or any(rank < 1 for rank in ranks):
        raise ValueError(
            f'{name} must hold ranks of at least 1, got {ranks!r}: give a list of whole numbers, '
            'such as [1, 10]'
        )
    return tuple(map(int, ranks))


def as_rates(name: str, rates: Any) -> tuple[float, ...]:
    """Rates from a sequence of numbers in [0, 1], which may be empty.

    Args:
        name: of the argument, for the error.
        rates: as given.

    Raises:
        ValueError: naming the argument, the rule and the value.
    """
    if not are_numbers(rates) or any(not 0 <= rate <= 1 for rate in rates):
        raise ValueError(
            f'{name} must hold rates in [0, 1], got {rates!r}: give a list of numbers, such as '
            '[0.001, 0.01]'
        )
    return tuple(map(float, rates))


def as_height_width(name: str, size: Any, minimum: int = 1) -> tuple[int, int]:
    """The height and width of images, given as both or as one number for both.

    Args:
        name: of the argument, for the error.
        size: as given, in pixels.
        minimum: the smallest height and width allowed.

    Raises:
        ValueError: naming the argument, the rule and the value.
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
