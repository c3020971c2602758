"""Every head and every implementation of its loss, beside the CPU."""

import copy

import pytest
import torch
from torch import nn

from mmarcface import models
from mmarcface.models import ClassHead
from mmarcface.models.heads.class_margins import ClassMargins
from tests.models.test_heads import HEADS, WIDTH, build, samples

from .same import check_same

CLASSES, IMPLEMENTATIONS = 300, ('auto', 'reference', 'fused', 'chunked')
LABELS = [0, 299, 5, 5, 17, 160]


def pair(name, device, **options):
    """A head on the CPU, and its copy on the device."""
    torch.manual_seed(0)
    head = build(name, CLASSES, **options)
    nn.init.normal_(head.weight)
    return head, copy.deepcopy(head).to(device)


def step(head, amp=None, labels=LABELS, **options):
    """Losses, gradients and buffers of a batch."""
    device = head.weight.device
    generator = torch.Generator().manual_seed(1)
    embeddings = 3 * torch.randn(len(labels), WIDTH, generator=generator)
    if labels:
        # One is at its center, and one opposite.
        with torch.no_grad():
            embeddings[:2] = head.weight[[0, 299 * head.num_subcenters]].cpu()
        embeddings[1] *= -1
    embeddings = embeddings.to(device).requires_grad_()
    # Labels come from the data set, on the CPU.
    with torch.autocast(device.type, amp, enabled=amp is not None):
        losses = head.loss((embeddings,), samples(labels))
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in head.named_parameters()}
    return losses, embeddings.grad, gradients, dict(head.named_buffers())


def test_every_head_is_tried():
    heads = {name for name in models.__all__ if name.endswith('Head')}
    assert set(HEADS) == heads - {'ClassHead', 'MarginHead'}


@pytest.mark.parametrize('impl', IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ('name', 'options'), [(name, options) for name, all in HEADS.items() for options in all]
)
def test_losses_and_gradients(device, name, options, impl):
    # Drawn margins are those of the device.
    options = options | ({'sigma': 0.0} if name == 'ElasticFaceHead' else {})
    of_cpu, head = pair(name, device, impl=impl, **options)
    for _ in range(2):
        check_same(step(head), step(of_cpu), device)
        for one in (head, of_cpu):
            one.zero_grad()
    # Class scores.
    embeddings = torch.randn(4, WIDTH)
    check_same(head((embeddings.to(device),)), of_cpu((embeddings,)), device)
    head.eval(), of_cpu.eval()
    check_same(step(head), step(of_cpu), device)


@pytest.mark.parametrize('impl', IMPLEMENTATIONS)
@pytest.mark.parametrize('name', [name for name in HEADS if name != 'SoftmaxHead'])
def test_everything_that_a_margin_head_can_have(device, name, impl):
    extra = dict(num_subcenters=3, filter_threshold=0.4, gradient='detached')
    extra |= {'sigma': 0.0} if name == 'ElasticFaceHead' else {}
    of_cpu, head = pair(name, device, impl=impl, **extra)
    margins = getattr(head, 'margins', None)
    if isinstance(margins, ClassMargins):
        few, many = max(margins.minimum, 0.1), min(margins.maximum, 1.3)
        by_class = torch.linspace(few, many, CLASSES).tolist()
        if margins.uniform:
            by_class = many
        for one in (head, of_cpu):
            one.margins.set(by_class)
            one.margins.strength = 0.5
    check_same(step(head), step(of_cpu), device)


@pytest.mark.parametrize(
    ('dtype', 'impl'),
    [(torch.bfloat16, 'reference'), (torch.bfloat16, 'auto'), (torch.half, 'auto')],
)
@pytest.mark.parametrize('name', HEADS)
def test_autocast(device, name, dtype, impl):
    """A loss in fp32, whatever the embeddings are in."""
    options = {'sigma': 0.0} if name == 'ElasticFaceHead' else {}
    of_cpu, head = pair(name, device, impl=impl, **options)
    losses, of_embeddings, gradients, _ = step(head, dtype)
    assert all(value.dtype == torch.float32 for value in losses.values())
    check_same((losses, of_embeddings, gradients), step(of_cpu)[:3], device)
    embeddings = torch.randn(4, WIDTH, device=device).to(dtype)
    with torch.autocast(device.type, dtype):
        assert head((embeddings,)).dtype == torch.float32


@pytest.mark.parametrize('name', HEADS)
def test_a_process_without_samples(device, name):
    of_cpu, head = pair(name, device)
    check_same(step(head, labels=[]), step(of_cpu, labels=[]), device)


@pytest.mark.parametrize('plus', [False, True])
def test_drawn_margins_are_of_the_device(device, plus):
    head = pair('ElasticFaceHead', device, sigma=0.1, plus=plus)[1]
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(step(head)[0]['loss'].item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize('name', ['SoftmaxHead', 'ArcFaceHead', 'SphereFace2Head', 'AdaFaceHead'])
def test_errors_are_those_of_the_cpu(device, name):
    head = pair(name, device)[1]
    with pytest.raises(ValueError, match='label'):
        step(head, labels=[0, CLASSES])
    with pytest.raises(ValueError, match='finite'):
        head.loss((torch.full((1, WIDTH), torch.nan, device=device),), samples([0]))


@pytest.mark.parametrize('name', HEADS)
def test_weights_and_statistics_go_there_and_back(device, name):
    of_cpu, head = pair(name, device)
    step(of_cpu), step(head)
    fresh = build(name, CLASSES)
    fresh.load_state_dict(head.state_dict())
    check_same(fresh.state_dict(), of_cpu.state_dict())
    head.load_state_dict(build(name, CLASSES).state_dict())
    head.load_state_dict(of_cpu.state_dict())
    check_same(head.state_dict(), of_cpu.state_dict(), device)


def test_observers_see_what_is_there(device):
    head = pair('ArcFaceHead', device)[1]
    assert isinstance(head, ClassHead)
    seen = []
    head.observers.append(lambda embeddings, labels: seen.append((embeddings, labels)))
    step(head)
    assert [value.device for value in seen[0]] == [device, device]
