"""An ONNX file through tools/test.py: the figures of the net that it was exported from."""

import ast
import json
import re

import pytest
import torch
from mmengine.config import Config

from mmarcface.apis import get_model
from tests.conftest import ROOT

CONFIG = ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py'
TYPE = 'mmarcface.OnnxBackbone'


def test_figures_are_those_of_the_checkpoint(run_tool, run_on_two, tmp_path):
    for package in ('onnxruntime', 'onnxscript'):
        pytest.importorskip(package, reason=f'{package} comes with mmarcface[tests]')
    torch.manual_seed(0)
    model = get_model('iresnet18-arcface_orl')
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'net.pth')
    torch.onnx.export(
        model.image_encoder.eval(),
        (torch.randn(2, 3, 56, 48),),
        tmp_path / 'net.onnx',
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim('batch')},),
    )
    options = [
        'model.head=None',
        'model.image_encoder._delete_=True',
        f'model.image_encoder.type={TYPE}',
        f'model.image_encoder.path={tmp_path / "net.onnx"}',
    ]
    run_tool('test.py', CONFIG, '--out', 'torch.json', tmp_path / 'net.pth')
    run_tool('test.py', CONFIG, '--out', 'onnx.json', '--cfg-options', *options)
    run_on_two('test.py', CONFIG, '--out', 'onnx2.json', '--cfg-options', *options)
    expected, figures, of_two = (
        json.loads((tmp_path / name).read_text())
        for name in ('torch.json', 'onnx.json', 'onnx2.json')
    )
    # One of the 900 pairs of the same person is 0.11 percent, and rounding may move a few.
    assert figures == pytest.approx(expected, abs=0.5)
    assert of_two == pytest.approx(figures, abs=0.5)


def test_torch_model_needs_a_checkpoint(run_tool):
    done = run_tool('test.py', CONFIG, fails=True)
    message = 'the model has parameters, such as image_encoder.conv1.weight, and needs a checkpoint'
    assert message in done.output.splitlines()[-1]


@pytest.mark.parametrize(
    'name', ['mobilefacenet-onnx_orl', 'mobilefacenet-onnx_orl-1n', 'sface-onnx_orl']
)
def test_figures_of_released_models(run_tool, tmp_path, name):
    """The docstring of the config gives the figures of the model, where somebody has fetched it."""
    config = ROOT / 'configs' / 'verification' / f'{name}.py'
    model = ROOT / Config.fromfile(config).model.image_encoder.path
    if not model.is_file():
        pytest.skip(f'{model.name} comes from a package, see configs/verification/README.md')
    run_tool(
        'test.py', config, '--out', 'figures.json', '--cfg-options',
        f'model.image_encoder.path={model}',
    )  # fmt: skip
    figures = json.loads((tmp_path / 'figures.json').read_text())
    figures = {key.partition('/')[2]: value for key, value in figures.items()}
    given = re.findall(r'(\S+) (\d+\.\d\d)', ast.get_docstring(ast.parse(config.read_text())))
    assert len(given) == 4
    for key, value in given:
        assert figures[key] == pytest.approx(float(value), abs=0.2)
