"""What is installed: configs, tools and the model index lie where mim looks for them."""

import subprocess
import sys

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
