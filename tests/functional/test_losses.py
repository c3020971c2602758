import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.heads import ArcFaceClsHead
from mmpretrain.structures import DataSample
from pytorch_metric_learning import losses

from mmarcface.functional import losses as module
from mmarcface.functional.losses import (
    class_cosines,
    linear_softmax,
    margin_softmax,
    target_cosines,
)
from mmarcface.functional.margins import arcface, cosface, sphereface
from mmarcface.functional.nontarget import interclass_filter

IMPLEMENTATIONS = ['reference', 'fused', 'chunked']


def naive(embeddings, weight, labels, margin, scale, num_subcenters):
    """The loss, sample by sample and class by class, in float64."""
    total = 0.0
    normalize = lambda v: v / np.linalg.norm(v)  # noqa: E731
    centers = weight.reshape(-1, num_subcenters, weight.shape[1])
    for embedding, label in zip(embeddings, labels, strict=True):
        logits = []
        for index, subcenters in enumerate(centers):
            cosine = max(float(normalize(embedding) @ normalize(center)) for center in subcenters)
            if index == label:
                theta = math.acos(cosine)
                if theta < math.pi - margin:
                    cosine = math.cos(theta + margin)
                else:
                    cosine -= margin * math.sin(margin)
            logits.append(scale * cosine)
        total += math.log(sum(math.exp(x) for x in logits)) - logits[label]
    return total / len(labels)


@pytest.mark.parametrize('num_subcenters', [1, 3])
def test_equals_a_naive_loop(impl, num_subcenters):
    torch.manual_seed(0)
    x = torch.randn(6, 5, dtype=torch.float64)
    w = torch.randn(4 * num_subcenters, 5, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    loss = margin_softmax(x, w, y, lambda c: arcface(c, 0.5), 8.0, num_subcenters, impl=impl)
    expected = naive(x.numpy(), w.numpy(), y.tolist(), 0.5, 8.0, num_subcenters)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ('name', 'margin', 'formula'),
    [
        ('arcface', 0.5, lambda theta: math.cos(theta + 0.5)),
        ('cosface', 0.35, lambda theta: math.cos(theta) - 0.35),
        ('sphereface', 2, lambda theta: math.cos(2 * theta)),
        ('sphereface_r', 2, lambda theta: math.cos(2 * theta)),
    ],
)
def test_margins_by_name(impl, name, margin, formula):
    # The own centers are at 30 and 45 degrees, where all of these formulas hold.
    w = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    x = torch.tensor([[3**0.5, 1.0], [2.0, 2.0]], dtype=torch.float64)
    cosines = [[3**0.5 / 2, 0.5, -math.cos(math.pi / 12)], [0.5**0.5, 0.5**0.5, -1.0]]
    cosines[0][0], cosines[1][1] = formula(math.pi / 6), formula(math.pi / 4)
    losses = [
        math.log(sum(math.exp(8 * (c - row[label])) for c in row))
        for label, row in enumerate(cosines)
    ]
    found = margin_softmax(x, w, torch.tensor([0, 1]), name, 8.0, impl=impl, margin=margin)
    assert found.item() == pytest.approx(sum(losses) / 2, rel=1e-9)


def test_a_named_margin_may_differ_by_sample():
    torch.manual_seed(0)
    x, w, y = torch.randn(4, 8), torch.randn(5, 8), torch.arange(4)
    margins = torch.tensor([0.1, 0.2, 0.3, 0.4])
    alone = [
        margin_softmax(x[i : i + 1], w, y[i : i + 1], 'arcface', margin=margin)
        for i, margin in enumerate((0.1, 0.2, 0.3, 0.4))
    ]
    together = margin_softmax(x, w, y, 'arcface', margin=margins)
    torch.testing.assert_close(together, torch.stack(alone).mean())


