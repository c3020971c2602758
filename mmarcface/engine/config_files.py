"""Configs by name or path, with options of the command line."""

from __future__ import annotations

import argparse
import ast
import inspect
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.apis import ModelHub

from mmarcface.plugin import CONFIG_ROOT

CONFIG_FILES = ('.py', '.json', '.yml', '.yaml')
# Keys of a config that are read beside the parameters of Runner.
OTHER_KEYS = {
    'activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval',
    'find_unused_parameters', 'inversion', 'keep_list', 'model_wrapper_cfg', 'purification',
    'runner_type', 'sync_bn',
}  # fmt: skip
CLOSING = {'(': ')', '[': ']', '{': '}'}


def config_names() -> dict[str, Path]:
    """Paths of our configs by name: the names of their files, and those of the model index."""
    folder = CONFIG_ROOT / 'configs'
    names = {
        path.stem: path
        for path in sorted(folder.rglob('*.py'))
        if '_base_' not in path.relative_to(folder).parts
    }
    indexed = {name: Path(model.config or '') for name, model in ModelHub._models_dict.items()}
    return names | {name: path for name, path in indexed.items() if folder in path.parents}


def find_config(name: str) -> str:
    """Find a config by name or path.

    Args:
        name: path of a config, or the name of one of the project's, such as
            ``iresnet18-arcface_orl``.

    Returns:
        The path.

    Raises:
        FileNotFoundError: if there is none; the error has the nearest names.
        ValueError: if the path is not that of a config file.
    """
    path = Path(name).expanduser()
    is_path = path.suffix in CONFIG_FILES or os.sep in name
    names = {} if is_path and path.exists() else config_names()
    if not is_path and name in names:
        return str(names[name])
    if (path.is_file() and not is_path) or path.is_dir():
        raise ValueError(f'a config must be a file that ends in .py, got {name}')
    if path.is_file():
        return str(path)
    near = get_close_matches(path.stem, names, 3, 0.5)
    advice = f'did you mean {" or ".join(near)}?' if near else 'name the path of a file'
    raise FileNotFoundError(f'config {name} does not exist: {advice}')


def read_config(path: str) -> Config:
    """Read a config.

    Args:
        path: see :func:`find_config`.

    Raises:
        FileNotFoundError: see :func:`find_config`.
        ValueError: if it is not valid; the error has the file and the line.
    """
    path = find_config(path)
    try:
        return Config.fromfile(path)
    except Exception as error:
        message = getattr(error, 'msg', None) or f'{type(error).__name__}: {error}'
        raise ValueError(f'{_place_of(error, path)}: {message}') from error


def _place_of(error: Exception, path: str) -> str:
    """File and line of an error in a config or in one that it is based on."""
    file, line, trace = path, getattr(error, 'lineno', None), error.__traceback__
    while trace is not None:
        frame, trace_line, trace = trace.tb_frame, trace.tb_lineno, trace.tb_next
        if frame.f_globals.get('__name__') == 'mmengine.config.config':
            file = frame.f_locals.get('filename', file)
        elif frame.f_code.co_filename == file:
            line = trace_line
    return f'{file}:{line}' if line else file


def change_config(config: Config, options: dict[str, Any]) -> None:
    """Change a config, in place.

    Args:
        config: the config.
        options: new values by key, with dots between the names of nested dicts, and the places of
            items in lists as numbers.

    Raises:
        ValueError: if there is no such key at the top, where nothing would read it; if a key goes
            into something that is no dict or list; or if text is given for True or False.
    """
    known = {*config, *inspect.signature(Runner.__init__).parameters, *OTHER_KEYS} - {'self', 'cfg'}
    for key, value in options.items():
        top = key.partition('.')[0]
        if top not in known:
            near = get_close_matches(top, known, 1)
            advice = f'did you mean {near[0]}?' if near else 'nothing would read it'
            raise ValueError(f'cannot set {key}: the config has no {top}; {advice}')
        if isinstance(_value_at(config, key), bool) and isinstance(value, str):
            raise ValueError(f'{key} must be True or False, got {value!r}')
        try:
            config.merge_from_dict({key: value})
        except (TypeError, LookupError, AssertionError) as error:
            raise ValueError(f'cannot set {key} to {value!r}: {error.args[0]}') from error


def _value_at(config: Config, key: str) -> Any:
    value = config
    for name in key.split('.'):
        if isinstance(value, (list, tuple)) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, (dict, Config)):
            value = value.get(name)
        else:
            return None
    return value


class KeyValues(argparse.Action):
    """Reads ``KEY=VALUE ...`` into a dict, as mmengine's ``DictAction`` does, but keeps text whole.

    A value is a Python literal, or text without quotes: ``true`` and ``false`` in any case, numbers
    and ``a,b``, ``[a,b]`` or ``(a,b)``, which are lists and tuples. Spaces stay in text. Text with
    commas, brackets or quotes in it takes quotes of its own: ``key="'a,b'"``.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Add what was given to what an earlier one gave."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for item in values:
            key, equals, value = item.partition('=')
            if not key or not equals:
                raise argparse.ArgumentError(self, f'must be KEY=VALUE, got {item!r}')
            try:
                options[key] = parse_value(value)
            except ValueError as error:
                raise argparse.ArgumentError(self, f'{key}: {error}') from None
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """The value that text on the command line stands for; see :class:`KeyValues`.

    Args:
        text: the text.

    Raises:
        ValueError: if brackets or quotes are not closed.

    >>> parse_value('1e-3'), parse_value('false'), parse_value('two words')
    (0.001, False, 'two words')
    >>> parse_value('1,2'), parse_value('[(a, b), None]'), parse_value("'1,2'")
    ([1, 2], [('a', 'b'), None], '1,2')
    """
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        pass
    else:
        # As mmengine reads it.
        return list(value) if isinstance(value, tuple) and text.strip()[0] != '(' else value
    inner = text.strip()
    parts = _split(inner)
    if len(parts) > 1 or inner.endswith(','):
        return [parse_value(part.strip()) for part in parts]
    if inner[:1] in ('(', '[') and inner[-1] == CLOSING[inner[0]]:
        values = [parse_value(part.strip()) for part in _split(inner[1:-1])]
        return tuple(values) if inner[0] == '(' else values
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {'true': True, 'false': False}.get(text.lower(), text)


def _split(text: str) -> list[str]:
    """Split text at commas that are in no brackets or quotes."""
    parts, start, closing = [], 0, []
    for place, char in enumerate(text):
        quoted = closing and closing[-1] in '\'"'
        if closing and char == closing[-1]:
            closing.pop()
        elif quoted:
            continue
        elif char in CLOSING:
            closing.append(CLOSING[char])
        elif char in '\'"' and not text[start:place].strip(' [({'):
            closing.append(char)
        elif char == ',' and not closing:
            parts.append(text[start:place])
            start = place + 1
    if closing and (parts or text[:1] in CLOSING):
        raise ValueError(f'{closing[-1]} is missing in {text!r}')
    return [*parts, text[start:]] if text[start:].strip() or not parts else parts
