import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmarcface.functional import (
    adaface,
    adaptive_margins,
    angle_from_cosine,
    arcface,
    combined_margin,
    cosface,
    detach_margin,
    elasticface_margins,
    magface_margin,
    magface_regularizer,
    sphereface,
    sphereface2_similarity,
    sphereface_r,
    sphereface_r_nontarget,
    target_logit_curve,
)


def arc(theta, margin, easy=False):
    """Equation 3 with the continuations of insightface, by the angle itself."""
    if easy:
        return math.cos(theta + margin) if math.cos(theta) > 0 else math.cos(theta)
    if theta < math.pi - margin:
        return math.cos(theta + margin)
    return math.cos(theta) - margin * math.sin(margin)


def psi(alpha):
    """(-1)^k cos(alpha) - 2k, by subtracting pi until the rest is below it."""
    k = 0
    while alpha - k * math.pi >= math.pi:
        k += 1
    return (-1) ** k * math.cos(alpha) - 2 * k


# What each function gives at an angle for a margin m in [0, 1], and the formula of its paper.
FORMULAS = {
    'cosface': (lambda c, m: cosface(c, m), lambda t, m: math.cos(t) - m),
    'arcface': (lambda c, m: arcface(c, m), arc),
    'arcface easy': (lambda c, m: arcface(c, m, True), lambda t, m: arc(t, m, True)),
    'combined CM2': (
        lambda c, m: combined_margin(c, 0.9, m, 0.15),
        lambda t, m: psi(0.9 * t + m) - 0.15,
    ),
    'combined m1=3': (lambda c, m: combined_margin(c, 3.0, m, 0.0), lambda t, m: psi(3 * t + m)),
    'sphereface 4': (lambda c, m: sphereface(c, 4 + m), lambda t, m: psi((4 + m) * t)),
    'sphereface annealed': (
        lambda c, m: sphereface(c, 1.35, 5.0 + m),
        lambda t, m: ((5 + m) * math.cos(t) + psi(1.35 * t)) / (6 + m),
    ),
    'sphereface-r 1': (
        lambda c, m: sphereface_r(c, 1 + m),
        lambda t, m: math.cos(min((1 + m) * t, math.pi)),
    ),
    'sphereface-r 2': (
        lambda c, m: sphereface_r_nontarget(1 + m)(c),
        lambda t, m: math.cos(t / (1 + m)),
    ),
    'adaface low': (
        lambda c, m: adaface(c, m, torch.full_like(c, -0.8)),
        lambda t, m: math.cos(min(t + 0.8 * m, math.pi)) - (m - 0.8 * m),
    ),
    'adaface high': (
        lambda c, m: adaface(c, m, torch.full_like(c, 0.6)),
        lambda t, m: math.cos(max(t - 0.6 * m, 0)) - (m + 0.6 * m),
    ),
    'sphereface2': (
        lambda c, m: sphereface2_similarity(3 + m)(c),
        lambda t, m: 2 * ((math.cos(t) + 1) / 2) ** (3 + m) - 1,
    ),
}
FALLING = [name for name in FORMULAS if 'easy' not in name]


@pytest.mark.parametrize('name', FORMULAS)
@given(theta=st.floats(0, math.pi), margin=st.floats(0, 1))
def test_equals_the_formula_in_the_angle(name, theta, margin):
    function, formula = FORMULAS[name]
    # At the ends the cosine says little of the angle; at the joints formulas may take either side.
    if min(theta, math.pi - theta) < 1e-6 or abs(theta - (math.pi - margin)) < 1e-9:
        return
    if abs(theta - math.pi / 2) < 1e-9:
        return
    phi = function(torch.tensor(math.cos(theta), dtype=torch.float64), margin)
    assert phi.item() == pytest.approx(formula(theta, margin), abs=1e-8)


