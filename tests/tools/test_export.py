"""Exporting by the command line: the figures of the checkpoint, and one line for each mistake."""

import json

import cv2
import numpy as np
import pytest
import torch

from mmarcface.apis import get_model
from mmarcface.manifest import load_manifest
from tests.conftest import ROOT

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

CONFIG = ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py'
SMALL = ('--cfg-options', 'model.image_encoder.base_channels=8')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('orl') / 'net.pth'
    model = get_model('iresnet18-arcface_orl', image_encoder=dict(base_channels=8))
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


def test_the_file_has_the_figures_of_the_checkpoint(run_tool, tmp_path, checkpoint):
    done = run_tool(
        'export.py', CONFIG, checkpoint, '--out', 'net.onnx', '--for', 'insightface', *SMALL
    )
    assert 'ONNX, opset 18, fp32, preprocessing outside, 128 numbers. On 64 images' in done.output
    assert 'takes 56 x 48 (height x width), so there only get_feat works' in done.output
    run_tool('test.py', CONFIG, checkpoint, '--out', 'torch.json', *SMALL)
    run_tool('test.py', 'net_onnx.py', '--out', 'onnx.json')
    expected, found = (
        json.loads((tmp_path / name).read_text()) for name in ('torch.json', 'onnx.json')
    )
    # To 3 digits, but for one of the 900 pairs of the same person.
    assert found == pytest.approx(expected, abs=0.12)
    assert found['verification/AUC'] == pytest.approx(expected['verification/AUC'], abs=1e-2)


def test_figures_before_and_after_are_shown_and_kept(run_tool, tmp_path, checkpoint):
    options = ['--precision', 'int8', '--calibration-images', '40', *SMALL]
    done = run_tool('export.py', CONFIG, checkpoint, '--out', 'net.onnx', *options)
    table = done.output[done.output.index('On the test set, in percent') :]
    measured = load_manifest(tmp_path / 'net.onnx').measured
    figures, sizes = measured['figures'], measured['bytes']
    assert sizes['exported'] == (tmp_path / 'net.onnx').stat().st_size < sizes['checkpoint']
    for name in ('retrieval/Recall@1', 'verification/AUC', 'verification/TAR@FAR=0.01'):
        before, after = figures['checkpoint'][name], figures['exported'][name]
        (row,) = [line for line in table.splitlines() if f' {name} ' in line]
        assert f'{before:.2f}' in row
        assert f'{after:.2f}' in row
        assert after == pytest.approx(before, abs=2)
    # It is what tools/test.py says of the file.
    run_tool('test.py', 'net_onnx.py', '--out', 'onnx.json')
    tested = json.loads((tmp_path / 'onnx.json').read_text())
    assert {n: tested[n] for n in figures['exported']} == pytest.approx(figures['exported'])


MISTAKES = {
    'suffix': (['--out', 'net.pb'], 'out must end in one of .onnx, .pt2, .ts'),
    'no folder': (['--out', 'gone/net.onnx'], 'the folder of gone/net.onnx does not exist'),
    'opset': (['--opset', '9'], 'opset must be in [18, 23], got 9'),
    'tolerance': (['--tolerance', '0'], 'more than the tolerance 0'),
    'int8 of torch': (['--out', 'net.pt2', '--precision', 'int8'], 'int8 is for ONNX files alone'),
    'insightface of torch': (['--out', 'net.ts', '--for', 'insightface'], 'ONNX files alone'),
    'images': (['--images', 'none'], 'the folder of images none does not exist'),
    'empty folder': (['--images', '.'], 'there are no images in .'),
    'calibration': (
        ['--precision', 'int8', '--calibration-images', '0'],
        'the number of images must be at least 1, got 0',
    ),
    'other model': (
        ['--cfg-options', 'model.image_encoder.base_channels=16'],
        'net.pth is the checkpoint of another model',
    ),
}


@pytest.mark.parametrize('kind', MISTAKES)
def test_mistakes(run_tool, tmp_path, checkpoint, kind):
    options, message = MISTAKES[kind]
    out = [] if '--out' in options else ['--out', 'net.onnx']
    small = [] if '--cfg-options' in options else SMALL
    done = run_tool('export.py', CONFIG, checkpoint, *out, *options, *small, fails=True)
    assert message in done.output.splitlines()[-1]
    assert 'Traceback' not in done.output
    assert [path.name for path in tmp_path.iterdir()] == []


def test_missing_checkpoint(run_tool):
    done = run_tool('export.py', CONFIG, 'gone.pth', '--out', 'net.onnx', fails=True)
    assert 'gone.pth' in done.output.splitlines()[-1]


def test_a_config_of_the_user_is_not_replaced(run_tool, tmp_path, checkpoint):
    own = tmp_path / 'net_onnx.py'
    own.write_text('work_dir = "mine"')
    command = ['export.py', CONFIG, checkpoint, '--out', 'net.onnx', *SMALL]
    done = run_tool(*command, fails=True)
    assert 'net_onnx.py exists, and the config that tests net.onnx' in done.output.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == [own.name]
    assert own.read_text() == 'work_dir = "mine"'


def test_some_images_of_a_large_folder_are_compared(run_tool, tmp_path, checkpoint):
    """And what an earlier export wrote is replaced."""
    (tmp_path / 'images').mkdir()
    for number in range(100):
        image = np.full((56, 48, 3), 2 * number, np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{number:03}.png'), image)
    for _ in range(2):
        done = run_tool(
            'export.py', CONFIG, checkpoint, '--out', 'net.onnx', '--images', 'images', *SMALL
        )
        assert 'On 64 images' in done.output
        assert load_manifest(tmp_path / 'net.onnx').measured['images'] == 64
