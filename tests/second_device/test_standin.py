"""The device does what CUDA does: a GPU passes these tests, too."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy


@pytest.mark.parametrize(
    'make',
    [
        lambda d: torch.tensor([1.0, 2], device=d),
        lambda d: torch.as_tensor(3.0, device=d),
        lambda d: torch.zeros(3).to(d),
        lambda d: torch.full((2,), 3.0, device=d),
        lambda d: torch.arange(1, 9, 2, device=d),
        lambda d: torch.linspace(0, 1, 3, device=d),
        lambda d: torch.eye(2, device=d),
        lambda d: torch.randn(3, device=d),
        lambda d: torch.randint(9, (3,), device=d),
        lambda d: torch.randperm(3, device=d),
        lambda d: torch.ones(3, device=d).new_zeros(2),
        lambda d: torch.zeros_like(torch.ones(3), device=d),
    ],
)
def test_tensors_are_made_on_it(device, make):
    made = make(device)
    assert made.device == device
    assert not made.is_cpu
    assert made.cpu().device == torch.device('cpu')
    assert made.to(device) is made


MIXED = 'Expected all tensors to be on the same device|is on cpu|on the same device'


@pytest.mark.parametrize(
    'mix',
    [
        lambda x, y: x + y,
        lambda x, y: y + x,
        lambda x, y: x @ y,
        lambda x, y: x.add_(y),
        lambda x, y: y.add_(x),
        lambda x, y: torch.cat([x, y]),
        lambda x, y: torch.stack([x.sum(), y.sum()]),
        lambda x, y: torch.where(y > 0, x, 0),
        lambda x, y: x.masked_fill(y > 0, 0),
        lambda x, y: x.gather(0, y.long()),
        lambda x, y: x.index_select(0, y.long()),
        lambda x, y: y[x.long()],
        lambda x, y: x.sum().add_(y),
        lambda x, y: y.sum().add_(x.sum()),
        lambda x, y: y + x.sum(),
        lambda x, y: torch.equal(x, y),
        lambda x, y: x.__setitem__(0, y),
        lambda x, y: nn.Linear(3, 2)(x),
        lambda x, y: nn.Linear(3, 2).to(x.device)(y),
    ],
)
def test_tensors_of_the_cpu_do_not_mix(device, mix):
    with pytest.raises((RuntimeError, IndexError)):
        mix(torch.ones(3, device=device), torch.ones(3))


@pytest.mark.parametrize(
    'mix',
    [
        lambda x, y: x + y.sum(),
        lambda x, y: x.mul_(y.sum()),
        lambda x, y: x.lerp_(x, y.sum()),
        lambda x, y: x[y.long()],
        lambda x, y: x[y > 0],
        lambda x, y: x.masked_fill(x > 0, y.sum()),
        lambda x, y: x.__setitem__(y > 0, y.sum()),
        lambda x, y: x.index_put_((y.long(),), x[:1].clone(), accumulate=True),
        lambda x, y: x.copy_(y),
        lambda x, y: y.copy_(x),
    ],
)
def test_numbers_indices_and_copies_do_mix(device, mix):
    mix(torch.ones(3, device=device), torch.ones(3))


def test_arrays_are_made_from_the_cpu_alone(device):
    x = torch.ones(3, device=device)
    for make in (x.numpy, lambda: np.asarray(x), lambda: np.stack([x, x])):
        with pytest.raises(TypeError, match=r'Use Tensor.cpu\(\) to copy'):
            make()
    assert x.numpy(force=True).tolist() == x.tolist() == [1, 1, 1]
    assert (float(x[0]), int(x.sum()), f'{x.sum():.1f}') == (1, 3, '3.0')
    with pytest.raises(RuntimeError, match='generator'):
        x.normal_(generator=torch.Generator())


def test_random_numbers_are_its_own(device):
    torch.manual_seed(3)
    first, of_cpu = torch.randn(5, device=device), torch.randn(5)
    torch.manual_seed(3)
    assert torch.equal(torch.randn(5), of_cpu)
    assert torch.equal(torch.randn(5, device=device), first)
    assert not torch.equal(torch.randn(5, device=device), first)
    assert not torch.equal(first.cpu(), of_cpu)


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(144, 5)
    )


@pytest.mark.parametrize('optimizer', [torch.optim.SGD, torch.optim.AdamW])
def test_training_is_that_of_the_cpu(device, optimizer):
    """Also of a model that was copied there, and with a view written to in place."""
    states = []
    for model in (net(), copy.deepcopy(net().to(device))):
        steps = optimizer(model.parameters(), lr=0.1)
        for seed in range(3):
            where = next(model.parameters()).device
            images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
            logits = model(images.to(where)) * 2
            logits[:, 1] *= 3
            loss = cross_entropy(logits, torch.arange(4, device=where))
            steps.zero_grad()
            loss.backward()
            steps.step()
        states.append(model.state_dict())
    for name, value in states[0].items():
        assert states[1][name].device == device
        torch.testing.assert_close(states[1][name].cpu(), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('map_location', [None, 'cpu', 'device'])
def test_files(device, map_location):
    if map_location == 'device':
        map_location = device
    file = io.BytesIO()
    torch.save(net().to(device).state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, map_location=map_location, weights_only=True)
    for name, value in net().state_dict().items():
        assert loaded[name].device == torch.device(map_location or device)
        assert torch.equal(loaded[name].cpu(), value)


def test_precision_of_autocast(device):
    x = torch.ones(2, 2, device=device, requires_grad=True)
    with torch.autocast(device.type, torch.bfloat16):
        product = x @ x
        assert product.dtype == torch.bfloat16
        assert product.exp().dtype == torch.float32
        assert torch.addcmul(x, product, product).dtype == torch.float32
        with torch.autocast(device.type, enabled=False):
            assert (x @ x).dtype == torch.float32
        product.sum().backward()
    assert x.grad.dtype == torch.float32
    with torch.autocast('cpu', torch.bfloat16):
        assert (x @ x).dtype == torch.float32


def test_modules_change_their_type(device):
    model = nn.Linear(2, 2).to(device).half()
    assert model.weight.dtype == (model.weight + 1).dtype == torch.half
    assert model.to('cpu').weight.device == torch.device('cpu')
