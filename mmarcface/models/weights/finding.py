"""Finding the weights of a known net in a file, whatever is around them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .families import FAMILIES, Family

AVERAGE = re.compile(r'(?<![a-z])ema(?![a-z])', re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """The weights of a net and where they were.

    Args:
        family: kind of the net.
        where: keys of the dictionaries that lead to them, with dots in between; '' for the file.
        prefix: beginning of their names, with a dot at its end; '' for none.
        weights: tensors of the net, by names without the prefix.
        beside: other tensors of the same dictionary, by name.
        left_out: names of all other tensors of the file, with where they are.
    """

    family: Family
    where: str
    prefix: str
    weights: dict[str, torch.Tensor]
    beside: dict[str, torch.Tensor]
    left_out: list[str]

    @property
    def place(self) -> str:
        """How many tensors there are, and where, in words."""
        place = f'{len(self.weights)} tensors'
        if self.where:
            place += f' in {self.where}'
        if self.prefix:
            place += f', the prefix {self.prefix!r} of their names taken off'
        return place


def find_net(content: Any) -> Found:
    """The one net in the content of a file.

    Weights may be anywhere in nested dictionaries, under names with a prefix. An average of the
    weights (``ema`` in the name) is left out where the weights themselves are there, too.

    Args:
        content: content of the file.

    Raises:
        ValueError: if there is no net of a known kind, or several.
    """
    groups = dict(_state_dicts(content))
    places = [
        (family, where, key.removesuffix(family.keys[0]))
        for where, tensors in groups.items()
        for family in FAMILIES
        for key in tensors
        if _ends_in(key, family.keys[0])
        and {key.removesuffix(family.keys[0]) + name for name in family.keys} <= tensors.keys()
    ]
    places = [place for place in places if not AVERAGE.search('.'.join(place[1:]))] or places
    if len(places) > 1:
        listed = ' and '.join(
            f'{where or "the file"} (prefix {prefix!r})' for _, where, prefix in places
        )
        raise ValueError(
            f'it must hold one net, and it holds several, in {listed}: save the state dict of the '
            'one that is meant alone'
        )
    if not places:
        raise ValueError(_nothing_found(groups))
    ((family, where, prefix),) = places
    weights, beside, left_out = {}, {}, []
    for other, tensors in groups.items():
        for key, value in tensors.items():
            if other == where and key.startswith(prefix):
                weights[key.removeprefix(prefix)] = value
                continue
            left_out.append(f'{other}.{key}'.removeprefix('.'))
            if other == where:
                beside[key] = value
    return Found(family, where, prefix, weights, beside, left_out)


def _nothing_found(groups: Mapping[str, Mapping[str, torch.Tensor]]) -> str:
    """Why there is no net in a file: a part of one, or something else."""
    known = ', '.join(f'{family.net.__name__} ({family.origin})' for family in FAMILIES)
    seen = '; '.join(
        f'{where}: {list(tensors)[:3]}'.removeprefix(': ')
        for where, tensors in groups.items()
        if tensors
    )
    parts = [
        (sum(prefix + key in tensors for key in family.keys), family, prefix, tensors)
        for tensors in groups.values()
        for family in FAMILIES
        for prefix in {
            name.removesuffix(key) for name in tensors for key in family.keys if _ends_in(name, key)
        }
    ]
    part = ''
    best = max(parts, key=lambda found: found[0] / len(found[1].keys), default=None)
    # Many nets have one of these names.
    if best is not None and best[0] > 1:
        _, family, prefix, tensors = best
        missing = next(key for key in family.keys if prefix + key not in tensors)
        part = (
            f'. It is nearest to an {family.net.__name__} without {missing}: a part of a state '
            'dict is not enough'
        )
    return (
        f'it must hold the weights of one of {known}, or be a checkpoint of our own with its '
        f'config; its keys are like {seen or "none"}{part}'
    )


def _ends_in(key: str, name: str) -> bool:
    return key == name or key.endswith(f'.{name}')


def _state_dicts(
    content: Any, where: str = '', around: tuple[int, ...] = ()
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """The place of each dictionary in a file, and its tensors by name."""
    # A pickled dictionary may hold itself.
    if isinstance(content, dict) and id(content) not in around:
        yield where, {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        for key, value in content.items():
            name = getattr(key, '__name__', key)
            place = f'{where}.{name}'.removeprefix('.')
            yield from _state_dicts(value, place, (*around, id(content)))
