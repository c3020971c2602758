import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.registry import DefaultScope
from mmpretrain.models.heads import ArcFaceClsHead, LinearClsHead
from mmpretrain.structures import DataSample
from torch.nn.functional import cross_entropy

from mmarcface.functional import blockwise
from mmarcface.models import (
    AdaFaceHead,
    ArcFaceHead,
    CombinedMarginHead,
    CosFaceHead,
    CurricularFaceHead,
    ElasticFaceHead,
    MagFaceHead,
    NormSoftmaxHead,
    SoftmaxHead,
    SphereFace2Head,
    SphereFaceHead,
    SphereFaceRHead,
    SubCenterArcFaceHead,
    UniFaceHead,
)
from mmarcface.registry import MODELS

# Every head with its ordinary margin and the extremes that it allows.
HEADS = {
    'SoftmaxHead': [{}],
    'NormSoftmaxHead': [{}],
    'SphereFaceHead': [
        {'margin': 1.0},
        {},
        {'margin': 10.0, 'annealing': None},
        {'margin': 1.35, 'annealing': None, 'scale': None},
    ],
    'SphereFaceRHead': [{}, {'margin': 10.0}, {'version': 1}, {'version': 1, 'margin': 10.0}],
    'SphereFace2Head': [{}, {'margin': 0.0, 'exponent': 1.0}, {'margin': 2.0, 'exponent': 9.0}],
    'CosFaceHead': [{'margin': 0.0}, {}, {'margin': 2.0}],
    'ArcFaceHead': [
        {'margin': 0.0},
        {},
        {'margin': math.pi / 2},
        {'margin': 1.2, 'easy_margin': True},
    ],
    'SubCenterArcFaceHead': [{}, {'margin': math.pi / 2}],
    'CombinedMarginHead': [
        {},
        {'margin': (0.9, 0.4, 0.15)},
        {'margin': (10.0, math.pi / 2, 2.0)},
        {'margin': (0.01, 0.0, 0.0)},
    ],
    'MagFaceHead': [{}, {'margin': (0.0, math.pi / 2), 'norm_range': (1e-3, 2.0)}],
    'AdaFaceHead': [{}, {'margin': 0.0}, {'margin': 1.0, 'momentum': 1.0}],
    'CurricularFaceHead': [{}, {'margin': 0.0}, {'margin': math.pi / 2, 'momentum': 1.0}],
    'ElasticFaceHead': [{}, {'sigma': 5.0, 'plus': True}, {'function': 'cos', 'sigma': 5.0}],
    'UniFaceHead': [{}, {'margin': 2.0, 'nontarget_weight': 10.0}],
}
WIDTH = 8
GEOMETRIES = [
    'random',
    'own center',
    'other center',
    'opposite',
    'zero embedding',
    'zero center',
    'duplicated centers',
]


def samples(labels):
    return [DataSample().set_gt_label(label) for label in labels]


def build(name, num_classes=7, width=WIDTH, **options):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            dict(type=f'mmarcface.{name}', num_classes=num_classes, in_channels=width, **options)
        )


def arrange(geometry, centers, labels, per_class):
    """Embeddings in a position to the centers, which some positions change."""
    own = centers.view(-1, per_class, WIDTH)[labels, 0].clone()
    if geometry == 'random':
        return torch.randn(len(labels), WIDTH)
    if geometry == 'own center':
        return own
    if geometry == 'other center':
        others = (labels + 1) % (len(centers) // per_class)
        return 3 * centers.view(-1, per_class, WIDTH)[others, -1]
    if geometry == 'opposite':
        return -own
    if geometry == 'zero embedding':
        return torch.zeros(len(labels), WIDTH)
    if geometry == 'zero center':
        centers[0] = 0
        return own
    centers[:] = centers[0].clone()
    return own


@pytest.mark.parametrize('name', HEADS)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_loss_and_gradients_are_finite(name, data):
    """14 heads x 200 cases of precision, position, size, margin, centers and implementation."""
    options = data.draw(st.sampled_from(HEADS[name]))
    geometry = data.draw(st.sampled_from(GEOMETRIES))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    num_classes, number = data.draw(st.sampled_from([(7, 5), (7, 1), (1, 5), (1, 1), (300, 2)]))
    common = dict(impl=data.draw(st.sampled_from(['reference', 'fused', 'chunked'])))
    if name != 'SoftmaxHead':
        common['gradient'] = data.draw(st.sampled_from(['exact', 'detached']))
        common['num_subcenters'] = data.draw(st.sampled_from([1, 3]))
        if options.get('scale', 0) is not None:
            common['filter_threshold'] = data.draw(st.sampled_from([None, 0.4]))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    head = build(name, num_classes, **options | common)
    labels = torch.randint(num_classes, (number,))
    with torch.no_grad():
        torch.nn.init.normal_(head.weight)
        vectors = arrange(geometry, head.weight, labels, common.get('num_subcenters', 1))
    embeddings = vectors.to(dtype).requires_grad_()
    half = dtype != torch.float32
    with torch.autocast('cpu', dtype if half else None, enabled=half):
        losses = head.loss((embeddings,), samples(labels.tolist()))
    sum(losses.values()).backward()
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    assert embeddings.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in head.parameters())
    assert all(b.isfinite().all() for b in head.buffers())


