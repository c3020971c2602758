"""What is installed: configs, tools and the model index lie where mim looks for them."""

import subprocess
import sys
from importlib.metadata import PathDistribution

from packaging.requirements import Requirement

from .conftest import ROOT


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
