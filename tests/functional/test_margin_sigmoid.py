import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from mmarcface.functional.losses import margin_sigmoid
from mmarcface.functional.nontarget import Modulation

CUBE = Modulation(lambda c: c**3, lambda c, _: 3 * c**2)


def problem():
    torch.manual_seed(0)
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)  # noqa: E731
    return make(4, 5), make(7, 5), make(1), torch.tensor([0, 6, 2, 2])


def loss(x, w, b, y, impl):
    return margin_sigmoid(x, w, y, b, lambda c: 8 * (c - 0.3), CUBE, 8.0, 0.1, 0.7, 0.2, impl=impl)


def test_equals_binary_cross_entropies(impl):
    x, w, b, y = problem()
    expected = 0.0
    for vector, label in zip(x, y, strict=True):
        for index, center in enumerate(w):
            cosine = vector @ center / (vector.norm() * center.norm())
            if index == label:
                expected += 0.7 * cross_entropy(8 * (cosine - 0.3) + b[0], torch.ones_like(cosine))
            else:
                logit = 8 * (cosine**3 + 0.1) + b[0]
                expected += 0.2 * cross_entropy(logit, torch.zeros_like(cosine))
    expected = expected / 4
    found = loss(x, w, b, y, impl)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(found, (x, w, b)), torch.autograd.grad(expected, (x, w, b))
    )


def test_gradcheck(impl):
    x, w, b, y = problem()
    assert torch.autograd.gradcheck(lambda x, w, b: loss(x, w, b, y, impl), (x, w, b))


def test_far_logits(impl):
    """Logits of +-400 cost 400 or nothing, where exp overflows."""
    x, w, y = torch.eye(2), torch.eye(2), torch.tensor([0, 0])
    found = margin_sigmoid(
        x,
        w,
        y,
        torch.zeros(1),
        lambda c: 800 * (c - 0.5),
        scale=800.0,
        nontarget_margin=-0.5,
        impl=impl,
    )
    # The first sample is right on both classes, the second wrong on both.
    assert found.item() == pytest.approx((0 + 800) / 2)