def softmax_loss(scale, cosines, labels, phi, other=lambda c, phi: c):
    """Margin softmax in fp64, from a margin function of one angle."""
    total = 0.0
    for row, (cosine, label) in enumerate(zip(cosines, labels, strict=True)):
        target = phi(math.acos(cosine[label]), row)
        logits = [scale * other(c, target) for c in cosine]
        logits[label] = scale * target
        total += math.log(sum(map(math.exp, logits))) - logits[label]
    return total / len(labels)


def arc(theta, margin):
    if theta < math.pi - margin:
        return math.cos(theta + margin)
    return math.cos(theta) - margin * math.sin(margin)


def softplus(x):
    return math.log1p(math.exp(x))


def adaface_phi(norms):
    """With the running statistics after one batch from 20 and 100 with weight 0.01."""
    norms = np.clip(norms, 0.001, 100)
    mean = 0.99 * 20 + 0.01 * np.mean(norms)
    std = 0.99 * 100 + 0.01 * np.std(norms, ddof=1)
    z = [min(max((n - mean) / (std + 1e-3) * 0.333, -1), 1) for n in norms]
    return lambda t, i: math.cos(t - 0.4 * z[i]) - (0.4 * z[i] + 0.4)


def magface_phi(norms):
    def phi(theta, i):
        margin = 0.45 + (min(max(norms[i], 10), 110) - 10) * 0.35 / 100
        return math.cos(theta + margin) if math.cos(theta) > 0 else math.cos(theta)

    return phi


def curricular_loss(cosines, labels, norms):
    t = 0.01 * np.mean([c[label] for c, label in zip(cosines, labels, strict=True)])
    return softmax_loss(
        64,
        cosines,
        labels,
        lambda theta, _: arc(theta, 0.5),
        lambda c, phi: c * (t + c) if c > phi else c,
    )


def sphereface2_loss(cosines, labels, norms, bias):
    g = lambda c: 2 * ((c + 1) / 2) ** 3 - 1  # noqa: E731
    total = 0.0
    for cosine, label in zip(cosines, labels, strict=True):
        for j, c in enumerate(cosine):
            if j == label:
                total += 0.7 * softplus(-(40 * (g(c) - 0.4) + bias))
            else:
                total += 0.3 * softplus(40 * (g(c) + 0.4) + bias)
    return 50 / 40 * total / len(labels)


def uniface_loss(cosines, labels, norms, bias):
    total = 0.0
    for cosine, label in zip(cosines, labels, strict=True):
        for j, c in enumerate(cosine):
            total += softplus(-64 * (c - 0.4) + bias) if j == label else softplus(64 * c - bias)
    return total / len(labels)


def cos_of(margin):
    return lambda theta, _: math.cos(theta) - margin


# The loss of each head with its defaults, from cosines (N, C), labels and lengths, by the papers.
BY_HAND = {
    'NormSoftmaxHead': lambda c, y, n, h: softmax_loss(64, c, y, cos_of(0)),
    'SphereFaceHead': lambda c, y, n, h: softmax_loss(
        64,
        c,
        y,
        # The first iteration: lambda = 1000 / 1.12.
        lambda t, _: (1000 / 1.12 * math.cos(t) + psi(4 * t)) / (1 + 1000 / 1.12),
    ),
    'SphereFaceRHead': lambda c, y, n, h: softmax_loss(
        30, c, y, cos_of(0), lambda c, _: math.cos(math.acos(c) / 1.5)
    ),
    'SphereFace2Head': lambda c, y, n, h: sphereface2_loss(c, y, n, h.bias.item()),
    'CosFaceHead': lambda c, y, n, h: softmax_loss(64, c, y, cos_of(0.35)),
    'ArcFaceHead': lambda c, y, n, h: softmax_loss(64, c, y, lambda t, _: arc(t, 0.5)),
    'CombinedMarginHead': lambda c, y, n, h: softmax_loss(
        64, c, y, lambda t, _: psi(t + 0.3) - 0.2
    ),
    'MagFaceHead': lambda c, y, n, h: (
        softmax_loss(64, c, y, magface_phi(n))
        + 35 * np.mean([1 / a + a / 110**2 for a in np.clip(n, 10, 110)])
    ),
    'AdaFaceHead': lambda c, y, n, h: softmax_loss(64, c, y, adaface_phi(n)),
    'CurricularFaceHead': lambda c, y, n, h: curricular_loss(c, y, n),
    'ElasticFaceHead': lambda c, y, n, h: softmax_loss(64, c, y, lambda t, _: arc(t, 0.5)),
    'UniFaceHead': lambda c, y, n, h: uniface_loss(c, y, n, h.bias.item()),
}


def psi(alpha):
    """(-1)^k cos(alpha) - 2k."""
    k = math.floor(alpha / math.pi)
    return (-1) ** k * math.cos(alpha) - 2 * k