@pytest.mark.parametrize(
    ('target_logit', 'margin', 'message'),
    [
        (
            'arkface',
            0.5,
            r"target_logit must be a function or one of \['arcface', 'cosface', 'sphereface', "
            r"'sphereface_r'\], got 'arkface'",
        ),
        (0.5, None, r'target_logit must be a function or one of .* got 0\.5'),
        ('arcface', None, r"margin must be given for target_logit='arcface', got None"),
        ('arcface', 2.0, r'margin must be in \[0, 1\.571\], got 2\.0'),
        (lambda c: c, 0.5, r'margin must be None where target_logit is a function.* got 0\.5'),
    ],
)
def test_wrong_names_and_margins(target_logit, margin, message):
    x, w, y = torch.randn(2, 4), torch.randn(3, 4), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=message):
        margin_softmax(x, w, y, target_logit, margin=margin)


@pytest.mark.parametrize('num_subcenters', [1, 3])
@pytest.mark.parametrize('easy_margin', [False, True])
def test_loss_and_gradients_equal_mmpretrain(impl, num_subcenters, easy_margin):
    torch.manual_seed(0)
    x = torch.randn(16, 32)
    y = torch.randint(0, 10, (16,))
    peer = ArcFaceClsHead(10, 32, num_subcenters, margins=0.5, easy_margin=easy_margin)
    ours_x, peer_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = peer.norm_product.weight.detach().clone().requires_grad_()
    phi = lambda c: arcface(c, 0.5, easy_margin)  # noqa: E731
    ours = margin_softmax(ours_x, weight, y, phi, 64.0, num_subcenters, impl=impl)
    samples = [DataSample().set_gt_label(label) for label in y]
    theirs = peer.loss((peer_x,), samples)['loss']
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours_x.grad, peer_x.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weight.grad, peer.norm_product.weight.grad, rtol=1e-4, atol=1e-4)


PEERS = {
    'ArcFace': (
        lambda: losses.ArcFaceLoss(10, 32, margin=math.degrees(0.5), scale=64),
        dict(target_logit=lambda c: arcface(c, 0.5)),
    ),
    'CosFace': (
        lambda: losses.CosFaceLoss(10, 32, margin=0.35, scale=64),
        dict(target_logit=lambda c: cosface(c, 0.35)),
    ),
    'SubCenterArcFace': (
        lambda: losses.SubCenterArcFaceLoss(
            num_classes=10, embedding_size=32, margin=math.degrees(0.5), scale=64, sub_centers=3
        ),
        dict(target_logit=lambda c: arcface(c, 0.5), num_subcenters=3),
    ),
    'SphereFace': (
        lambda: losses.SphereFaceLoss(10, 32, margin=4, scale=1),
        dict(target_logit=lambda c: sphereface(c, 4)),
    ),
    'NormalizedSoftmax': (
        lambda: losses.NormalizedSoftmaxLoss(10, 32, temperature=1 / 20),
        dict(target_logit=lambda c: c, scale=20.0),
    ),
}


@pytest.mark.parametrize('name', PEERS)
def test_loss_and_gradients_equal_pytorch_metric_learning(impl, name):
    torch.manual_seed(0)
    peer, options = PEERS[name]
    peer = peer().double()
    y = torch.randint(0, 10, (16,))
    peer_x = torch.randn(16, 32, dtype=torch.float64, requires_grad=True)
    x, w = (v.detach().clone().requires_grad_() for v in (peer_x, peer.W.T))
    if name == 'SphereFace':
        # Its features keep their lengths, as in the paper.
        options = options | dict(scale=x.norm(dim=1))
    ours, theirs = margin_softmax(x, w, y, **options, impl=impl), peer(peer_x, y)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(x.grad, peer_x.grad, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(w.grad, peer.W.grad.T, rtol=1e-5, atol=1e-9)


def test_linear_softmax_equals_a_linear_layer(impl):
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 10).double()
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    y = torch.randint(0, 10, (6,))
    ours = linear_softmax(x, layer.weight, layer.bias, y, impl)
    inputs = (x, layer.weight, layer.bias)
    expected = F.cross_entropy(layer(x), y)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs), torch.autograd.grad(expected, inputs)
    )


