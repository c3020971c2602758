import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmarcface.functional.margins import arcface


def formula(theta: float, margin: float, easy: bool) -> float:
    """Equation 3 with the continuations of insightface, by the angle itself."""
    if easy:
        return math.cos(theta + margin) if math.cos(theta) > 0 else math.cos(theta)
    if theta < math.pi - margin:
        return math.cos(theta + margin)
    return math.cos(theta) - margin * math.sin(margin)


@given(st.floats(0, math.pi), st.floats(0, math.pi / 2), st.booleans())
def test_equals_the_formula_in_the_angle(theta, margin, easy):
    if abs(theta - (math.pi - margin)) < 1e-6 or (easy and abs(math.cos(theta)) < 1e-9):
        return
    phi = arcface(torch.tensor(math.cos(theta), dtype=torch.float64), margin, easy)
    assert phi.item() == pytest.approx(formula(theta, margin, easy), abs=1e-7)


@pytest.mark.parametrize('margin', [0.0, 0.2, 0.5, 1.2, math.pi / 2])
def test_falls_with_the_angle(margin):
    theta = torch.linspace(0, math.pi, 100_001, dtype=torch.float64)
    assert (arcface(theta.cos(), margin).diff() <= 1e-12).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('easy', [True, False])
def test_gradient_is_finite_up_to_and_past_one(dtype, easy):
    cosine = torch.tensor([-1.0000001, -1, -0.5, 0, 0.5, 1, 1.0000001], dtype=dtype)
    cosine.requires_grad_()
    phi = arcface(cosine, 0.5, easy)
    phi.sum().backward()
    assert phi.isfinite().all()
    assert cosine.grad.isfinite().all()


def test_gradient_equals_finite_differences():
    cosine = torch.linspace(-0.99, 0.99, 41, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: arcface(c, 0.5), (cosine,))


def test_margin_may_differ_by_sample():
    cosine, margins = torch.tensor([0.3, 0.3]), torch.tensor([0.1, 0.7])
    expected = [formula(math.acos(0.3), margin, False) for margin in (0.1, 0.7)]
    assert arcface(cosine, margins).tolist() == pytest.approx(expected, abs=1e-6)
