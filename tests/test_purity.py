"""The house keeps its order: who may import whom, and what an import costs."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / 'mmarcface'
# Each may import itself and what stands before it.
LAYERS = [
    {
        'functional',
        'atomic_files',
        'user_errors',
        '__version__',
        'foreign_files',
        'safetensors_files',
    },
    {'checkpoint', 'registry'},
    {'models', 'datasets', 'evaluation', 'visualization', 'fingerprints', 'manifest'},
    {'apis'},
    {'engine', 'plugin', 'cli'},
]


def rank(part: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


def imported(path: Path):
    """Dotted names that a file imports, relative ones made absolute."""
    package = ('mmarcface', *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(package[: len(package) - node.level + 1]) if node.level else ''
            module = '.'.join(filter(None, [base, node.module]))
            yield from (f'{module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize(
    'path', sorted(PACKAGE.rglob('*.py')), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_run_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    if part == '__init__' or '.mim' in path.parts:
        return
    for name in imported(path):
        top, *rest = name.split('.')
        if part == 'functional':
            allowed = {'torch', 'numpy', *sys.stdlib_module_names}
            assert top in allowed or name.startswith('mmarcface.functional'), name
        elif top == 'mmarcface':
            assert rank(rest[0]) <= rank(part), name


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def test_no_module_imports_itself_in_a_circle():
    paths = {module_of(p): p for p in PACKAGE.rglob('*.py') if '.mim' not in p.parts}
    graph = {
        module: {
            name if name in paths else name.rpartition('.')[0]
            for name in imported(path)
            if name.startswith('mmarcface.')
        }
        - {module}
        for module, path in paths.items()
    }
    # The plugin is what imports rooms when they are asked for.
    del graph['mmarcface.plugin']
    assert list(TopologicalSorter(graph).static_order())


def loaded_by(statement: str) -> set[str]:
    code = f'import sys\n{statement}\nprint(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    return {name.split('.')[0] for name in done.stdout.split()}


@pytest.mark.parametrize('module', ['mmarcface', 'mmarcface.functional'])
def test_light_imports_load_no_framework(module):
    assert not loaded_by(f'import {module}') & {'mmengine', 'mmcv', 'mmpretrain'}


def test_functions_load_no_framework():
    names = sorted(path.stem for path in (PACKAGE / 'functional').glob('[a-z]*.py'))
    statement = '\n'.join(f'import mmarcface.functional.{name}' for name in names)
    assert not loaded_by(statement) & {'mmengine', 'mmcv', 'mmpretrain'}