@pytest.mark.parametrize('impl', ['reference', 'fused', 'chunked'])
@pytest.mark.parametrize('name', BY_HAND)
def test_loss_equals_the_papers_formula(name, impl):
    torch.manual_seed(0)
    head = build(name, impl=impl, **{'sigma': 0.0} if name == 'ElasticFaceHead' else {}).double()
    torch.nn.init.normal_(head.weight)
    labels = [0, 3, 6, 3, 1]
    x = (40 * torch.rand(5, 1) * torch.randn(5, WIDTH)).double()
    # One target is well met, and one further than 90 degrees away.
    x[0] += 60 * head.weight[0].detach()
    x[1] -= 60 * head.weight[3].detach()
    normalize = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)  # noqa: E731
    cosines = normalize(x.numpy()) @ normalize(head.weight.detach().numpy()).T
    norms = np.linalg.norm(x.numpy(), axis=1)
    found = sum(head.loss((x,), samples(labels)).values())
    assert found.item() == pytest.approx(BY_HAND[name](cosines, labels, norms, head), rel=1e-6)


def filtered(c, _):
    return 0.0 if c > 0.3 else c


MARGINS = [0.1, 0.2, 0.3, 0.4, 0.45, 0.35, 0.15]
FACTORS = [1.0, 1.2, 1.3, 1.5, 2.0, 1.7, 3.0]


def uniface_variant(cosines, labels, norms):
    bias, total = math.log(70), 0.0
    for row, label in zip(cosines, labels, strict=True):
        total += softplus(-64 * (row[label] - MARGINS[label]) + bias)
        total += 0.3 * sum(softplus(64 * c - bias) for j, c in enumerate(row) if j != label)
    return total / len(labels)


def sphereface_variant(cosines, labels, norms):
    losses = []
    for row, label, norm in zip(cosines, labels, norms, strict=True):
        phi = psi(FACTORS[label] * math.acos(row[label]))
        losses.append(softmax_loss(norm, [row], [label], lambda t, i, phi=phi: phi))
    return np.mean(losses)


# Options away from the defaults: head, options, and the loss from cosines, labels and lengths.
VARIANTS = {
    'CosFace by class': (
        'CosFaceHead',
        dict(margin=MARGINS),
        lambda c, y, n: softmax_loss(64, c, y, lambda t, i: math.cos(t) - MARGINS[y[i]]),
    ),
    'ArcFace by class': (
        'ArcFaceHead',
        dict(margin=MARGINS),
        lambda c, y, n: softmax_loss(64, c, y, lambda t, i: arc(t, MARGINS[y[i]])),
    ),
    'ArcFace filtered': (
        'ArcFaceHead',
        dict(filter_threshold=0.3),
        lambda c, y, n: softmax_loss(64, c, y, lambda t, _: arc(t, 0.5), filtered),
    ),
    'UniFace by class and weighted': (
        'UniFaceHead',
        dict(margin=MARGINS, nontarget_weight=0.3),
        uniface_variant,
    ),
    'SphereFace by class and length': (
        'SphereFaceHead',
        dict(scale=None, margin=FACTORS, annealing=None),
        sphereface_variant,
    ),
    'SphereFace-R 1 by class': (
        'SphereFaceRHead',
        dict(version=1, margin=FACTORS),
        lambda c, y, n: softmax_loss(
            30, c, y, lambda t, i: math.cos(min(FACTORS[y[i]] * t, math.pi))
        ),
    ),
    'SphereFace-R 2 filtered': (
        'SphereFaceRHead',
        dict(filter_threshold=0.3),
        lambda c, y, n: softmax_loss(
            30, c, y, cos_of(0), lambda c, _: math.cos(math.acos(filtered(c, _)) / 1.5)
        ),
    ),
    'ElasticFace by class': (
        'ElasticFaceHead',
        dict(margin=MARGINS, sigma=0.0, function='cos', plus=True),
        lambda c, y, n: softmax_loss(64, c, y, lambda t, i: math.cos(t) - MARGINS[y[i]]),
    ),
}


@pytest.mark.parametrize('name', VARIANTS)
def test_loss_of_a_variant_equals_its_formula(name):
    torch.manual_seed(0)
    kind, options, formula = VARIANTS[name]
    head = build(kind, **options).double()
    torch.nn.init.normal_(head.weight)
    labels = [0, 3, 6, 3, 1]
    x = torch.randn(5, WIDTH, dtype=torch.float64)
    normalize = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)  # noqa: E731
    cosines = normalize(x.numpy()) @ normalize(head.weight.detach().numpy()).T
    found = sum(head.loss((x,), samples(labels)).values()).item()
    expected = formula(cosines.tolist(), labels, np.linalg.norm(x.numpy(), axis=1))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ('name', 'options', 'function'),
    [
        ('ArcFaceHead', {}, lambda t: arc(t, 0.5)),
        ('CombinedMarginHead', {}, lambda t: psi(t + 0.3) - 0.2),
        ('SphereFaceRHead', {'version': 1}, lambda t: math.cos(min(1.5 * t, math.pi))),
        ('SphereFace2Head', {}, lambda t: 2 * ((math.cos(t) + 1) / 2) ** 3 - 1 - 0.4),
    ],
)
def test_detached_margins_have_the_cosines_gradient(name, options, function):
    head = build(name, gradient='detached', **options).double()
    cosines = torch.tensor([0.9, 0.3, -0.4], dtype=torch.float64, requires_grad=True)
    labels = torch.zeros(3, dtype=torch.long)
    phi = head.margin_function(torch.ones(3, WIDTH, dtype=torch.float64), labels)(cosines)
    expected = [function(math.acos(c)) for c in cosines.tolist()]
    assert phi.tolist() == pytest.approx(expected)
    phi.sum().backward()
    assert cosines.grad.tolist() == [1.0, 1.0, 1.0]


