"""What is installed: configs, tools and the model index lie where mim looks for them."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution

import pytest
from packaging.requirements import Requirement

from mmarcface import __version__
from mmarcface.cli import TOOLS

from .conftest import ROOT

SOURCES = ('mmarcface', 'configs', 'tools')
ALL_HELP = """
import sys
from mmarcface import cli
for tool in sys.argv[1:]:
    try:
        cli.main([tool, '--help'])
    except SystemExit as end:
        assert not end.code
"""


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """Run a command from another folder, with a wheel of the project installed and no checkout."""
    root = tmp_path_factory.mktemp('checkout')
    for name in SOURCES:
        ignored = shutil.ignore_patterns('.mim', '__pycache__')
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, root)
    site, elsewhere = tmp_path_factory.mktemp('site'), tmp_path_factory.mktemp('elsewhere')
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    wheel = [*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', root / 'dist', root]
    subprocess.run(wheel, check=True, capture_output=True)
    (file,) = (root / 'dist').glob('*.whl')
    install = [*pip, 'install', '--no-deps', '--target', site, file]
    subprocess.run(install, check=True, capture_output=True)
    shutil.rmtree(root)

    def run(*command, code=0):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', *command],
            cwd=elsewhere,
            env=os.environ | {'PYTHONPATH': str(site)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    run.program, run.folder = site / 'bin' / 'mmarcface', elsewhere
    return run


def test_each_tool_is_a_command(installed):
    done = installed(installed.program, '--help')
    assert all(tool in done.stdout for tool in TOOLS)
    assert installed(installed.program, '--version').stdout == f'mmarcface {__version__}\n'
    assert {path.stem for path in (ROOT / 'tools').glob('*.py')} == set(TOOLS)
    done = installed('-c', ALL_HELP, *TOOLS)
    assert all(f'usage: mmarcface {tool} ' in done.stdout for tool in TOOLS)
    assert 'Train a model: mmarcface train CONFIG' in done.stdout
    assert 'python tools/' not in done.stdout


def test_a_config_is_trained_by_its_name(installed):
    few = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'work_dir=a folder']
    few += ['default_hooks.checkpoint.interval=1', 'train_dataloader.batch_size=10']
    few += ['train_dataloader.dataset.people=[1]', 'val_dataloader.dataset.people=[21,22]']
    done = installed(installed.program, 'train', 'iresnet18-arcface_orl', '--cfg-options', *few)
    assert (installed.folder / 'a folder' / 'epoch_1.pth').exists()
    assert '  mmarcface test ' in done.stdout


def test_a_mistake_is_told_in_one_line(installed):
    done = installed(installed.program, 'test', 'iresnet18-arcface-orl', code=2)
    advice = 'did you mean iresnet18-arcface_orl or'
    assert done.stderr.startswith(
        f'mmarcface test: error: config iresnet18-arcface-orl does not exist: {advice}'
    )
    assert done.stderr.count('\n') == 1
    done = installed(installed.program, 'trian', code=2)
    assert "invalid choice: 'trian'" in done.stderr


def test_configs_and_tools_are_packaged(tmp_path):
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'build', '-b', tmp_path / 'b', '--build-lib', tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    packaged = tmp_path / 'mmarcface' / '.mim'
    assert (packaged / 'model-index.yml').is_file()
    for folder in ('configs', 'tools'):
        files = {
            path.relative_to(ROOT / folder)
            for path in (ROOT / folder).rglob('*')
            if path.is_file() and '__pycache__' not in path.parts
        }
        assert files
        assert all((packaged / folder / path).is_file() for path in files)
    code = 'import mmarcface, mmpretrain; print(mmpretrain.list_models("*arcface_orl"))'
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert 'iresnet18-arcface_orl' in done.stdout


def test_nothing_is_laid_over_the_forks(tmp_path):
    """Only an extra brings packages that onedl-mmengine and onedl-mmpretrain bring, too."""
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '-e', tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    package = PathDistribution(tmp_path / 'mmarcface.egg-info')
    wanted = list(map(Requirement, package.requires))
    stack = {'mmengine', 'mmpretrain', 'mmcv-lite'}
    extras = package.metadata.get_all('Provides-Extra')
    assert {'lite', 'demo', 'tests', 'all'} <= set(extras)
    for extra in ('', *extras):
        names = {w.name for w in wanted if w.marker is None or w.marker.evaluate(dict(extra=extra))}
        assert 'torch' in names
        assert {name for name in names if name.startswith('mm')} == (stack if extra else set())
