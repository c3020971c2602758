import ast
from pathlib import Path

import pytest

import mmarcface
from mmarcface.atomic_files import move_into_place, replacing


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'list.csv'
    path.write_text('old')
    return path


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('sync', [False, True])
def test_target_is_replaced_when_the_block_ends(path, shared, sync):
    with replacing(path, shared, sync) as partial:
        assert partial.parent == path.parent
        assert partial.name.endswith('.partial')
        partial.write_text('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_target_stays_where_writing_fails(path, error):
    def fail(partial):
        partial.write_text('ne')
        raise error

    with pytest.raises(error), replacing(path) as partial:
        fail(partial)
    assert path.read_text() == 'old'
    assert list(path.parent.iterdir()) == [path]


def test_error_is_the_writer_s_own(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / 'missing' / 'list.csv'):
        raise ZeroDivisionError


def test_writers_of_one_file_do_not_share_a_part(path):
    with replacing(path, shared=True) as first, replacing(path, shared=True) as second:
        assert first != second
        first.write_text('first')
        second.write_text('second')
    assert path.read_text() == 'first'


def test_what_a_killed_process_left_is_overwritten(path):
    path.with_name('list.csv.partial').write_text('half of it')
    with replacing(path) as partial:
        partial.write_text('new')
    assert path.read_text() == 'new'


def test_content_is_on_the_disk_before_it_has_its_name(path, monkeypatch):
    calls = []
    monkeypatch.setattr('os.fsync', lambda _: calls.append(path.read_text()))
    with replacing(path) as partial:
        partial.write_text('new')
    assert calls == ['old']
    partial.write_text('newer')
    move_into_place(partial, path, sync=False)
    assert calls == ['old']
    assert path.read_text() == 'newer'


def test_no_other_module_replaces_files():
    found = [
        f'{file.name}:{node.lineno}'
        for file in Path(mmarcface.__file__).parent.rglob('*.py')
        if file.name not in ('atomic_files.py', 'writers.py')
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == 'os.replace'
    ]
    assert not found