def detached_sphereface_r(head, cosines, own):
    """Version 2: a softmax of the target's cosine and cos(theta / m) of the others."""
    others = (cosines.detach().acos() / 1.5).cos() - cosines.detach() + cosines
    return cross_entropy(head.scale * torch.where(own, cosines, others), own.long().argmax(1))


def detached_sphereface2(head, cosines, own):
    sign = torch.where(own, -1.0, 1.0)
    # g(cos) -+ m, with the slope of the cosine.
    moved = 2 * ((cosines.detach() + 1) / 2) ** 3 - 1 + sign * head.margin
    logits = head.scale * (moved - cosines.detach() + cosines) + head.bias
    weights = torch.where(own, 0.7, 0.3)
    return 50 / 40 * (weights * torch.nn.functional.softplus(sign * logits)).sum(1).mean()


@pytest.mark.parametrize(
    ('name', 'formula'),
    [('SphereFaceRHead', detached_sphereface_r), ('SphereFace2Head', detached_sphereface2)],
)
def test_detached_functions_of_other_classes(name, formula):
    """The loss as with the exact gradient; its gradient as if each function were the cosine."""
    torch.manual_seed(0)
    head = build(name, gradient='detached').double()
    x = torch.randn(4, WIDTH, dtype=torch.float64, requires_grad=True)
    labels = [0, 1, 2, 5]
    own = torch.eye(head.num_classes, dtype=bool)[labels]
    normalize = torch.nn.functional.normalize
    expected = formula(head, normalize(x) @ normalize(head.weight).T, own)
    found = sum(head.loss((x,), samples(labels)).values())
    torch.testing.assert_close(found, expected)
    exact = build(name).double()
    exact.load_state_dict(head.state_dict())
    torch.testing.assert_close(sum(exact.loss((x,), samples(labels)).values()), expected)
    inputs = x, head.weight
    gradients, wanted = (torch.autograd.grad(loss, inputs) for loss in (found, expected))
    # Margins are kept as fp32.
    torch.testing.assert_close(gradients, wanted, rtol=1e-5, atol=1e-5)


def test_elastic_plus_sorts_margins_by_difficulty():
    torch.manual_seed(0)
    head = build('ElasticFaceHead', sigma=0.1, plus=True, function='cos')
    cosines = torch.linspace(-0.5, 0.9, 40)
    labels = torch.zeros(40, dtype=torch.long)
    margins = cosines - head.target_logit(cosines, labels, labels)
    assert margins.std() > 0.05
    assert (margins.diff() <= 1e-6).all()


def test_two_forward_passes_before_a_backward():
    """The running mean of CurricularFace moves between them."""
    gradients = []
    for impl in ('reference', 'fused'):
        torch.manual_seed(0)
        head = build('CurricularFaceHead', momentum=0.9, impl=impl)
        x = torch.randn(4, WIDTH, requires_grad=True)
        losses = [head.loss((k * x + k,), samples([0, 1, 2, 3]))['loss'] for k in (1, -2)]
        gradients.append(torch.autograd.grad(losses[0], x)[0])
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize(
    ('num_classes', 'options'),
    [(2, dict(scale=64.0)), (3, dict(scale=64.0)), (2, dict(margin=2.0)), (7, {}), (85742, {})],
)
def test_first_bias_of_sphereface2_is_the_best(num_classes, options):
    """For embeddings that are orthogonal to all centers no other bias has a smaller loss."""
    head = build('SphereFace2Head', num_classes, 2, **options)

    def loss(bias):
        g = 2 * 0.5**3 - 1
        target = -(head.scale * (g - head.margin) + bias)
        other = head.scale * (g + head.margin) + bias
        both = torch.tensor([target, other], dtype=torch.float64)
        own, others = torch.nn.functional.softplus(both, threshold=40).tolist()
        return 0.7 * own + 0.3 * (num_classes - 1) * others

    bias = head.bias.item()
    assert loss(bias) <= min(loss(bias - 0.1), loss(bias + 0.1))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ['SoftmaxHead', 'ArcFaceHead'])
def test_scores_of_half_precision_are_fp32(name, dtype):
    head, x = build(name), torch.randn(2, WIDTH).to(dtype)
    found = head((x,))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, head((x.float(),)))
    assert head.to(dtype)((x,)).dtype == torch.float32


@pytest.mark.parametrize('name', HEADS)
def test_empty_batch(name):
    loss = sum(build(name).loss((torch.empty(0, WIDTH),), []).values())
    assert loss.item() == 0


