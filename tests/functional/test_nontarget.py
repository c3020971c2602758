import pytest
import torch

from mmarcface.functional import (
    curricularface_nontarget,
    interclass_filter,
    sphereface2_similarity,
    sphereface_r_nontarget,
)


def test_curricular_weighs_only_the_hard():
    phi = torch.tensor([[0.2], [0.9]])
    cosine = torch.tensor([[0.1, 0.2, 0.5], [0.1, 0.2, 0.5]])
    found = curricularface_nontarget(phi, 0.3)(cosine)
    assert found[0].tolist() == pytest.approx([0.1, 0.2, 0.5 * (0.3 + 0.5)])
    assert torch.equal(found[1], cosine[1])


def test_filter_zeroes_what_is_above():
    cosine = torch.tensor([0.1, 0.4, 0.41, 1.0])
    assert interclass_filter(0.4)(cosine).tolist() == pytest.approx([0.1, 0.4, 0, 0])


MODULATIONS = {
    'curricular': curricularface_nontarget(torch.full((1, 1), 0.2, dtype=torch.float64), 0.3),
    'filter': interclass_filter(0.4),
    'smaller angle': sphereface_r_nontarget(1.5),
    'sphereface2': sphereface2_similarity(3.0),
    'curricular of the filtered': curricularface_nontarget(torch.full((1, 1), 0.2), 0.3).compose(
        interclass_filter(0.4)
    ),
    'similarity of the smaller angle': sphereface2_similarity(2.5).compose(
        sphereface_r_nontarget(1.3)
    ),
    'detached': sphereface_r_nontarget(1.5).detach_margin(),
}


@pytest.mark.parametrize('name', MODULATIONS)
def test_slope_is_the_derivative(name):
    function = MODULATIONS[name]
    cosine = torch.linspace(-0.999, 0.999, 64, dtype=torch.float64).view(4, 16).requires_grad_()
    value = function(cosine)
    (expected,) = torch.autograd.grad(value.sum(), cosine)
    found = function.slope(cosine.detach(), value.detach())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', MODULATIONS)
def test_slope_is_finite_up_to_and_past_one(name):
    cosine = torch.tensor([[-1.0000001, -1, -0.5, 0, 0.5, 1, 1.0000001]])
    function = MODULATIONS[name]
    assert function.slope(cosine, function(cosine)).isfinite().all()