def test_filter_equals_masked_logits(impl):
    """As arcface_torch filters: the logits of the classes above the threshold become 0."""
    torch.manual_seed(0)
    x, w = torch.randn(6, 5, dtype=torch.float64), torch.randn(10, 5, dtype=torch.float64)
    y = torch.arange(6)
    logits = F.normalize(x) @ F.normalize(w).T
    for row, label in enumerate(y):
        for column in range(10):
            if column != label and logits[row, column] > 0.4:
                logits[row, column] = 0
        logits[row, label] -= 0.3
    loss = margin_softmax(
        x,
        w,
        y,
        lambda c: cosface(c, 0.3),
        16.0,
        nontarget_cosine=interclass_filter(0.4),
        impl=impl,
    )
    assert (logits == 0).sum() > 3
    torch.testing.assert_close(loss, F.cross_entropy(16 * logits, y))


def test_error_in_fp32_is_within_the_naive_one():
    """Errors against fp64 over 40 problems, with easy and hard targets."""
    worst = {}
    for seed in range(40):
        torch.manual_seed(seed)
        y = torch.randint(0, 500, (32,))
        w = torch.randn(500, 64, dtype=torch.float64)
        x = torch.randn(32, 64, dtype=torch.float64) + seed / 4 * F.normalize(w[y])
        truth = loss_and_gradients(x, w, y, 'reference')
        for impl in IMPLEMENTATIONS:
            found = loss_and_gradients(x.float(), w.float(), y, impl)
            errors = [((f - t).norm() / t.norm()).item() for f, t in zip(found, truth, strict=True)]
            worst[impl] = np.maximum(worst.get(impl, 0), errors)
    for impl in ('fused', 'chunked'):
        assert (worst[impl] <= 1.5 * worst['reference'] + 1e-7).all(), worst


def loss_and_gradients(x, w, y, impl):
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    loss = margin_softmax(x, w, y, lambda c: arcface(c, 0.5), impl=impl)
    return [v.double() for v in (loss.detach(), *torch.autograd.grad(loss, (x, w)))]


def test_gradcheck(impl):
    torch.manual_seed(0)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 2, 0])
    phi = lambda c: arcface(c, 0.5)  # noqa: E731
    assert torch.autograd.gradcheck(
        lambda x, w: margin_softmax(x, w, y, phi, 4.0, 3, impl=impl), (x, w)
    )


def test_only_the_reference_has_a_second_derivative(impl):
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(9, 5, dtype=torch.float64)
    loss = lambda x: margin_softmax(x, w, torch.arange(4), lambda c: c, 4.0, impl=impl)  # noqa: E731
    if impl == 'reference':
        assert torch.autograd.gradgradcheck(loss, (x,))
    else:
        with pytest.raises(RuntimeError, match='no second derivative'):
            torch.autograd.grad(loss(x), x, create_graph=True)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_keeps_the_loss_in_fp32(impl, dtype):
    torch.manual_seed(0)
    x, w = torch.randn(8, 16).to(dtype), torch.randn(5, 16, requires_grad=True)
    y = torch.arange(8) % 5
    phi = lambda c: arcface(c, 0.5)  # noqa: E731
    expected = margin_softmax(x.float(), w, y, phi, impl='reference')
    (gradient,) = torch.autograd.grad(expected, w)
    with torch.autocast('cpu', dtype):
        loss = margin_softmax(x, w, y, phi, impl=impl)
    loss.backward()
    assert loss.dtype == w.grad.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(w.grad, gradient)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('num_subcenters', [1, 3])
def test_gpu_equals_cpu(impl, num_subcenters):
    torch.manual_seed(0)
    y, x = torch.randint(0, 50, (16,)), torch.randn(16, 32, dtype=torch.float64)
    w = torch.randn(50 * num_subcenters, 32, dtype=torch.float64)
    found = []
    for device in ('cpu', 'cuda'):
        inputs = [v.to(device).requires_grad_() for v in (x.clone(), w.clone())]
        phi = lambda c: arcface(c, 0.5)  # noqa: E731
        loss = margin_softmax(*inputs, y.to(device), phi, 64.0, num_subcenters, impl=impl)
        found.append([v.cpu() for v in (loss, *torch.autograd.grad(loss, inputs))])
    torch.testing.assert_close(*found)


