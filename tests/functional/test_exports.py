"""``import mmarcface.functional as F`` has all that is public below it, and nothing else."""

import importlib
import inspect
import pkgutil

import mmarcface.functional as F

MODULES = {
    info.name: importlib.import_module(f'{F.__name__}.{info.name}')
    for info in pkgutil.iter_modules(F.__path__)
}


def defined() -> list[str]:
    """Names of the public functions and classes, as often as there are modules that define them."""
    return [
        name
        for module in MODULES.values()
        for name, value in vars(module).items()
        if name[0] != '_'
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def test_everything_public_is_exported():
    assert F.__all__ == sorted(defined())


def test_no_name_hides_a_module():
    assert not MODULES.keys() & set(F.__all__)


def test_exports_are_the_functions_themselves():
    for name in F.__all__:
        value = getattr(F, name)
        assert value is getattr(MODULES[value.__module__.rpartition('.')[2]], name)
