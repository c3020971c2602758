"""The figures of benchmarks where times and memory are given."""

import pytest
import torch

from mmarcface.apis.benchmarks import heads, inversion, models, retrieval, timing
from mmarcface.apis.benchmarks.timing import best_times, peak_extra_memory
from mmarcface.models import IResNet


@pytest.fixture
def given_times(monkeypatch):
    """Have each candidate run once, and take another half second than the last."""

    def times_of(candidates, rounds):
        assert rounds == 1
        for run in candidates.values():
            run()
        return {name: 0.5 * place for place, name in enumerate(candidates, 1)}

    for module in (heads, inversion, models, retrieval):
        monkeypatch.setattr(module, 'best_times', times_of)


def test_times_are_the_least_of_rounds_in_turns(monkeypatch):
    now, ran = [0.0], []
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])
    lasts = dict(one=iter([5.0, 3.0, 4.0]), other=iter([1.0, 2.0, 7.0]))

    def candidate(name):
        ran.append(name)
        now[0] += next(lasts[name])

    candidates = {name: lambda name=name: candidate(name) for name in lasts}
    assert best_times(candidates, 3) == dict(one=3.0, other=1.0)
    assert ran == ['one', 'other'] * 3


def test_memory_is_the_peak_above_that_before():
    extra = peak_extra_memory(lambda: torch.ones(2**23).sum())
    if extra is None:
        pytest.skip('measured on Linux only')
    assert extra == pytest.approx(4 * 2**23, rel=0.2)
    assert peak_extra_memory(lambda: None) < 2**22


def test_figures_of_a_head(given_times, monkeypatch):
    monkeypatch.setattr(heads, 'peak_extra_memory', lambda run, device: 10_000)
    limit, fused = heads.measure_heads(
        [100], implementations=['fused'], batch=5, dim=4, subcenters=2, peers=False, rounds=1
    )
    assert (limit['ms'], fused['ms']) == (500, 1000)
    assert (limit['ratio'], fused['ratio']) == (1, 2)
    assert fused['us/class'] == 10_000
    # 200 centers of 4 numbers are 3200 bytes, and 5 x 200 numbers 4000.
    assert fused['extra_mb'] == pytest.approx(0.0068)
    assert fused['buffers'] == pytest.approx(1.7)


def test_inversion(given_times):
    (figures,) = inversion.measure_inversion(depth=18, batch=2, size=16, rounds=1)
    assert figures == {
        'limit_ms': 500,
        'ours_ms': 1000,
        'hooks_ms': 1500,
        'hooks_frozen_ms': 2000,
        'ours / limit': 2,
        'hooks / ours': 1.5,
        'hooks_frozen / ours': 2,
    }


def test_retrieval(given_times):
    (row,) = retrieval.measure_retrieval(queries=40, gallery=50, items=8, dim=8, rounds=1)
    assert (row['metric_ms'], row['limit_ms'], row['ratio']) == (500, 1000, 0.5)
    # 90 embeddings of 8 numbers.
    assert row['embeddings_mb'] == pytest.approx(0.00288)


def test_flops():
    """As by hand: for each output, a multiplication with each weight that leads to it."""

    class Attention(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.scaled_dot_product_attention(x, x[..., :3, :], x[..., :3, :])

    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(4 * 8 * 8, 5)
    )
    images = torch.randn(1, 3, 8, 8)
    assert models.count_flops(layers, images) == 3 * 9 * 4 * 64 + 4 * 64 * 5
    # Three heads of 8 queries and 3 keys, of 8 numbers each.
    assert models.count_flops(Attention(), images) == 2 * 3 * 8 * 3 * 8


def test_figures_of_a_net(given_times, monkeypatch):
    net = dict(type='IResNet', depth=18, embedding_dim=8, input_size=16, base_channels=4)
    monkeypatch.setitem(models.NETS, 'r18', net)
    memory = iter([3_000_000, None])
    monkeypatch.setattr(models, 'peak_extra_memory', lambda run: (run(), next(memory))[1])
    monkeypatch.setattr(models, '_prepare', lambda run, net, folder: (lambda: net, 2_000_000))
    first, second = models.measure_models(['r18'], ['eager', 'again'], batch=4, rounds=1)
    parameters = sum(p.numel() for p in IResNet(18, 8, 16, base_channels=4).parameters())
    assert (first['model'], first['run'], second['run']) == ('r18', 'eager', 'again')
    assert first['params_m'] == pytest.approx(parameters / 1e6)
    assert (first['weights_mb'], first['peak_mb'], second['peak_mb']) == (2, 3, None)
    # Half a second, and a second, for one image and for four.
    assert (first['ms'], second['ms']) == (500, 1000)
    assert (first['images/s'], second['images/s']) == (8, 4)
    assert (first['ratio'], second['ratio']) == (1, 0.5)