def test_empty_batch_is_zero(impl):
    x = torch.empty(0, 4, requires_grad=True)
    w = torch.randn(7, 4, requires_grad=True)
    loss = margin_softmax(x, w, torch.empty(0, dtype=torch.long), lambda c: c, impl=impl)
    assert loss.item() == 0
    loss.backward()
    assert not w.grad.any()


def test_large_problems_are_chunked(monkeypatch):
    calls = []
    real = module.nontarget_sums
    monkeypatch.setattr(
        module, 'nontarget_sums', lambda *a, **k: calls.append(k['keep']) or real(*a, **k)
    )
    x, w, y = torch.randn(2, 4), torch.randn(8, 4), torch.tensor([0, 1])
    margin_softmax(x, w, y, lambda c: c)
    monkeypatch.setattr(module, 'MAX_BUFFER_BYTES', 2 * 8 * 4 - 1)
    margin_softmax(x, w, y, lambda c: c)
    assert calls == [True, False]


def test_compiles():
    torch.manual_seed(0)
    x, y = torch.randn(8, 16), torch.arange(8) % 5
    layer, w = torch.nn.Linear(16, 16), torch.randn(5, 16, requires_grad=True)

    def loss(x):
        return margin_softmax(layer(x), w, y, lambda c: arcface(c, 0.5))

    inputs = (w, *layer.parameters())
    expected = torch.autograd.grad(loss(x), inputs)
    found = torch.autograd.grad(torch.compile(loss, backend='aot_eager')(x), inputs)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('label', [-1, 3])
def test_label_outside_the_classes_names_the_sample(impl, label):
    labels = torch.tensor([0, label])
    with pytest.raises(ValueError, match=rf'\[0, 3\).*sample 1 of the batch has {label}'):
        margin_softmax(torch.randn(2, 4), torch.randn(3, 4), labels, lambda c: c, impl=impl)


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_broken_embeddings_name_the_samples(impl, value):
    x = torch.randn(14, 4)
    x[[1, 3]] = value
    y = torch.zeros(14, dtype=torch.int32)
    with pytest.raises(ValueError, match=r'2 samples of the batch have none: 1, 3$'):
        margin_softmax(x, torch.randn(3, 4), y, lambda c: c, impl=impl)
    x[:] = value
    with pytest.raises(ValueError, match=r'14 samples .*: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.'):
        margin_softmax(x, torch.randn(3, 4), y, lambda c: c, impl=impl)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(embeddings=torch.randn(2, 5)), r'\(N, 4\), the width of the centers, got \(2, 5\)'),
        (dict(labels=torch.tensor([0, 1, 2])), r'2 integers, one per embedding, got \(3,\)'),
        (dict(labels=torch.tensor([0.0, 1.0])), 'got .* torch.float32'),
        (dict(num_subcenters=2), 'must divide the 3 centers, got 2'),
        (dict(num_subcenters=0), 'num_subcenters must be at least 1, got 0'),
        (dict(impl='fast'), "impl must be one of .* got 'fast'"),
        (
            dict(scale=torch.ones(2), nontarget_cosine=interclass_filter(0.5), impl='fused'),
            'one constant number',
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    good = dict(
        embeddings=torch.randn(2, 4),
        weight=torch.randn(3, 4),
        labels=torch.tensor([0, 1]),
        target_logit=lambda c: c,
    )
    with pytest.raises(ValueError, match=message):
        margin_softmax(**good | arguments)


def test_subcenters_of_a_class_lie_together():
    w = torch.eye(4)
    assert class_cosines(torch.eye(4), w, 2).tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    labels = torch.tensor([0, 1, 1, 0])
    assert target_cosines(torch.eye(4), w, labels, 2).tolist() == [1, 0, 1, 0]
