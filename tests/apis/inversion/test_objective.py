"""The objective of a batch: its gradient, its terms image by image, and what it leaves alone."""

import numpy as np
import pytest
import torch
from torch import nn

from mmarcface.apis import InversionSettings
from mmarcface.apis.inversion.model import InversionModel
from mmarcface.apis.inversion.objective import Objective
from mmarcface.apis.inversion.targets import resolve_targets
from mmarcface.functional.inversion import batch_norm_layers, batch_statistics

from .test_search import SIZE, Tiny, weight


def objective_of(targets, dtype=torch.float, **settings):
    head = weight().to(dtype) if isinstance(targets, list) else None
    scale = None if head is None else 16.0
    net = InversionModel.of(Tiny().to(dtype), head, SIZE, scale=scale)
    layers = batch_norm_layers(net.model)
    settings = InversionSettings(center_weight=2.0, tv_weight=0.1, **settings)
    return Objective(
        net,
        layers,
        resolve_targets(net, targets),
        settings,
        lambda step: torch.Generator().manual_seed(step + 1),
    )


@pytest.mark.parametrize(
    'settings', [dict(), dict(gray=True), dict(jitter=1, flip=True), dict(halvings=1)], ids=str
)
@pytest.mark.parametrize('targets', [[0, 3], weight()[:2]], ids=['classes', 'embeddings'])
def test_gradient_is_the_slope(targets, settings):
    """Along a random direction, by finite differences in fp64."""
    objective = objective_of(targets, torch.double, **settings)
    with objective.net.frozen():
        pixels = objective.noise().double().requires_grad_()
        with batch_statistics(objective.layers) as statistics:
            terms = objective.terms(pixels, 3, statistics)
            (gradient,) = torch.autograd.grad(terms['objective'], pixels)
        direction = torch.randn(
            pixels.shape, generator=torch.Generator().manual_seed(9), dtype=torch.double
        )
        step = 1e-6
        ends = [objective.value(pixels.detach() + s * step * direction, 3) for s in (-1, 1)]
    assert (gradient * direction).sum().item() == pytest.approx(
        (ends[1] - ends[0]) / (2 * step), rel=1e-4
    )


def test_same_pixels_give_the_same_terms():
    objective = objective_of([0, 3], jitter=2, flip=True)
    with objective.net.frozen():
        pixels = objective.noise()
        before = pixels.clone()
        values = [objective.value(pixels, step) for step in (1, 2, 1)]
    assert values[0] == values[2] != values[1]
    assert torch.equal(pixels, before)
    assert torch.equal(objective.noise(), pixels)


def test_terms_of_images_have_the_mean_of_their_batch():
    objective = objective_of([0, 3, 1])
    with objective.net.frozen():
        pixels = objective.net.to_pixels(objective.images(objective.noise()))
        total, columns = objective.evaluate(pixels)
        with torch.no_grad(), batch_statistics(objective.layers) as statistics:
            batch = objective.terms(objective.net.from_pixels(pixels), 0, statistics)
    for name, value in batch.items():
        assert np.mean(columns[name]) == pytest.approx(float(value), rel=1e-5), name
    assert total == pytest.approx(float(batch['objective']), rel=1e-6)
    rgb = torch.from_numpy(pixels.numpy()[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        embeddings = nn.functional.normalize(Tiny()((rgb - 127.5) / 127.5))
    cosines = (embeddings * nn.functional.normalize(weight()[[0, 3, 1]])).sum(1)
    np.testing.assert_allclose(columns['cosine'], cosines, atol=1e-5)


def test_limits_are_those_of_pixels():
    assert objective_of([0]).limits is None
    low, high = objective_of([0], clip=True).limits
    assert low.flatten().tolist() == [-1] * 3
    assert high.flatten().tolist() == [1] * 3
