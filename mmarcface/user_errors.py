"""Tell mistakes of a user from bugs, by the place where an error was raised.

An error is the user's mistake if

- a ``raise`` statement of this package or its tools raised it, also in a worker of a DataLoader;
- a class of another package could not be built from a config: its type is unknown, an argument is
  unknown or missing, or the class refuses a value;
- the system refused a file: it is missing, may not be read, or the disk is full.

Any other error that torch, NumPy or Python raises in our code is a bug.
"""

from __future__ import annotations

import errno
import linecache
import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from dis import opname
from inspect import isfunction, signature
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING
from urllib.error import URLError

if TYPE_CHECKING:
    from mmengine.registry import Registry

PACKAGE = Path(__file__).resolve().parent
# The tools are beside the package in a checkout, and in it when installed.
OUR_FOLDERS = {PACKAGE, PACKAGE.parent / 'tools'}
# Where mmengine calls what a config names: modules, and beginnings of names of functions.
BUILDERS = {
    'mmengine.registry.build_functions': 'build',
    'mmengine.runner.runner': ('build', 'from_cfg'),
}
# Errors that a constructor raises for wrong arguments.
CONFIG_ERRORS = (TypeError, ValueError, LookupError, AssertionError, ImportError)
UNEXPECTED = re.compile(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'")
MISSING = re.compile(r'\(\) missing \d+ required')
# Errors that say that the code itself is wrong or not finished.
NEVER = (AssertionError, NotImplementedError)
FULL = (errno.ENOSPC, errno.EDQUOT)


def describe_user_error(error: BaseException) -> str | None:
    """Describe a mistake of the user in one line.

    Args:
        error: error with its traceback.

    Returns:
        The line, or None for any other error.
    """
    in_worker = _describe_worker_error(error)
    if in_worker is not None:
        return in_worker
    steps = list(_walk(error.__traceback__))
    if not steps:
        return None
    if _raised_by_us(*steps[-1]) and not isinstance(error, NEVER):
        return _one_line(error)
    if isinstance(error, URLError):
        return f'{_one_line(error)}: check the address and the connection'
    if isinstance(error, OSError) and error.errno and (error.filename or error.errno in FULL):
        return f'{error.filename or "cannot write"}: {error.strerror}'
    return _describe_config_error(error, [frame for frame, _ in steps])


def _describe_config_error(error: BaseException, frames: list[FrameType]) -> str | None:
    built = [i for i, frame in enumerate(frames) if _builds(frame)]
    if not built or not isinstance(error, CONFIG_ERRORS):
        return None
    builder, inside = frames[built[-1]], frames[built[-1] + 1 :]
    # A constructor of ours may pass an unknown argument on to that of its base class.
    unexpected, missing = UNEXPECTED.search(str(error)), MISSING.search(str(error))
    unbound = unexpected or missing
    passed_on = unbound and all(frame.f_code.co_name == '__init__' for frame in inside)
    if not passed_on and any(_is_ours(frame.f_code.co_filename) for frame in inside):
        return None
    if isinstance(error, KeyError) and builder.f_locals.get('obj_cls', error) is None:
        return _unknown_type(builder.f_locals['obj_type'], builder.f_locals['registry'])
    if unexpected:
        owner, name = unexpected[1].removesuffix('.__init__'), unexpected[2]
        # Runner calls some classes by their names.
        kind = builder.f_locals.get('obj_cls') or builder.f_globals.get(owner)
        near = _nearest(name, _parameters_of(kind))
        return f'the config cannot be built: {owner} takes no {name}{near}'
    name = getattr(builder.f_locals.get('obj_cls'), '__name__', None)
    return f'the config cannot be built: {f"{name}: " if name else ""}{_one_line(error)}'


def _parameters_of(kind: type | None) -> set[str]:
    # What a constructor passes on is a parameter of a base class.
    constructors = [vars(one).get('__init__') for one in getattr(kind, '__mro__', ())]
    return {name for one in filter(isfunction, constructors) for name in signature(one).parameters}


def _nearest(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, names, 1, 0.5)
    return f'; did you mean {near[0]}?' if near else ''


def _unknown_type(name: str, registry: Registry) -> str:
    while registry.parent is not None:
        registry = registry.parent
    registries, names = [registry], set()
    for one in registries:
        names |= set(one.module_dict)
        registries += one.children.values()
    near = get_close_matches(name, names, 1)
    advice = f'did you mean {near[0]}?' if near else 'import its module with custom_imports'
    return f'the config cannot be built: there is no {registry.name} {name}; {advice}'


def _describe_worker_error(error: BaseException) -> str | None:
    """Describe an error that a worker of a DataLoader sent, with its traceback as text."""
    text = str(error)
    if not re.match(r'Caught \w+ in .+\nOriginal Traceback', text):
        return None
    last = text.rpartition('Traceback (most recent call last):\n')[2]
    file, number = re.findall(r'^  File "(.+)", line (\d+)', last, re.M)[-1]
    message = re.search(r'^\S.*', last, re.M | re.S)[0].partition(': ')[2]
    by_us = _is_ours(file) and linecache.getline(file, int(number)).lstrip().startswith('raise ')
    by_system = message.startswith('[Errno ')
    return _one_line(message) if by_us or by_system else None


def _builds(frame: FrameType) -> bool:
    beginnings = BUILDERS.get(frame.f_globals.get('__name__'))
    return beginnings is not None and frame.f_code.co_name.startswith(beginnings)


def _walk(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    """Frames from the outermost to the innermost, each with the instruction it had come to."""
    while trace is not None:
        yield trace.tb_frame, trace.tb_lasti
        trace = trace.tb_next


def _raised_by_us(frame: FrameType, instruction: int) -> bool:
    is_raise = opname[frame.f_code.co_code[instruction]] == 'RAISE_VARARGS'
    return is_raise and _is_ours(frame.f_code.co_filename)


def _is_ours(file: str) -> bool:
    return not OUR_FOLDERS.isdisjoint(Path(os.path.realpath(file)).parents)


def _one_line(error: BaseException | str) -> str:
    # str() of a KeyError is the repr of its argument.
    if isinstance(error, KeyError) and error.args:
        error = error.args[0]
    lines = str(error) or type(error).__name__
    return '; '.join(line.strip() for line in lines.splitlines() if line.strip())
