"""Public docstrings name the arguments that there are."""

import importlib
import inspect
import pkgutil
import re

import pytest

import mmarcface


def public_objects():
    for info in pkgutil.walk_packages(mmarcface.__path__, 'mmarcface.'):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if name.startswith('_') or getattr(value, '__module__', None) != info.name:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                yield pytest.param(value, id=f'{info.name}.{name}')


def documented_arguments(docstring: str) -> list[str]:
    section = re.search(r'^Args:\n((?:    .*\n|\n)*)', docstring + '\n', re.MULTILINE)
    return re.findall(r'^    \*{0,2}(\w+):', section[1], re.MULTILINE) if section else []


@pytest.mark.parametrize('value', public_objects())
def test_arguments_are_documented(value):
    docstring = inspect.getdoc(value)
    assert docstring, 'no docstring'
    names = documented_arguments(docstring)
    if names:
        assert names == parameters_of(value)


@pytest.mark.parametrize('value', public_objects())
def test_arguments_of_methods_are_documented(value):
    for name, method in vars(value).items() if inspect.isclass(value) else ():
        if name.startswith('_') or not inspect.isfunction(method):
            continue
        docstring = inspect.getdoc(method)
        assert docstring, f'{name} has no docstring'
        names = documented_arguments(docstring)
        assert not names or names == parameters_of(method), name


def parameters_of(value) -> list[str]:
    return [name for name in inspect.signature(value).parameters if name not in ('self', 'cls')]