@pytest.mark.parametrize('margin', [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize('name', FALLING)
def test_falls_with_the_angle(name, margin):
    theta = torch.linspace(0, math.pi, 100_001, dtype=torch.float64)
    phi = FORMULAS[name][0](theta.cos(), margin)
    assert (phi.diff() <= 1e-12).all()


@pytest.mark.parametrize('margin', [1.2, math.pi / 2])
def test_arcface_falls_with_the_angle_up_to_the_largest_margin(margin):
    theta = torch.linspace(0, math.pi, 100_001, dtype=torch.float64)
    assert (arcface(theta.cos(), margin).diff() <= 1e-12).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', FORMULAS)
def test_gradient_is_finite_up_to_and_past_one(name, dtype):
    cosine = torch.tensor([-1.0000001, -1, -0.5, 0, 0.5, 1, 1.0000001], dtype=dtype)
    cosine.requires_grad_()
    phi = FORMULAS[name][0](cosine, 0.5)
    phi.sum().backward()
    assert phi.isfinite().all()
    assert cosine.grad.isfinite().all()


@pytest.mark.parametrize('name', FORMULAS)
def test_gradient_equals_finite_differences(name):
    cosine = torch.linspace(-0.99, 0.991, 41, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: FORMULAS[name][0](c, 0.5), (cosine,))


def test_margin_may_differ_by_sample():
    cosine, values = torch.tensor([0.3, 0.3]), torch.tensor([0.1, 0.7])
    expected = [arc(math.acos(0.3), margin) for margin in (0.1, 0.7)]
    assert arcface(cosine, values).tolist() == pytest.approx(expected, abs=1e-6)


def test_all_three_margins_count():
    """m3 > 0 hides m2 in arcface_torch, which gives 0.300 here."""
    phi = combined_margin(torch.tensor(0.5, dtype=torch.float64), 1.0, 0.3, 0.2)
    assert phi.item() == pytest.approx(math.cos(math.acos(0.5) + 0.3) - 0.2)
    assert phi.item() == pytest.approx(0.022, abs=1e-3)


def test_combined_is_arcface_before_its_continuation():
    cosine = torch.linspace(math.cos(math.pi - 0.51), 1, 999, dtype=torch.float64)
    torch.testing.assert_close(
        combined_margin(cosine, 1.0, 0.5, 0.0), arcface(cosine, 0.5), atol=1e-7, rtol=0
    )


def test_detached_margin_has_the_cosines_gradient():
    cosine = torch.tensor([0.1, 0.5], dtype=torch.float64, requires_grad=True)
    margin = torch.tensor([0.2, 0.3], dtype=torch.float64, requires_grad=True)
    phi = detach_margin(arcface(cosine.detach(), margin), cosine)
    torch.testing.assert_close(phi, arcface(cosine, margin))
    phi.sum().backward()
    assert cosine.grad.tolist() == [1.0, 1.0]
    expected = [-math.sin(math.acos(c) + m) for c, m in ((0.1, 0.2), (0.5, 0.3))]
    assert margin.grad.tolist() == pytest.approx(expected)


def test_magface_margin_and_regularizer():
    norms = torch.tensor([1.0, 10.0, 60.0, 110.0, 500.0], dtype=torch.float64)
    found = magface_margin(norms, 10, 110, 0.45, 0.8)
    assert found.tolist() == pytest.approx([0.45, 0.45, 0.625, 0.8, 0.8])
    found = magface_regularizer(norms, 10, 110)
    assert found[2].item() == pytest.approx(1 / 60 + 60 / 110**2)
    # It falls up to u_a: longer embeddings cost less.
    assert (magface_regularizer(torch.linspace(10, 110, 101), 10, 110).diff() < 0).all()


def test_elastic_margins_are_normal():
    torch.manual_seed(0)
    drawn = elasticface_margins(torch.zeros(200_000), torch.full((200_000,), 0.5), 0.05)
    assert drawn.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert drawn.std().item() == pytest.approx(0.05, rel=1e-2)
    assert (drawn < 0.5 - 0.15).float().mean().item() == pytest.approx(0.00135, rel=0.3)


def test_elastic_plus_gives_harder_samples_larger_margins():
    """The authors' code sorts by a permutation where its inverse is needed."""
    torch.manual_seed(0)
    cosine = torch.rand(50)
    drawn = elasticface_margins(cosine, torch.zeros(50), 0.05, plus=True)
    assert (drawn[cosine.argsort()].diff() <= 0).all()
    theirs = torch.randn(50).sort().values[cosine.sort(descending=True).indices]
    assert not (theirs[cosine.argsort()].diff() <= 0).all()


def test_adaptive_margins_equal_the_formula():
    counts = np.array([1, 10, 100, 0, 1000])
    rarity = [n**-0.25 for n in (1, 10, 100, 1000)]
    share = [(r - rarity[-1]) / (rarity[0] - rarity[-1]) for r in rarity]
    expected = [0.05 + 0.45 * s for s in share]
    found = adaptive_margins(counts)
    assert found[[0, 1, 2, 4]].tolist() == pytest.approx(expected)
    assert found[3] == 0.5


def test_adaptive_margins_of_balanced_classes():
    """mmpretrain's hook divides 0 by 0 here."""
    assert adaptive_margins(np.array([7, 7, 7]), 0.1, 0.5).tolist() == pytest.approx([0.3] * 3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (([1, 2], 0.5, 0.1), '0 <= margin_min <= margin_max, got 0.5 and 0.1'),
        (([1, 2], -0.1, 0.1), 'got -0.1 and 0.1'),
        (([1, 2], 0.1, 0.5, 0.25), 'power must be below 0, got 0.25'),
        (([1, 2], '0.1', 0.5), "margin_min must be a finite number, got '0.1'"),
        (([1, 2], 0.1, float('nan')), 'margin_max must be a finite number, got nan'),
        (([0, 0],), 'a class with images, got none'),
        (([2, -1],), 'counts must be at least 0, got -1'),
    ],
)
def test_wrong_adaptive_margins(arguments, message):
    with pytest.raises(ValueError, match=message):
        adaptive_margins(*arguments)


def test_curve_is_that_of_the_function():
    degrees, phi = target_logit_curve(lambda c: arcface(c, 0.5), 7)
    assert degrees.tolist() == pytest.approx([0, 30, 60, 90, 120, 150, 180])
    expected = [arc(math.radians(d), 0.5) for d in degrees.tolist()]
    assert phi.tolist() == pytest.approx(expected, abs=1e-7)


def test_angle_keeps_its_bounds():
    cosine = torch.tensor([1.0000001, 1.0, -1.0, -1.0000001], requires_grad=True)
    assert angle_from_cosine(cosine).tolist() == pytest.approx([0, 0, math.pi, math.pi], abs=1e-3)
    angle_from_cosine(cosine).sum().backward()
    assert not cosine.grad.any()
