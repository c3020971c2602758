"""The figures are not checked, but that every command measures what it says."""

import json

import pytest

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
    run_tool('benchmark.py', 'step', '--classes', '1000', *SMALL, '--json', 'figures.json')
    (row,) = json.loads((tmp_path / 'figures.json').read_text())
    assert row['weight, gradient, momentum (gb)'] == pytest.approx(3e-9 * 1000 * 8 * 4)
    assert row['all resident (gb)'] > 0.1


def test_inversion(run_tool, tmp_path):
    run_tool(
        'benchmark.py', 'inversion', '--batch', '2', '--size', '16', '--rounds', '1',
        '--json', 'figures.json',
    )  # fmt: skip
    figures = json.loads((tmp_path / 'figures.json').read_text())
    times = ['limit_ms', 'ours_ms', 'hooks_ms', 'hooks_frozen_ms']
    assert all(figures[name] > 0 for name in times)
    assert figures['ours / limit'] == pytest.approx(figures['ours_ms'] / figures['limit_ms'])


def test_missing_peer_is_named(run_tool, tmp_path):
    (tmp_path / 'pytorch_metric_learning').mkdir()
    (tmp_path / 'pytorch_metric_learning/losses.py').write_text('')
    (tmp_path / 'sitecustomize.py').write_text(
        'import sys\nsys.modules["pytorch_metric_learning"] = None\n'
    )
    done = run_tool(
        'benchmark.py', 'head', '--classes', '300', *SMALL,
        PYTHONPATH=f'{tmp_path}:{run_tool.__globals__["ROOT"]}',
    )  # fmt: skip
    assert 'missing: pytorch-metric-learning (pip install -e ".[bench]")' in done.stdout
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


def test_retrieval(run_tool):
    done = run_tool(
        'benchmark.py', 'retrieval', '--queries', '40', '--gallery', '40', '--items', '8',
        '--dim', '8', '--rounds', '1',
    )  # fmt: skip
    assert 'metric_ms' in done.stdout
