"""What the pages say is there: links, pictures, commands, public names and examples."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT

PAGES = sorted(
    path
    for folder in ('.', '.github', 'configs', 'mmarcface', 'tools')
    for path in (ROOT.glob('*.md') if folder == '.' else (ROOT / folder).rglob('*.md'))
    if '.mim' not in path.parts
)
README = (ROOT / 'README.md').read_text()
ROOMS = ('models', 'datasets', 'evaluation', 'engine', 'apis', 'functional', 'visualization')
BLOCK = re.compile(r'^```(\w+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\]\(([^)\s]+)\)')


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def page(request) -> Path:
    return request.param


def anchors_of(page: Path) -> set[str]:
    """The names by which GitHub links to the headings of a page."""
    headings = re.findall(r'^#+ (.+)$', BLOCK.sub('', page.read_text()), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-') for h in headings}


def test_links_lead_somewhere(page):
    for link in LINK.findall(BLOCK.sub('', page.read_text())):
        if re.match(r'\w+:', link):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_commands_name_what_is_there(page):
    text = page.read_text()
    for tool in re.findall(r'\btools/[a-z_]+\.(?:py|sh)\b', text):
        assert (ROOT / tool).is_file(), tool
    # Capitals stand for a name of the reader's.
    for config in re.findall(r'\bconfigs/[a-z_0-9]+/[\w.-]+\.py\b', text):
        assert (ROOT / config).is_file(), config
    for extras in re.findall(r'pip install -e "\.\[([\w,]+)\]"', text):
        for extra in extras.split(','):
            assert f"'{extra}':" in (ROOT / 'setup.py').read_text(), extra
    names = {path.stem for path in (ROOT / 'configs').rglob('*.py')}
    for tool, name in re.findall(r'\bmmarcface ([a-z]+)\s+([a-z]+\d*-[\w.-]*\w)', text):
        assert (ROOT / 'tools' / f'{tool}.py').is_file(), tool
        assert name in names, name


def test_examples_are_python(page):
    for language, code in BLOCK.findall(page.read_text()):
        if language == 'python':
            ast.parse(code)


@pytest.mark.parametrize('page', ['README.md', 'configs/README.md'])
def test_examples_of_functions_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes = [code for _, code in BLOCK.findall((ROOT / page).read_text())]
    codes = [code for code in codes if 'mmarcface.functional' in code]
    assert codes
    for code in codes:
        exec(code, {})


def test_readme_is_short():
    assert len(README.split()) <= 1000
    for picture in re.findall(r'!\[[^]]+\]\(([^)]+)\)', README):
        assert (ROOT / picture).stat().st_size < 150_000, picture


def test_readme_has_the_line_that_continuous_integration_runs():
    # As .ci/run finds it.
    line = next(line for line in README.splitlines() if line.endswith('pytest'))
    assert line.strip() == 'pip install -e ".[tests]" && pytest'


def test_every_public_name_has_one_line():
    text = (ROOT / 'mmarcface' / 'README.md').read_text()
    rows = re.findall(r'^\| `(\w+)` \| (\w+) \| (.+) \|$', text, re.MULTILINE)
    listed = [(room, name) for name, room, _ in rows]
    public = {
        (room, name)
        for room in ROOMS
        for name in importlib.import_module(f'mmarcface.{room}').__all__
    }
    assert set(listed) ^ public == set()
    assert len(listed) == len(public)


def test_every_head_is_in_the_table_of_losses():
    text = (ROOT / 'configs' / 'README.md').read_text()
    heads = re.findall(r'^\| `(\w+Head)` \|', text, re.MULTILINE)
    public = importlib.import_module('mmarcface.models').__all__
    bases = {'ClassHead', 'MarginHead'}
    assert sorted(heads) == sorted(n for n in public if n.endswith('Head') and n not in bases)


def test_every_data_set_is_in_the_table_of_data():
    text = (ROOT / 'mmarcface' / 'datasets' / 'README.md').read_text()
    listed = re.findall(r'^\| [^|]+ \| \[`(\w+)`\]', text, re.MULTILINE)
    module = importlib.import_module('mmarcface.datasets')
    from mmpretrain.datasets import BaseDataset

    kinds = [n for n in module.__all__ if isinstance(getattr(module, n), type)]
    public = {n for n in kinds if issubclass(getattr(module, n), BaseDataset)}
    assert sorted(listed) == sorted(public - {'IdentityDataset'})


def test_every_recipe_is_in_the_page_of_its_folder():
    for folder in sorted(path for path in (ROOT / 'configs').iterdir() if path.is_dir()):
        if folder.name == '_base_':
            continue
        text = (folder / 'README.md').read_text()
        for path in folder.glob('*.py'):
            assert f'({path.name})' in text, path


def test_workflow_runs_the_checks_on_every_python():
    workflow = yaml.safe_load((ROOT / '.github' / 'workflows' / 'ci.yml').read_text())
    (job,) = workflow['jobs'].values()
    versions = job['strategy']['matrix']['python-version']
    assert versions == ['3.10', '3.11', '3.12', '3.13']
    assert any(step.get('run', '').endswith(' .ci/run') for step in job['steps'])


def test_issue_form_asks_something():
    form = yaml.safe_load((ROOT / '.github' / 'ISSUE_TEMPLATE' / 'bug.yml').read_text())
    assert {'name', 'description', 'body'} <= set(form)
    fields = [field for field in form['body'] if field['type'] != 'markdown']
    assert fields
    assert all(field['id'] and field['attributes']['label'] for field in fields)
