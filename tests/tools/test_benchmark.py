"""Every command of the tool, on something small."""

import json
import sys

import pytest
import torch

SMALL = ('--batch', '4', '--dim', '8', '--rounds', '1')


def test_head_against_its_peers(run_tool, tmp_path):
    done = run_tool(
        'benchmark.py', 'head', '--classes', '500', '900', '--subcenters', '2', *SMALL,
        '--json', 'figures.json',
    )  # fmt: skip
    rows = json.loads((tmp_path / 'figures.json').read_text())
    names = [
        'limit',
        'arcface, fused',
        'arcface, chunked',
        'mmpretrain, ArcFaceClsHead',
        'pytorch-metric-learning, SubCenterArcFaceLoss',
    ]
    assert [row['head'] for row in rows] == names * 2
    assert [row['classes'] for row in rows] == [500] * 5 + [900] * 5
    assert all(row['ms'] > 0 for row in rows)
    assert rows[0]['ratio'] == 1
    assert all(name in done.stdout for name in names)


def test_every_loss(run_tool, tmp_path):
    losses = [
        'softmax', 'norm-softmax', 'sphereface', 'sphereface-r', 'sphereface2', 'cosface',
        'arcface', 'combined-margin', 'magface', 'adaface', 'curricularface', 'elasticface',
        'uniface',
    ]  # fmt: skip
    run_tool(
        'benchmark.py', 'head', '--classes', '300', '--no-peers', *SMALL, '--impl', 'auto',
        '--loss', *losses, '--json', 'figures.json',
    )  # fmt: skip
    rows = json.loads((tmp_path / 'figures.json').read_text())
    assert [r['head'] for r in rows] == [n for x in losses for n in ('limit', f'{x}, auto')]


def test_training_step(run_tool, tmp_path):
    run_tool(
        'benchmark.py', 'step', '--classes', '1000', '--subcenters', '2', *SMALL,
        '--json', 'figures.json',
    )  # fmt: skip
    (row,) = json.loads((tmp_path / 'figures.json').read_text())
    weight = torch.nn.Parameter(torch.ones(2000, 8))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    kept = [weight, weight.grad, optimizer.state[weight]['momentum_buffer']]
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept)
    assert row['weight, gradient, momentum (gb)'] == pytest.approx(size / 1e9)
    # torch alone takes more.
    assert 0.1 < row['all resident (gb)'] < 100
    assert row['s/step'] > 0


def test_missing_peer_is_named(run_tool, monkeypatch):
    for module in ('pytorch_metric_learning', 'pytorch_metric_learning.losses'):
        monkeypatch.setitem(sys.modules, module, None)
    done = run_tool('benchmark.py', 'head', '--classes', '300', *SMALL)
    assert 'missing: pytorch-metric-learning (pip install pytorch-metric-learning)' in done.stdout
    assert 'mmpretrain, ArcFaceClsHead' in done.stdout


def test_data(run_tool, tmp_path):
    run_tool(
        'benchmark.py', 'data', '--images', '60', '--workers', '0', '2', '--rounds', '1',
        '--json', 'figures.json',
    )  # fmt: skip
    rows = json.loads((tmp_path / 'figures.json').read_text())
    names = ['limit', '.rec', 'folder', '.rec, 0 workers, packed', '.rec, 2 workers, packed']
    assert [row['source'] for row in rows] == names
    assert rows[0]['ratio'] == 1
    assert all(row['images/s'] > 0 for row in rows)


def test_inversion_and_retrieval_as_commands(run_tool, tmp_path):
    run_tool(
        'benchmark.py', 'inversion', '--batch', '2', '--size', '16', '--rounds', '1',
        '--json', 'figures.json',
    )  # fmt: skip
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert all(figures[f'{name}_ms'] > 0 for name in ('limit', 'ours', 'hooks', 'hooks_frozen'))
    done = run_tool(
        'benchmark.py', 'retrieval', '--queries', '40', '--gallery', '40', '--items', '8',
        '--dim', '8', '--rounds', '1',
    )  # fmt: skip
    assert 'metric_ms' in done.stdout


@pytest.fixture
def small_config(tmp_path):
    """A config of a net that takes milliseconds."""
    path = tmp_path / 'small.py'
    net = dict(
        type='mmarcface.IResNet', depth=18, embedding_dim=8, input_size=[16, 16], base_channels=4
    )
    path.write_text(f'model = dict(image_encoder={net})')
    return path


def test_model(run_tool, small_config, tmp_path):
    for package in ('onnxruntime', 'onnxscript'):
        pytest.importorskip(package, reason=f'{package} comes with mmarcface[tests]')
    runs = ['eager', 'onnx', 'onnx-int8']
    done = run_tool(
        'benchmark.py', 'model', '--model', small_config, '--batch', '3', '--rounds', '1',
        '--run', *runs, '--json', 'figures.json',
    )  # fmt: skip
    rows = json.loads((tmp_path / 'figures.json').read_text())
    assert [row['run'] for row in rows] == runs
    assert all(row['model'] == 'small' and row['ms'] > 0 and row['images/s'] > 0 for row in rows)
    size = {row['run']: row['weights_mb'] for row in rows}
    assert size['onnx-int8'] < size['onnx']
    assert 'gflops' in done.stdout


@pytest.mark.slow
def test_compiled_model(run_tool, small_config, tmp_path):
    run_tool(
        'benchmark.py', 'model', '--model', small_config, '--batch', '2', '--rounds', '1',
        '--run', 'eager', 'compiled', '--json', 'figures.json',
    )  # fmt: skip
    rows = json.loads((tmp_path / 'figures.json').read_text())
    assert [row['run'] for row in rows] == ['eager', 'compiled']


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ('r19', 'or a config with an image_encoder, got r19'),
        ('nothing.py', 'or a config with an image_encoder, got nothing.py'),
        ('pixels.py', 'pixels.py must be a net of this package in torch, for color images'),
        ('gray.py', 'gray.py must be a net of this package in torch, for color images'),
    ],
)
def test_what_is_no_model(run_tool, tmp_path, model, message):
    (tmp_path / 'nothing.py').write_text('optimizer = None')
    gray = dict(type='mmarcface.LeNetPlus', in_channels=1)
    for name, encoder in (('pixels', dict(type='mmarcface.RawPixels')), ('gray', gray)):
        (tmp_path / f'{name}.py').write_text(f'model = dict(image_encoder={encoder})')
    done = run_tool('benchmark.py', 'model', '--model', model, fails=True)
    assert message in done.output.splitlines()[-1]


def test_compiler_is_missing(run_tool, monkeypatch):
    monkeypatch.setenv('PATH', '')
    monkeypatch.delenv('CXX', raising=False)
    done = run_tool('benchmark.py', 'model', '--run', 'compiled', fails=True)
    assert 'torch.compile needs a C++ compiler' in done.output.splitlines()[-1]
