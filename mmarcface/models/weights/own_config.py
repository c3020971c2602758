"""The config in a checkpoint of ours, read without running it.

mmengine reads a config by running it as a program, and builds whatever it names by import path.
A checkpoint may come from anywhere, and the text of its config with it: here it is read as
literals, and may name registered classes only.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from mmengine import registry as mmengine_registries
from mmengine.config import Config
from mmengine.registry import Registry

# Keys whose values name classes that are built.
NAMES_CLASS = 'type', 'constructor', 'runner_type'
# Packages whose registries fill themselves by importing them.
STACK = 'mmengine', 'mmpretrain', 'mmarcface', 'mmcv'
# What mmengine puts in the place of text before it parses a config: variables of the environment,
# names of files, and values of a base config.
SUBSTITUTED = '{{'


def read_own_config(text: str) -> Config:
    """The config that a text means, as mmengine writes it into checkpoints.

    Args:
        text: assignments of literals, of lists of them, and of ``dict(...)`` of them, to names.

    Raises:
        ValueError: if it is not of this kind, or names something to be built that is not
            registered.
    """
    try:
        if SUBSTITUTED in text:
            raise ValueError(f'it has {SUBSTITUTED}, in whose place mmengine puts other text')
        content = _literals(text)
        _refuse_other_files(content)
        config = Config(content)
        # mmengine writes keys as they are, with any quotes that end them.
        if _literals(config.pretty_text) != config.to_dict():
            raise ValueError('a key has quotes in it')
    except (
        AttributeError, KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise ValueError(
            f'the config in it cannot be read, as it is damaged or more than plain values ({error})'
        ) from None
    classes = _registered_classes()
    for key, name in _named_classes(content):
        if not _is_registered(name, classes):
            raise ValueError(
                f'the config in it has {key}={name!r}, which is registered by none of '
                f'{", ".join(STACK)}, and a config runs what it names. If you trust the file, '
                'import the module that registers it and call '
                'mmarcface.models.weights.conversion.convert_weights in Python'
            )
    return config


def _refuse_other_files(content: dict) -> None:
    """Refuse what makes mmengine read other configs, or import modules of other packages."""
    if '_base_' in content:
        raise ValueError('it goes on from another file, _base_')
    modules = (content.get('custom_imports') or {}).get('imports') or []
    for name in [modules] if isinstance(modules, str) else modules:
        if str(name).partition('.')[0] not in STACK:
            raise ValueError(f'it imports {name}, by custom_imports')


def _literals(text: str) -> dict[str, Any]:
    return {_target(statement): _literal(statement.value) for statement in ast.parse(text).body}


def _target(statement: ast.stmt) -> str:
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        raise ValueError(f'line {statement.lineno} is no assignment')
    return statement.targets[0].id


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or len(node.args) > 1:
            raise ValueError(f'line {node.lineno} calls {ast.unparse(node.func)}')
        items = _literal(node.args[0]) if node.args else {}
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError(f'line {node.lineno} unpacks a dict')
        return items | {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = dict(List=list, Tuple=tuple, Set=set)[type(node).__name__]
        return kind(map(_literal, node.elts))
    if isinstance(node, ast.Dict):
        keys = map(ast.literal_eval, node.keys)
        return dict(zip(keys, map(_literal, node.values), strict=True))
    return ast.literal_eval(node)


def _named_classes(value: Any) -> Iterator[tuple[str, str]]:
    """Key and value of everything in a config that names a class."""
    if isinstance(value, dict):
        for key in NAMES_CLASS:
            if isinstance(value.get(key), str):
                yield key, value[key]
    if isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _named_classes(item)


def _registered_classes() -> dict[str, set[str]]:
    """The packages that registered something under a name."""
    registries = [v for v in vars(mmengine_registries).values() if isinstance(v, Registry)]
    packages = defaultdict(set)
    for registry in registries:
        registries += [child for child in registry.children.values() if child not in registries]
        if registry.scope in STACK:
            registry.import_from_location()
        for name, found in registry.module_dict.items():
            packages[name].add(getattr(found, '__module__', '').partition('.')[0])
    return packages


def _is_registered(name: str, classes: dict[str, set[str]]) -> bool:
    # A bare name, or one after the path of a module or a scope.
    package, dot, _ = name.partition('.')
    last = name.rpartition('.')[2] if dot and '/' not in name else name
    return last in classes and (not dot or '/' in name or package in classes[last])