@pytest.mark.parametrize('impl', ['fused', 'chunked'])
@pytest.mark.parametrize(
    ('name', 'options'), [(name, options) for name in HEADS for options in HEADS[name]]
)
def test_gradients_equal_those_of_the_reference(name, options, impl, monkeypatch):
    monkeypatch.setitem(blockwise.PRODUCTS_PER_BLOCK, 'cpu', 1)
    monkeypatch.setattr(blockwise, 'MIN_CLASSES_PER_BLOCK', 3)
    common = {} if name == 'SoftmaxHead' else dict(num_subcenters=2)
    if common and options.get('scale', 0) is not None:
        common['filter_threshold'] = 0.4
    found = []
    for kind in ('reference', impl):
        torch.manual_seed(0)
        head = build(name, impl=kind, **options | common).double()
        torch.nn.init.normal_(head.weight)
        x = torch.randn(5, WIDTH, dtype=torch.float64, requires_grad=True)
        loss = sum(head.loss((x,), samples([0, 3, 6, 3, 1])).values())
        found.append([loss, *torch.autograd.grad(loss, (x, *head.parameters()))])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('num_subcenters', [1, 3])
def test_arcface_equals_mmpretrain_and_loads_its_weights(num_subcenters):
    torch.manual_seed(0)
    theirs = ArcFaceClsHead(7, 16, num_subcenters, margins=[0.1 * i for i in range(7)])
    kind = ArcFaceHead if num_subcenters == 1 else SubCenterArcFaceHead
    ours = kind(7, 16, margin=[0.1 * i for i in range(7)], num_subcenters=num_subcenters)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    feats, batch = (torch.randn(9, 16),), samples([0, 1, 2, 3, 4, 5, 6, 0, 1])
    torch.testing.assert_close(ours.loss(feats, batch)['loss'], theirs.loss(feats, batch)['loss'])
    torch.testing.assert_close(ours(feats), theirs(feats))


def test_softmax_equals_mmpretrain_and_loads_its_weights():
    torch.manual_seed(0)
    theirs, ours = LinearClsHead(7, 16), SoftmaxHead(7, 16)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    feats, batch = (torch.randn(9, 16),), samples([0, 1, 2, 3, 4, 5, 6, 0, 1])
    torch.testing.assert_close(ours.loss(feats, batch)['loss'], theirs.loss(feats, batch)['loss'])
    torch.testing.assert_close(ours(feats), theirs(feats))


def test_mmpretrain_is_wrong_where_a_center_is_met():
    """acos of a cosine of 1, of any class, has an infinite slope: NaN there, finite here."""
    theirs, ours = ArcFaceClsHead(3, 4, margins=0.5), ArcFaceHead(3, 4)
    theirs.norm_product.weight.data = torch.eye(3, 4)
    ours.weight.data = torch.eye(3, 4)
    finite = []
    for head in (theirs, ours):
        feats = torch.eye(3, 4, requires_grad=True)
        head.loss((feats,), samples([0, 1, 2]))['loss'].backward()
        finite.append(bool(feats.grad.isfinite().all()))
    assert finite == [False, True]


def test_magface_regularizer_moves_the_lengths():
    """Added to the logits, as some do, it would cancel in the softmax."""
    head = build('MagFaceHead', regularization=1000.0)
    x = torch.randn(4, WIDTH)
    x = (20 * x / x.norm(dim=1, keepdim=True)).requires_grad_()
    losses = head.loss((x,), samples([0, 1, 2, 3]))
    assert set(losses) == {'loss', 'loss_norm'}
    losses['loss_norm'].backward()
    assert ((x.grad * x).sum(1) < 0).all()


def test_detached_magface_still_learns_the_length_by_its_margin():
    head = build('MagFaceHead', gradient='detached', regularization=0.0, norm_range=(1.0, 50.0))
    x = (head.weight[:4].detach() * 1000 + torch.randn(4, WIDTH)).requires_grad_()
    sum(head.loss((x,), samples([0, 1, 2, 3])).values()).backward()
    # A cosine alone has no gradient along the embedding.
    assert (x.grad * x).sum(1).abs().max() > 1e-3


class AuthorsLambda:
    """As in the authors' margin_inner_product_layer.cpp, which counts before it computes."""

    def __init__(self, base, gamma, lambda_min):
        self.base, self.gamma, self.lambda_min, self.iter = base, gamma, lambda_min, 0

    def forward(self):
        self.iter += 1
        return max(self.base * (1 + self.gamma * self.iter) ** -1.0, self.lambda_min)


@pytest.mark.parametrize('annealing', [(1000.0, 0.12, 5.0), (10, 1, 0), (1000.0, 0.12, 800)])
def test_sphereface_anneals_as_the_authors_code(annealing):
    options = dict(name='SphereFaceHead', num_classes=3, annealing=annealing)
    head, authors = build(**options), AuthorsLambda(*annealing)
    for iteration in range(4):
        if iteration == 2:
            # Of a checkpoint; evaluation in between counts as no iteration.
            head.eval()
            head.loss((torch.randn(2, WIDTH),), samples([0, 1]))
            state, head = head.state_dict(), build(**options)
            head.load_state_dict(state)
        x = torch.randn(2, WIDTH)
        lamb = authors.forward()
        cosines = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(head.weight).T
        own = cosines[range(2), [0, 1]]
        theta = own.acos()
        k = (4 * theta / math.pi).floor()
        phi = (-1) ** k * (4 * theta).cos() - 2 * k
        cosines[range(2), [0, 1]] = (lamb * own + phi) / (1 + lamb)
        expected = cross_entropy(64 * cosines, torch.tensor([0, 1]))
        found = head.loss((x,), samples([0, 1]))['loss']
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert head.iteration == 4


