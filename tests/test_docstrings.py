"""Public docstrings document every argument, in order, and no other; references resolve."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator

import pytest

import mmarcface

from .test_readme import ROOMS

REFERENCE = re.compile(r':(?:func|class|meth|attr|mod):`\.?([\w.]+)`')
FRAGMENT = re.compile(
    r'(of|by|in|from|to|as|with|for|on|is|gives|take|what|whom?|where|that|this|their)\b|\(|$'
)


def public_objects() -> Iterator:
    for info in pkgutil.walk_packages(mmarcface.__path__, 'mmarcface.'):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if name.startswith('_') or getattr(value, '__module__', None) != info.name:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                yield pytest.param(value, id=f'{info.name}.{name}')


def documented(value, *sections: str) -> list[str]:
    """Names of the entries in the first of some sections that the docstring has.

    An entry starts with what the argument is: "seed of the noise", not "of the noise".
    """
    docstring = (inspect.getdoc(value) or '') + '\n'
    for section in sections:
        if found := re.search(rf'^{section}:\n((?:    .*\n|\n)*)', docstring, re.MULTILINE):
            entries = re.findall(r'^    \*{0,2}(\w+): *(.*)', found[1], re.MULTILINE)
            assert not [entry for entry in entries if FRAGMENT.match(entry[1])]
            return [name for name, _ in entries]
    return []


def parameters_of(value: Callable) -> list[str]:
    names = list(inspect.signature(value).parameters)
    return [name for name in names if name not in ('self', 'cls') and not name.startswith('_')]


def check(value: Callable) -> None:
    """Refuse a function or class, or a public method of it, with undocumented arguments.

    An inherited constructor and a method that overrides another may be documented where they come
    from.
    """
    assert inspect.getdoc(value), 'no docstring'
    if not inspect.isclass(value):
        assert documented(value, 'Args') == parameters_of(value)
        return
    if '__init__' in vars(value):
        sections = ('Args', 'Attributes') if dataclasses.is_dataclass(value) else ('Args',)
        assert documented(value, *sections) == parameters_of(value)
    for name, method in vars(value).items():
        method = getattr(method, '__func__', method)
        if name.startswith('_') or not inspect.isfunction(method):
            continue
        assert inspect.getdoc(getattr(value, name)), f'{name} has no docstring'
        overrides = any(name in vars(base) for base in value.__mro__[1:])
        names = documented(method, 'Args')
        assert names == parameters_of(method) or (overrides and not names), name


@pytest.mark.parametrize('value', public_objects())
def test_arguments_are_documented(value):
    check(value)


def no_docstring(a): ...


def no_section(a):
    """Of a."""


def one_missing(a, b):
    """Of two.

    Args:
        a: one of two.
    """


def one_too_many(a):
    """Of one.

    Args:
        a: the one.
        b: another one.
    """


def of_what(seed):
    """Of one.

    Args:
        seed: of the noise.
    """


def other_order(a, *b):
    """Of two.

    Args:
        b: one of two.
        a: one of two.
    """


class NoSection:
    """Of a."""

    def __init__(self, a): ...


@dataclasses.dataclass
class NoAttributes:
    """Of a."""

    a: int


class Method:
    """A method without a section."""

    def method(self, a):
        """Of a."""


class ClassMethod:
    """A class method without a docstring."""

    @classmethod
    def method(cls): ...


class WrongOverride(Method):
    """A method that documents an argument of another name."""

    def method(self, b):
        """Of b.

        Args:
            a: the one.
        """


@pytest.mark.parametrize(
    'value',
    [
        no_docstring, no_section, one_missing, one_too_many, other_order, of_what,
        NoSection, NoAttributes, Method, ClassMethod, WrongOverride,
    ],
)  # fmt: skip
def test_what_is_not_documented_is_found(value):
    with pytest.raises(AssertionError):
        check(value)


class Override(Method):
    """An override needs no section of its own."""

    def method(self, a):
        """Of a, too."""


class Inherited(NoAttributes):
    """An inherited constructor is documented there."""


@dataclasses.dataclass
class Attributes:
    """A data class has attributes in place of arguments.

    Attributes:
        a: the one.
    """

    a: int


def ignored(a, *_, **kwargs):
    """Of some.

    Args:
        a: the one.
        **kwargs: others.
    """


@pytest.mark.parametrize('value', [Override, Inherited, Attributes, ignored])
def test_what_is_documented_elsewhere_passes(value):
    check(value)


def modules() -> Iterator:
    for info in pkgutil.walk_packages(mmarcface.__path__, 'mmarcface.'):
        yield pytest.param(importlib.import_module(info.name), id=info.name)


def is_in(owner: object, name: str) -> bool:
    for part in name.split('.'):
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True


@pytest.mark.parametrize('module', modules())
def test_references_lead_somewhere(module):
    """A short name is one of the module, its classes or its package, or is public."""
    owners = [module, importlib.import_module(module.__name__.rpartition('.')[0])]
    owners += filter(inspect.isclass, vars(module).values())
    owners += [importlib.import_module(f'mmarcface.{room}') for room in ROOMS]
    for name in REFERENCE.findall(inspect.getsource(module)):
        package, _, rest = name.partition('.')
        if package in ('mmarcface', 'mmpretrain', 'torch'):
            assert is_in(importlib.import_module(package), rest), name
        else:
            assert any(is_in(owner, name) for owner in owners), name
