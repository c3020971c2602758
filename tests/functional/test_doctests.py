"""The examples in docstrings: each public function and class has one, and it does what it says."""

import doctest
import importlib
import pkgutil

import pytest

import mmarcface.functional as F

MODULES = [f'{F.__name__}.{info.name}' for info in pkgutil.iter_modules(F.__path__)]


@pytest.mark.parametrize('name', F.__all__)
def test_has_an_example(name):
    assert doctest.DocTestParser().get_examples(getattr(F, name).__doc__)


@pytest.mark.parametrize('module', MODULES)
def test_examples_give_what_they_say(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.failed == 0
    assert found.attempted