def test_sphereface_begins_with_the_authors_lambda():
    head = build('SphereFaceHead')
    assert head.annealing_lambda == pytest.approx(892.857, abs=1e-3)
    head.iteration += 10_000
    assert head.annealing_lambda == 5.0
    # What failed is no iteration.
    with pytest.raises(ValueError, match='finite'):
        head.loss((torch.full((2, WIDTH), math.nan),), samples([0, 1]))
    assert head.iteration == 10_000


def statistics(rank, world, x):
    torch.manual_seed(0)
    heads = [build('AdaFaceHead', momentum=0.5), build('CurricularFaceHead', momentum=0.5)]
    for head in heads:
        head.weight.data = torch.eye(7, WIDTH)
        labels = [i % 7 for i in range(len(x))][rank::world]
        head.loss((x[rank::world],), samples(labels))
    return [heads[0].mean.item(), heads[0].std.item(), heads[1].t.item()]


def test_running_statistics_are_of_all_processes(on_processes):
    torch.manual_seed(1)
    x = 10 * torch.randn(9, WIDTH)
    lengths = np.linalg.norm(x.numpy(), axis=1)
    cosines = [x[i, i % 7].item() / lengths[i] for i in range(9)]
    expected = [
        (20 + lengths.mean()) / 2,
        (100 + lengths.std(ddof=1)) / 2,
        np.mean(cosines) / 2,
    ]
    for found in on_processes(statistics, x):
        assert found == pytest.approx(expected, rel=1e-5)


def test_one_length_changes_no_statistics():
    head = build('AdaFaceHead', momentum=1.0)
    head.loss((torch.randn(1, WIDTH),), samples([0]))
    assert (head.mean, head.std) == (20, 100)


@pytest.mark.parametrize('name', [n for n in HEADS if n != 'SoftmaxHead'])
def test_every_head_has_the_common_arguments(name):
    head = build(name, scale=10.0, num_subcenters=2, gradient='detached', impl='chunked')
    assert head.weight.shape == (14, WIDTH)
    assert (head.scale, head.impl) == (10.0, 'chunked')
    scores = head((torch.randn(3, WIDTH),))
    assert scores.shape == (3, 7)
    assert scores.abs().max() <= 10.001


