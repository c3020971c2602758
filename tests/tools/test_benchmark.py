"""What every command measures, and its figures where times and memory are given."""

import json
import sys
from argparse import Namespace

import pytest
import torch

from tests.in_process import fresh_state, load_tool

SMALL = ('--batch', '4', '--dim', '8', '--rounds', '1')


@pytest.fixture
def benchmark(monkeypatch):
    """The tool, where each candidate runs once, and takes another half second than the last."""
    tool = load_tool('benchmark.py')

    def times_of(candidates, rounds):
        assert rounds == 1
        for run in candidates.values():
            run()
        return {name: 0.5 * place for place, name in enumerate(candidates, 1)}

    monkeypatch.setattr(tool, 'best_times', times_of)
    with fresh_state():
        yield tool


def test_times_are_the_least_of_rounds_in_turns(monkeypatch):
    tool, now, ran = load_tool('benchmark.py'), [0.0], []
    monkeypatch.setattr(tool.time, 'perf_counter', lambda: now[0])
    lasts = dict(one=iter([5.0, 3.0, 4.0]), other=iter([1.0, 2.0, 7.0]))

    def candidate(name):
        ran.append(name)
        now[0] += next(lasts[name])

    candidates = {name: lambda name=name: candidate(name) for name in lasts}
    assert tool.best_times(candidates, 3) == dict(one=3.0, other=1.0)
    assert ran == ['one', 'other'] * 3


def test_memory_is_the_peak_above_that_before():
    tool = load_tool('benchmark.py')
    extra = tool.peak_extra_memory(lambda: torch.ones(2**23).sum())
    if extra is None:
        pytest.skip('measured on Linux only')
    assert extra == pytest.approx(4 * 2**23, rel=0.2)
    assert tool.peak_extra_memory(lambda: None) < 2**22


def test_figures_of_a_head(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, 'peak_extra_memory', lambda run, device: 10_000)
    args = Namespace(
        batch=5, dim=4, subcenters=2, classes=[100], loss=['arcface'], impl=['fused'],
        peers=False, device='cpu', rounds=1,
    )  # fmt: skip
    limit, fused = benchmark.head(args)
    assert (limit['ms'], fused['ms']) == (500, 1000)
    assert (limit['ratio'], fused['ratio']) == (1, 2)
    assert fused['us/class'] == 10_000
    # 200 centers of 4 numbers are 3200 bytes, and 5 x 200 numbers 4000.
    assert fused['extra_mb'] == pytest.approx(0.0068)
    assert fused['buffers'] == pytest.approx(1.7)


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


def test_inversion(benchmark):
    args = Namespace(depth=18, batch=2, size=16, device='cpu', rounds=1)
    (figures,) = benchmark.inversion(args)
    assert figures == {
        'limit_ms': 500,
        'ours_ms': 1000,
        'hooks_ms': 1500,
        'hooks_frozen_ms': 2000,
        'ours / limit': 2,
        'hooks / ours': 1.5,
        'hooks_frozen / ours': 2,
    }


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


def test_retrieval(benchmark):
    args = Namespace(queries=40, gallery=50, items=8, dim=8, rounds=1)
    (row,) = benchmark.retrieval(args)
    assert (row['metric_ms'], row['limit_ms'], row['ratio']) == (500, 1000, 0.5)
    # 90 embeddings of 8 numbers.
    assert row['embeddings_mb'] == pytest.approx(0.00288)


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
