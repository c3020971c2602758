import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmarcface.functional.inversion import (
    BN_PRIORS,
    TOTAL_VARIATIONS,
    batch_norm_layers,
    batch_statistics,
    bn_prior,
    check_trained,
    squared_l2_distances,
    squared_l2_norm,
    total_variation,
)


def trained(model, seed=0):
    """Statistics as if of training, and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


def network(dtype=torch.float):
    torch.manual_seed(0)
    return trained(
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.Tanh(),
            nn.Conv2d(4, 5, 3, stride=2),
            nn.BatchNorm2d(5),
            nn.Flatten(),
            nn.Linear(30, 6),
            nn.BatchNorm1d(6),
        )
    ).to(dtype)


def prior_of(model, images, variant='arcface'):
    with batch_statistics(batch_norm_layers(model)) as statistics:
        model(images)
    return bn_prior(statistics, variant)


def stored_inputs(model, images):
    """What went into each BN layer, call by call, as numpy in fp64."""
    calls = []
    handles = [
        layer.register_forward_hook(
            lambda module, inputs, _: calls.append((module, inputs[0].detach().double().numpy()))
        )
        for layer in batch_norm_layers(model).values()
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return calls


def naive_prior(calls, variant):
    total = 0.0
    for place, (layer, values) in enumerate(calls):
        running = layer.running_mean.double().numpy(), layer.running_var.double().numpy()
        means, spreads = [], []
        for channel in range(values.shape[1]):
            flat = values[:, channel].ravel()
            mean = sum(flat) / len(flat)
            var = sum((flat - mean) ** 2) / len(flat)
            means.append(mean - running[0][channel])
            if variant == 'deepinversion':
                spreads.append(var - running[1][channel])
            else:
                spreads.append(var**0.5 - running[1][channel] ** 0.5)
            if variant == 'standardized':
                # In units of the std in training, with a tenth of the layer's, and epsilon.
                unit = (running[1][channel] + 0.01 * np.mean(running[1]) + 1e-5) ** 0.5
                means[-1], spreads[-1] = means[-1] / unit, spreads[-1] / unit
        if variant != 'deepinversion':
            total += sum(v**2 for v in means) + sum(v**2 for v in spreads)
        else:
            norms = sum(v**2 for v in means) ** 0.5 + sum(v**2 for v in spreads) ** 0.5
            total += norms * (10 if place == 0 else 1)
    return total


SHAPES = {
    'BatchNorm1d of (N, C)': (nn.BatchNorm1d, (7, 4)),
    'BatchNorm1d of (N, C, L)': (nn.BatchNorm1d, (3, 4, 5)),
    'BatchNorm2d': (nn.BatchNorm2d, (3, 4, 5, 6)),
    'BatchNorm3d': (nn.BatchNorm3d, (2, 4, 3, 4, 5)),
    'SyncBatchNorm': (nn.SyncBatchNorm, (3, 4, 5, 6)),
    'batch of one': (nn.BatchNorm2d, (1, 4, 5, 6)),
    'one value a channel': (nn.BatchNorm2d, (1, 4, 1, 1)),
    'one channel': (nn.BatchNorm2d, (3, 1, 5, 6)),
}


@pytest.mark.parametrize('variant', BN_PRIORS)
@pytest.mark.parametrize(('layer', 'shape'), SHAPES.values(), ids=SHAPES)
def test_prior_is_the_naive_one(layer, shape, variant):
    model = trained(nn.Sequential(layer(shape[1])))
    inputs = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = naive_prior(stored_inputs(model, inputs), variant)
    assert prior_of(model, inputs, variant).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('variant', BN_PRIORS)
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_prior_of_a_network_is_the_naive_one(variant, memory_format):
    model = network().to(memory_format=memory_format)
    images = torch.randn(3, 3, 9, 8).contiguous(memory_format=memory_format)
    expected = naive_prior(stored_inputs(model, images), variant)
    assert prior_of(model, images, variant).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('variant', BN_PRIORS)
def test_every_call_of_a_shared_layer_counts(variant):
    shared = nn.BatchNorm2d(3)
    model = trained(nn.Sequential(shared, nn.Sigmoid(), shared))
    images = torch.randn(2, 3, 4, 4)
    calls = stored_inputs(model, images)
    assert len(calls) == 2
    expected = naive_prior(calls, variant)
    assert prior_of(model, images, variant).item() == pytest.approx(expected, rel=1e-6)


def test_statistics_far_from_zero_are_exact():
    model = trained(nn.Sequential(nn.BatchNorm2d(4)))
    inputs = 1000 + 0.1 * torch.randn(16, 4, 14, 14)
    with batch_statistics(batch_norm_layers(model)) as statistics:
        model(inputs)
    values = inputs.double().numpy()
    (found,) = statistics
    assert found.name == '0'
    np.testing.assert_allclose(found.mean, values.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.var, values.var((0, 2, 3)), rtol=1e-3)
    torch.testing.assert_close(found.running_var, model[0].running_var, rtol=0, atol=0)


@pytest.mark.parametrize('variant', BN_PRIORS)
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_gradient_is_that_of_the_naive_formula(variant, memory_format):
    """Of the prior and of a loss behind the BN layers together."""
    model = network().to(memory_format=memory_format)
    start = torch.randn(3, 3, 9, 8).contiguous(memory_format=memory_format)
    with batch_statistics(batch_norm_layers(model)) as statistics:
        images = start.clone().requires_grad_()
        loss = model(images).square().sum()
        (loss + bn_prior(statistics, variant)).backward()

    exact = network(torch.double)
    calls = []
    for layer in batch_norm_layers(exact).values():
        layer.register_forward_hook(lambda m, inputs, _: calls.append((m, inputs[0])))
    truth = start.double().requires_grad_()
    total = exact(truth).square().sum()
    for place, (layer, values) in enumerate(calls):
        channels = values.transpose(0, 1).flatten(1)
        mean, var = channels.mean(1), channels.var(1, correction=0)
        gap = mean - layer.running_mean
        if variant != 'deepinversion':
            least = 0.01 * layer.running_var.mean() + 1e-5
            unit = layer.running_var + least if variant == 'standardized' else 1
            squares = gap**2 + (var**0.5 - layer.running_var**0.5) ** 2
            total = total + (squares / unit).sum()
        else:
            norms = (gap**2).sum() ** 0.5 + ((var - layer.running_var) ** 2).sum() ** 0.5
            total = total + norms * (1 if place else 10)
    total.backward()
    error = (images.grad - truth.grad).norm() / truth.grad.norm()
    assert error < 1e-5


@pytest.mark.parametrize('variant', BN_PRIORS)
def test_gradcheck_of_the_prior(variant):
    model = network(torch.double)
    images = torch.randn(2, 3, 9, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: prior_of(model, x, variant), images)


@pytest.mark.parametrize('variant', TOTAL_VARIATIONS)
def test_gradcheck_of_the_image_terms(variant):
    images = torch.randn(2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: total_variation(x, variant), images)
    assert torch.autograd.gradcheck(squared_l2_norm, images)


def test_gradcheck_of_embedding_distances():
    vectors = [torch.randn(3, 5, dtype=torch.double, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(squared_l2_distances, vectors)


@pytest.mark.parametrize('variant', BN_PRIORS)
@pytest.mark.parametrize('running_var', [0.0, 1.0])
def test_constant_channels_have_finite_gradients(variant, running_var):
    model = trained(nn.Sequential(nn.BatchNorm2d(2)))
    model[0].running_var.fill_(running_var)
    images = torch.full((2, 2, 3, 3), 0.5)
    images[:, 1] = torch.randn(2, 3, 3)
    images.requires_grad_()
    prior = prior_of(model, images, variant)
    prior.backward()
    assert torch.isfinite(prior)
    assert torch.isfinite(images.grad).all()
    # The mean still pulls.
    assert images.grad[:, 0].abs().min() > 0


@pytest.mark.parametrize('variant', BN_PRIORS)
def test_autocast(variant):
    model = network()
    start = torch.randn(8, 3, 9, 8)
    priors, gradients = [], []
    for enabled in (False, True):
        images = start.clone().requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            with batch_statistics(batch_norm_layers(model)) as statistics:
                half = model[0](images).dtype == torch.bfloat16
                model(images)
            prior = bn_prior(statistics, variant)
        assert half == enabled
        assert {s.mean.dtype for s in statistics} == {s.var.dtype for s in statistics}
        assert statistics[0].mean.dtype == prior.dtype == torch.float
        (gradient,) = torch.autograd.grad(prior, images)
        priors.append(prior.item())
        gradients.append(gradient)
    assert priors[1] == pytest.approx(priors[0], rel=0.01)
    assert priors[1] != priors[0]
    assert (gradients[1] - gradients[0]).norm() < 0.05 * gradients[0].norm()


def test_half_precision_sums_do_not_overflow():
    model = trained(nn.Sequential(nn.BatchNorm2d(1)))
    images = torch.full((4, 1, 64, 64), 200.0).bfloat16()
    with batch_statistics(batch_norm_layers(model)) as statistics:
        model.bfloat16()(images)
    assert statistics[0].mean.item() == 200
    assert statistics[0].var.item() == 0


def test_outputs_are_unchanged_and_hooks_are_gone():
    model = network()
    images = torch.randn(3, 3, 9, 8)
    plain = model(images)
    layers = batch_norm_layers(model)
    with batch_statistics(layers) as statistics:
        watched = model(images)
        assert all(layer._forward_pre_hooks for layer in layers.values())
    torch.testing.assert_close(watched, plain, rtol=0, atol=0)
    assert [s.name for s in statistics] == ['1', '4', '7'] == list(layers)
    with pytest.raises(KeyError, match='of the caller'), batch_statistics(layers):
        raise KeyError('of the caller')
    with pytest.raises(RuntimeError), batch_statistics(layers):
        model(images[:, :2])
    assert not any(layer._forward_pre_hooks for layer in layers.values())
    model(images)
    assert len(statistics) == 3


def test_layers_that_count():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('running_mean', torch.ones(3))
            self.register_buffer('running_var', torch.ones(3))

    model = nn.Sequential(
        nn.BatchNorm1d(3), nn.InstanceNorm2d(3, track_running_stats=True), Frozen(),
        nn.BatchNorm2d(3, track_running_stats=False), nn.Sequential(nn.SyncBatchNorm(3)),
    )  # fmt: skip
    assert list(batch_norm_layers(model)) == ['0', '2', '4.0']


def folded():
    model = network()
    fused = [fuse_conv_bn_eval(model[i], model[i + 1]) for i in (0, 3)]
    return nn.Sequential(fused[0], model[2], fused[1])


@pytest.mark.parametrize(
    'model',
    [
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)),
        folded,
    ],
)
def test_models_without_statistics_are_refused(model):
    message = r'has no batch normalization with running statistics.*BN was folded into the conv'
    with pytest.raises(ValueError, match=message):
        batch_norm_layers(model())


def test_untrained_statistics_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r'all 2 batch normalizations have mean 0 and variance 1'):
        check_trained(batch_norm_layers(model))
    model.train()(torch.randn(2, 3, 5, 5))
    check_trained(batch_norm_layers(model))
    check_trained({})


def test_prior_refuses():
    model = network()
    with pytest.raises(ValueError, match=r"variant of the BN prior must be one of .* got 'best'"):
        prior_of(model, torch.randn(2, 3, 9, 8), 'best')
    with pytest.raises(ValueError, match='no batch passed through a BN layer'):
        bn_prior([])
    with pytest.raises(ValueError, match=r"the total variation must be one of .* got 'best'"):
        total_variation(torch.zeros(1, 3, 4, 4), 'best')


def naive_total_variation(images, variant):
    number, channels, height, width = images.shape
    steps = [(1, 0), (0, 1)] if variant == 'squared' else [(1, 0), (0, 1), (1, 1), (1, -1)]
    squares = [0.0 for _ in steps]
    for place, (down, right) in enumerate(steps):
        for n, c, y, x in np.ndindex(number, channels, height, width):
            if y + down < height and 0 <= x + right < width:
                squares[place] += (images[n, c, y + down, x + right] - images[n, c, y, x]) ** 2
    return sum(squares) / number if variant == 'squared' else sum(s**0.5 for s in squares)


@pytest.mark.parametrize('variant', TOTAL_VARIATIONS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(shape=st.tuples(*(st.integers(1, n) for n in (3, 3, 5, 5))), seed=st.integers(0, 99))
def test_total_variation_is_that_of_loops(variant, shape, seed):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    expected = naive_total_variation(images.double().numpy(), variant)
    assert total_variation(images, variant).item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_flat_images_have_a_finite_gradient():
    for variant in TOTAL_VARIATIONS:
        images = torch.ones(2, 3, 4, 4, requires_grad=True)
        value = total_variation(images, variant)
        value.backward()
        assert value.item() == 0
        assert not images.grad.any()


def test_squared_l2_norm_is_a_mean_over_images():
    images = torch.arange(24.0).view(2, 3, 2, 2)
    assert squared_l2_norm(images).item() == sum(n * n for n in range(24)) / 2
    assert squared_l2_norm(images[:0]).item() == 0


def test_distances_by_hand():
    embeddings = torch.tensor([[3.0, 0], [1, 1], [0, 5], [2, 0]])
    targets = torch.tensor([[1.0, 0], [1, 0], [0, -1], [0, 0.1]])
    expected = [0, 2 - 2 / 2**0.5, 4, 2]
    np.testing.assert_allclose(squared_l2_distances(embeddings, targets), expected, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.tuples(*[st.floats(1e-3, 1e3)] * 2),
    seed=st.integers(0, 999),
)
def test_distances_are_of_directions(lengths, seed):
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, 4, 8))
    cosines = [a @ b / (a @ a * (b @ b)) ** 0.5 for a, b in zip(first, second, strict=True)]
    found = squared_l2_distances(
        torch.from_numpy(first * lengths[0]), torch.from_numpy(second * lengths[1])
    )
    np.testing.assert_allclose(found, 2 - 2 * np.array(cosines), atol=1e-9)
