"""Each tool as a user runs it, in a process of its own; all else of them is tried in this one."""

import pytest

from tests.conftest import checked
from tests.engine.test_inversion import tiny
from tests.in_process import call_tool, run_process
from tests.tools.test_purify import config_of


@pytest.fixture(scope='module')
def net(tmp_path_factory):
    """A folder with net.py, of several centers a class, and what an epoch of training leaves."""
    folder = tmp_path_factory.mktemp('net')
    config = config_of()
    config.train_cfg.max_epochs = config.train_cfg.val_interval = 1
    config.dump(folder / 'net.py')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call_tool('train.py', 'net.py', '--work-dir', 'work')
    return folder


# What each writes, and what it says.
COMMANDS = {
    'train.py {tiny} --work-dir work': ('work/epoch_1.pth', 'Saving checkpoint at 1 epochs'),
    'test.py {net} {checkpoint} --out a.json': ('a.json', 'Loads checkpoint'),
    'invert.py {net} {checkpoint} --out out --preset small --settings steps=2': (
        'out/grid.png', 'report.json are in out'
    ),
    'purify.py {net} {checkpoint} --out out': ('out/keep.csv', 'python tools/train.py out'),
    'convert.py bin {orl} a.bin --folds 2 --pairs 9': ('a.bin', 'Read it with Verification'),
    'plot.py mnist --help': (None, 'usage: plot.py'),
    'benchmark.py retrieval --queries 9 --gallery 9 --items 3 --dim 4 --rounds 1': (
        None, 'metric_ms'
    ),
}  # fmt: skip


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command.partition('.')[0])
def test_as_a_process(net, orl, tmp_path, command):
    tiny(log_level='INFO').dump(tmp_path / 'tiny.py')
    places = dict(
        net=net / 'net.py',
        checkpoint=net / 'work' / 'epoch_1.pth',
        orl=orl,
        tiny=tmp_path / 'tiny.py',
    )
    name, *arguments = command.split()
    words = [word.format(**places) for word in arguments]
    done = checked(run_process(tmp_path, name, *words, PYTHONWARNINGS='default::UserWarning'))
    wanted, said = COMMANDS[command]
    assert said in done.output
    assert ('System environment' in done.output) == (name == 'train.py')
    # mmcv-lite warns of it at every start, unless it is told not to.
    assert 'MultiScaleDeformableAttention' not in done.output
    assert wanted is None or (tmp_path / wanted).stat().st_size
