import math

import numpy as np
import pytest
import torch

from mmarcface.functional import blockwise
from mmarcface.functional.blockwise import nontarget_sums
from mmarcface.functional.nontarget import Modulation
from mmarcface.functional.vectors import normalize, norms

CLASSES, WIDTH = 11, 5


@pytest.fixture(params=[3, 4, 100], ids=['ragged blocks', 'blocks', 'one block'])
def blocks(request, monkeypatch):
    monkeypatch.setitem(blockwise.PRODUCTS_PER_BLOCK, 'cpu', 1)
    monkeypatch.setattr(blockwise, 'MIN_CLASSES_PER_BLOCK', request.param)


def problem(num_subcenters=1, number=7):
    torch.manual_seed(0)
    x = torch.randn(number, WIDTH, dtype=torch.float64, requires_grad=True)
    w = torch.randn(CLASSES * num_subcenters, WIDTH, dtype=torch.float64, requires_grad=True)
    b = torch.randn(CLASSES, dtype=torch.float64, requires_grad=True)
    return x, w, b, torch.randint(0, CLASSES, (number,))


def by_loops(
    x,
    w,
    labels,
    num_subcenters,
    bias,
    function,
    scale,
    reduction='logsumexp',
    normalize_weight=True,
):
    """Target product and total of each sample, one class at a time."""
    x, w, labels = x.detach().numpy(), w.detach().numpy(), labels.numpy()
    targets, totals = [], []
    for vector, label in zip(x, labels, strict=True):
        logits = []
        for index, centers in enumerate(w.reshape(CLASSES, num_subcenters, WIDTH)):
            products = [
                vector @ c / (np.linalg.norm(c) if normalize_weight else 1.0) for c in centers
            ]
            product = max(products)
            if index == label:
                targets.append(product)
                continue
            value = product if function is None else function(torch.tensor(product)).item()
            logits.append(scale * value + (0.0 if bias is None else bias[index].item()))
        if reduction == 'logsumexp':
            totals.append(math.log(sum(map(math.exp, logits))))
        else:
            totals.append(sum(math.log1p(math.exp(z)) for z in logits))
    return [torch.tensor(v, dtype=torch.float64) for v in (targets, totals)]


BENT = Modulation(
    lambda c: torch.where(c > 0.3, c * (0.2 + c), 3 * c),
    lambda c, _: torch.where(c > 0.3, 0.2 + 2 * c, 3.0),
)
VARIANTS = [
    dict(),
    dict(num_subcenters=3),
    dict(normalize_weight=False),
    dict(bias=True),
    dict(function=BENT, scale=2.0),
    dict(function=BENT, bias=True),
    dict(reduction='softplus', bias=True, function=BENT, scale=4.0),
    dict(reduction='softplus', scale=0.5),
    dict(reduction='softplus', num_subcenters=2),
]


@pytest.mark.parametrize('keep', [True, False])
@pytest.mark.parametrize('variant', VARIANTS, ids=lambda v: '-'.join(v) or 'plain')
def test_equals_a_loop_and_has_its_gradient(blocks, variant, keep):
    num_subcenters = variant.get('num_subcenters', 1)
    x, w, b, labels = problem(num_subcenters)
    options = variant | dict(bias=b if variant.get('bias') else None)
    found = nontarget_sums(x, w, labels, **options, keep=keep)
    expected = by_loops(
        x,
        w,
        labels,
        num_subcenters,
        options['bias'],
        variant.get('function'),
        variant.get('scale', 1.0),
        variant.get('reduction', 'logsumexp'),
        variant.get('normalize_weight', True),
    )
    torch.testing.assert_close([v.detach() for v in found], expected, rtol=1e-12, atol=0)
    if options['bias'] is None:
        assert torch.autograd.gradcheck(
            lambda x, w: nontarget_sums(x, w, labels, **options, keep=keep), (x, w)
        )
    else:
        assert torch.autograd.gradcheck(
            lambda x, w, b: nontarget_sums(x, w, labels, **options | dict(bias=b), keep=keep),
            (x, w, b),
        )


@pytest.mark.parametrize('keep', [True, False])
def test_graph_may_be_used_twice_but_not_be_differentiated_twice(blocks, keep):
    x, w, _, labels = problem()
    target, total = nontarget_sums(x, w, labels, keep=keep)
    loss = (total - target).sum()
    first = torch.autograd.grad(loss, (x, w), retain_graph=True)
    second = torch.autograd.grad(loss, (x, w), retain_graph=True)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match=r"no second derivative.*use impl='reference'"):
        torch.autograd.grad(loss, (x, w), create_graph=True)


def test_frozen_centers_get_no_gradient(blocks):
    x, w, _, labels = problem()
    expected = torch.autograd.grad(nontarget_sums(x, w, labels)[1].sum(), x)
    w.requires_grad_(False)
    x.grad = None
    nontarget_sums(x, w, labels)[1].sum().backward()
    torch.testing.assert_close(x.grad, expected[0])
    assert w.grad is None


@pytest.mark.parametrize(('reduction', 'total'), [('logsumexp', -math.inf), ('softplus', 0.0)])
def test_no_other_class(reduction, total):
    x, w = torch.randn(2, 3, requires_grad=True), torch.randn(1, 3, requires_grad=True)
    target, found = nontarget_sums(x, w, torch.zeros(2, dtype=torch.long), reduction=reduction)
    assert found.tolist() == [total, total]
    (target.sum() + found.exp().sum()).backward()
    assert x.grad.isfinite().all()
    assert w.grad.isfinite().all()


def test_large_logits_neither_overflow_nor_vanish(blocks):
    x = torch.tensor([[300.0, 0, 0, 0, 0], [-300.0, 0, 0, 0, 0]], requires_grad=True)
    w = torch.zeros(CLASSES, WIDTH)
    w[:, 0] = 1.0
    labels = torch.tensor([0, 1])
    _, total = nontarget_sums(x, w, labels)
    assert total.tolist() == pytest.approx([300 + math.log(10), -300 + math.log(10)])
    _, total = nontarget_sums(x, w, labels, reduction='softplus')
    assert total.tolist() == pytest.approx([3000.0, 0.0])


def test_small_terms_of_softplus_are_not_lost(blocks):
    """log(1 + exp(-17)) is below the rounding error of 1 in fp32."""
    x, w = torch.tensor([[-17.0, 0, 0, 0, 0]]), torch.eye(1, WIDTH).repeat(CLASSES, 1)
    _, total = nontarget_sums(x, w, torch.tensor([0]), reduction='softplus')
    assert total.item() == pytest.approx(10 * math.log1p(math.exp(-17.0)), rel=1e-6)


def test_equally_near_centers_share_one_gradient():
    x = torch.tensor([[2.0, 1.0]], requires_grad=True)
    w = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    _, total = nontarget_sums(x, w, torch.tensor([0]), num_subcenters=2)
    total.sum().backward()
    # d(2 cos)/dw of the second class: x across the center, once.
    assert w.grad.view(2, 2, 2).sum(1).tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert x.grad.tolist() == [[1.0, 0.0]]


def test_zero_vectors_have_no_direction_and_no_gradient():
    v = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    assert torch.equal(normalize(v), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    (normalize(v).sum() + norms(v).sum()).backward()
    assert v.grad[1].tolist() == [0.0, 0.0]
    assert v.grad[0].isfinite().all()


def test_unknown_reduction():
    x, w, _, labels = problem()
    with pytest.raises(ValueError, match=r"reduction must be one of .* got 'mean'"):
        nontarget_sums(x, w, labels, reduction='mean')