def test_fast_path_trains_as_the_reference_does():
    """50 steps of SGD on the digits, from the same weights."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = digits.target.tolist()
    curves = []
    for impl in ('reference', 'fused', 'chunked'):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32))
        head = ArcFaceHead(10, 32, scale=16.0, margin=0.3, impl=impl)
        parameters = [*net.parameters(), *head.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        curve = []
        for step in range(50):
            chosen = slice(32 * step, 32 * step + 32)
            loss = head.loss((net(images[chosen]),), samples(labels[chosen]))['loss']
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        curves.append(curve)
    assert curves[0][-1] < 0.7 * curves[0][0]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4)


def test_scores_at_inference_are_scaled_cosines():
    head = ArcFaceHead(2, 2, scale=10.0)
    head.weight.data = torch.tensor([[3.0, 0.0], [0.0, 0.1]])
    scores = head((torch.tensor([[5.0, 5.0]]),))
    assert scores.tolist() == [pytest.approx([10 / math.sqrt(2)] * 2)]


def test_predicts_as_a_classification_head():
    head = ArcFaceHead(4, 4)
    head.weight.data = torch.eye(4)
    predicted = head.predict((torch.eye(4)[[2, 0]],))
    assert [sample.pred_label.item() for sample in predicted] == [2, 0]


def test_margins_from_a_file(tmp_path):
    path = tmp_path / 'margins.txt'
    path.write_text('0.1\n0.2\n0.3\n')
    head = ArcFaceHead(3, 4, margin=str(path))
    assert head.margins(torch.tensor([2, 0])).tolist() == pytest.approx([0.3, 0.1])
    path.write_text('0.1\nhalf\n0.3\n')
    with pytest.raises(ValueError, match=r"margins.txt:2: a margin must be a number, got 'half'"):
        ArcFaceHead(3, 4, margin=str(path))


@pytest.mark.parametrize(
    ('kind', 'arguments', 'message'),
    [
        (ArcFaceHead, {'margin': -0.1}, r'margin must be in \[0, 1.571\], got -0.1 for class 0'),
        (ArcFaceHead, {'margin': [0.1, 2.0, 0.1]}, 'got 2.0 for class 1'),
        (ArcFaceHead, {'margin': [0.1, 0.2]}, '3 classes, got 2 margins'),
        (ArcFaceHead, {'num_subcenters': 0}, 'num_subcenters must be at least 1, got 0'),
        (ArcFaceHead, {'num_subcenters': 1.5}, 'num_subcenters must be a whole .*, got 1.5'),
        (ArcFaceHead, {'scale': 0.0}, 'scale must be above 0, got 0.0'),
        (ArcFaceHead, {'impl': 'fast'}, "impl must be one of .* got 'fast'"),
        (ArcFaceHead, {'gradient': 'none'}, "gradient must be one of .* got 'none'"),
        (ArcFaceHead, {'filter_threshold': 1.0}, r'filter_threshold must be in \(-1, 1\), got 1.0'),
        (CosFaceHead, {'margin': 2.1}, r'margin must be in \[0, 2\], got 2.1'),
        (UniFaceHead, {'margin': 2.1}, r'margin must be in \[0, 2\], got 2.1'),
        (AdaFaceHead, {'margin': 1.05}, r'margin must be in \[0, 1\], got 1.05'),
        (CurricularFaceHead, {'margin': 1.6}, r'margin must be in \[0, 1.571\], got 1.6'),
        (ElasticFaceHead, {'margin': 1.6}, r'margin must be in \[0, 1.571\], got 1.6'),
        (
            ElasticFaceHead,
            {'margin': 2.1, 'function': 'cos'},
            r'margin must be in \[0, 2\], got 2.1',
        ),
        (SphereFaceHead, {'margin': 10.5}, r'margin must be in \[1, 10\], got 10.5'),
        (SphereFaceRHead, {'margin': 0.9}, r'margin must be in \[1, 10\], got 0.9'),
        (SphereFaceHead, {'margin': 0.9}, r'margin must be in \[1, 10\], got 0.9'),
        (SphereFaceHead, {'annealing': (1.0, 2.0)}, 'annealing must be three numbers'),
        (SphereFaceHead, {'scale': None, 'filter_threshold': 0.5}, 'filter_threshold needs a sc'),
        (SphereFaceRHead, {'version': 3}, 'version must be 1 or 2, got 3'),
        (SphereFaceRHead, {'margin': [1.0, 1.5, 2.0]}, 'the same for all classes, got 1.0 to 2.0'),
        (SphereFace2Head, {'margin': -1.0}, r'margin must be one number in \[0, 2\], got -1.0'),
        (SphereFace2Head, {'alpha': 1.0}, r'alpha must be in \(0, 1\), got 1.0'),
        (SphereFace2Head, {'exponent': 0.5}, 'exponent must be at least 1, got 0.5'),
        (SphereFace2Head, {'margin': [0.1, 0.2, 0.3]}, 'margin must be one number'),
        (SphereFace2Head, {'loss_weight': 0.0}, 'loss_weight must be above 0, got 0.0'),
        (CombinedMarginHead, {'margin': 0.5}, 'margin must be three numbers, .* got 0.5'),
        (CombinedMarginHead, {'margin': (0.0, 0.3, 0.2)}, r'margin must be in \(0, 10\]'),
        (MagFaceHead, {'margin': (0.8, 0.45)}, r'l_m <= u_m <= pi/2, got \(0.8, 0.45\)'),
        (MagFaceHead, {'margin': 0.5}, 'margin must be two numbers, .* got 0.5'),
        (MagFaceHead, {'norm_range': 5.0}, 'norm_range must be two numbers, .* got 5.0'),
        (ArcFaceHead, {'num_subcenters': 2.0}, 'must be a whole number .*, got 2.0'),
        (MagFaceHead, {'norm_range': (10.0, 10.0)}, r'0 < l_a < u_a, got \(10.0, 10.0\)'),
        (MagFaceHead, {'regularization': -1.0}, 'regularization must be at least 0, got -1.0'),
        (AdaFaceHead, {'concentration': 0.0}, 'concentration must be above 0, got 0.0'),
        (AdaFaceHead, {'momentum': 0.0}, r'momentum must be in \(0, 1\], got 0.0'),
        (CurricularFaceHead, {'momentum': 1.1}, r'momentum must be in \(0, 1\], got 1.1'),
        (ElasticFaceHead, {'function': 'sin'}, "function must be one of .* got 'sin'"),
        (ElasticFaceHead, {'sigma': -1.0}, 'sigma must be at least 0, got -1.0'),
        (UniFaceHead, {'nontarget_weight': 0.0}, 'nontarget_weight must be above 0, got 0.0'),
        (ArcFaceHead, {'margin': '0.5'}, "must be a number, got the text '0.5': write 0.5"),
        (ArcFaceHead, {'margin': [0.1, '0.2', 0.1]}, "class 1 must be a finite number, got '0.2'"),
        (ArcFaceHead, {'margin': [0.1, 0.2, True]}, 'class 2 must be a finite number, got True'),
        (ArcFaceHead, {'margin': torch.ones(3, 2)}, r'class 0 must be .* got \[1.0, 1.0\]'),
        (ArcFaceHead, {'margin': {0: 0.1, 1: 0.1, 2: 0.1}}, 'one per class in a list, .* got {0:'),
        (ArcFaceHead, {'margin': math.nan}, 'margin must be a finite number, .* got nan'),
        (ArcFaceHead, {'margin': [0.1, math.nan, 0.1]}, 'class 1 must be a finite .* got nan'),
        (CombinedMarginHead, {'margin': ('1', 0.3, 0.2)}, 'margin must be three numbers'),
        (CombinedMarginHead, {'margin': '1.0'}, "margin must be three numbers, .* got '1.0'"),
        (MagFaceHead, {'margin': '45'}, "margin must be two numbers, .* got '45'"),
        (MagFaceHead, {'norm_range': (10, math.inf)}, 'norm_range must be two numbers'),
        (SphereFaceHead, {'annealing': '123'}, "annealing must be three numbers .* got '123'"),
        (SphereFaceHead, {'annealing': (1000, math.nan, 5)}, 'annealing must be three numbers'),
        (SphereFaceRHead, {'version': True}, 'version must be 1 or 2, got True'),
        (SphereFace2Head, {'margin': '0.4'}, "margin must be one number .* got '0.4'"),
    ],
)
def test_wrong_arguments(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(3, 4, **arguments)


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        (SoftmaxHead, 'num_classes'),
        (SoftmaxHead, 'in_channels'),
        (SubCenterArcFaceHead, 'num_subcenters'),
        *((kind, 'scale') for kind in (ArcFaceHead, CosFaceHead, NormSoftmaxHead, MagFaceHead)),
        *((kind, 'margin') for kind in (ArcFaceHead, CosFaceHead, AdaFaceHead, CurricularFaceHead)),
        *((kind, 'margin') for kind in (ElasticFaceHead, SphereFaceHead, SphereFaceRHead)),
        *((kind, 'margin') for kind in (UniFaceHead, CombinedMarginHead, MagFaceHead)),
        *((SphereFace2Head, name) for name in ('margin', 'alpha', 'exponent', 'loss_weight')),
        (ArcFaceHead, 'filter_threshold'),
        (AdaFaceHead, 'concentration'),
        (AdaFaceHead, 'momentum'),
        (CurricularFaceHead, 'momentum'),
        (ElasticFaceHead, 'sigma'),
        (MagFaceHead, 'norm_range'),
        (MagFaceHead, 'regularization'),
        (UniFaceHead, 'nontarget_weight'),
    ],
)
def test_no_head_takes_what_is_no_number(kind, name):
    for value in ('0.5', True, math.nan, math.inf, -math.inf, {1}):
        with pytest.raises(ValueError, match=name):
            kind(**dict(num_classes=3, in_channels=4) | {name: value})


@pytest.mark.parametrize('margin', ['margins.txt', 'a folder', '[0.1, 0.2]'])
def test_margins_of_a_file_that_is_not_there(tmp_path, margin):
    (tmp_path / 'a folder').mkdir()
    with pytest.raises(FileNotFoundError, match='is not a file: give a number, one per class'):
        ArcFaceHead(3, 4, margin=str(tmp_path / margin))


@pytest.mark.parametrize(
    'margin',
    [
        (0.1, 0.2, 0.3),
        np.array([0.1, 0.2, 0.3], np.float32),
        torch.tensor([0.1, 0.2, 0.3]),
        [np.float64(0.1), 0.2, 0.3],
    ],
)
def test_margins_from_arrays(margin):
    head = ArcFaceHead(3, 4, margin=margin)
    assert head.margins.values.tolist() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize('margin', [np.float32(0.25), np.array(0.25), torch.tensor(0.25)])
def test_one_margin_from_arrays(margin):
    assert ArcFaceHead(3, 4, margin=margin).margins.values.tolist() == [0.25] * 3


@pytest.mark.parametrize(
    ('kind', 'arguments', 'message'),
    [
        (ArcFaceHead, {'loss': dict(type='LabelSmoothLoss')}, 'label smoothing is not defined'),
        (ArcFaceHead, {'margins': 0.5}, "no argument 'margins': its name is margin"),
        (CosFaceHead, {'easy_margin': True}, 'ArcFaceHead and MagFaceHead have one'),
        (NormSoftmaxHead, {'margin': 0.5}, "NormSoftmaxHead has no argument 'margin'"),
        (SoftmaxHead, {'num_subcenters': 3}, 'NormSoftmaxHead has them'),
        (UniFaceHead, {'color': 1}, "UniFaceHead has no argument 'color'$"),
    ],
)
def test_arguments_that_are_not_there(kind, arguments, message):
    with pytest.raises(TypeError, match=message):
        kind(3, 4, **arguments)


@pytest.mark.parametrize('name', HEADS)
def test_wrong_samples(name):
    head, feats = build(name, 3, 4), (torch.randn(2, 4),)
    with pytest.raises(ValueError, match=r'\[0, 3\).*sample 1 of the batch has 3'):
        head.loss(feats, samples([0, 3]))
    with pytest.raises(ValueError, match='sample 1 of the batch has 2'):
        head.loss(feats, samples([0, [1, 2]]))
    with pytest.raises(ValueError, match='sample 0 of the batch has 0'):
        head.loss(feats, [DataSample(), DataSample()])
    mixed = [DataSample().set_gt_score(torch.tensor([0.5, 0.5, 0.0])) for _ in range(2)]
    with pytest.raises(ValueError, match='remove batch augments'):
        head.loss(feats, mixed)
    state = {key: value.clone() for key, value in head.state_dict().items()}
    broken = (torch.tensor([[1.0, 2, 3, 4], [1.0, math.nan, 3, 4]]),)
    with pytest.raises(ValueError, match='1 samples of the batch have none: 1'):
        head.loss(broken, samples([0, 1]))
    # A bad batch leaves no trace in running statistics.
    for key, value in head.state_dict().items():
        assert torch.equal(value, state[key])


def test_cross_entropy_of_torch_is_the_loss_without_margin():
    torch.manual_seed(0)
    head, x = NormSoftmaxHead(5, 8, scale=20.0), torch.randn(4, 8)
    expected = cross_entropy(head((x,)), torch.arange(4))
    torch.testing.assert_close(head.loss((x,), samples([0, 1, 2, 3]))['loss'], expected)
