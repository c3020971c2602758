"""The steps of an inversion: which are undone, and what is kept."""

import math

import pytest
import torch

from mmarcface.apis.inversion.descent import Descent


def start(value=1.0, side=2, limits=None):
    return Descent(torch.full((1, 1, side, side), value), limits)


def go(descent, objective, lr=0.1):
    """Look, and step where the last step is accepted, down a slope of 1."""
    accepted = descent.accept(dict(objective=objective))
    if accepted:
        descent.step(torch.ones_like(descent.pixels), lr)
    return accepted


def value(descent):
    assert descent.pixels.unique().numel() == 1
    return descent.pixels.detach().flatten()[0].item()


def test_steps_are_those_of_adam():
    pixels = torch.randn(2, 3, 4, 4)
    descent = Descent(pixels, None)
    expected = pixels.clone().requires_grad_()
    adam = torch.optim.Adam([expected], lr=0.3)
    for number in range(20):
        gradient = torch.randn(pixels.shape)
        assert descent.accept(dict(objective=20.0 - number))
        descent.step(gradient, 0.3)
        expected.grad = gradient
        adam.step()
    assert torch.equal(descent.pixels, expected)
    assert descent.rate == 1


@pytest.mark.parametrize('jump', [1.6, 1e9, math.inf, math.nan])
def test_jumps_are_undone_and_halved(jump):
    descent = start()
    assert go(descent, 1.0)
    assert value(descent) == pytest.approx(0.9)
    for rate in (0.5, 0.25, 0.125):
        assert not go(descent, jump)
        assert descent.rate == rate
        assert value(descent) == pytest.approx(1 - 0.1 * rate)
    # The rate that was found goes on, and grows again.
    assert go(descent, 0.9)
    assert value(descent) == pytest.approx(1 - 0.1 * 0.125 * 2, abs=1e-4)
    rates = []
    while descent.rate < 1:
        rates.append(descent.rate)
        assert go(descent, 0.9)
    assert rates == sorted(rates)
    assert len(rates) > 10


@pytest.mark.parametrize(
    ('least', 'objective', 'accepted'),
    [
        (2.0, 2.9, True),
        (2.0, 3.1, False),
        (-2.0, -1.1, True),
        (-2.0, -0.9, False),
        (-2.0, 50.0, False),
        (0.0, 0.0, True),
        (2.0, -1e9, True),
    ],
)
def test_what_a_jump_is(least, objective, accepted):
    descent = start()
    go(descent, least)
    assert go(descent, objective) is accepted


def test_best_is_where_it_goes_back_to():
    """Not the pixels before the jump, which were worse."""
    descent = start()
    for objective in (1.0, 0.5, 0.7, 0.72):
        assert go(descent, objective)
    best = descent.best['pixels'].clone()
    assert descent.best['terms'] == dict(objective=0.5)
    assert best.unique().item() == pytest.approx(0.9)
    assert not go(descent, 0.8)
    # Halfway of the step from there.
    assert value(descent) == pytest.approx(0.85, abs=1e-4)
    assert torch.equal(descent.best['pixels'], best)


def test_lucky_views_undo_nothing():
    """Where the objective hangs on chance, the best pixels are seen once more, as these are."""
    descent = start()
    go(descent, 1.0)
    asked = []

    def again(pixels):
        asked.append(pixels.clone())
        return 4.0

    assert descent.accept(dict(objective=3.9), again)
    assert not asked
    # Worse than the best was, better than it is.
    descent.step(torch.ones(1, 1, 2, 2), 0.1)
    assert descent.accept(dict(objective=4.5), lambda pixels: again(pixels) + 1)
    assert asked[0].unique().item() == 1
    assert descent.best['terms'] == dict(objective=4.5)
    assert descent.best['pixels'].unique().item() < 0.9
    # Worse, and no jump; and a jump.
    descent.step(torch.ones(1, 1, 2, 2), 0.1)
    assert descent.accept(dict(objective=15.9), again)
    assert descent.best['terms'] == dict(objective=4.5)
    descent.step(torch.ones(1, 1, 2, 2), 0.1)
    assert not descent.accept(dict(objective=18.1), again)


def test_pixels_that_are_the_best_are_looked_at_once():
    descent = start()
    go(descent, 1.0, lr=0.0)
    assert descent.accept(dict(objective=50.0), lambda _: pytest.fail('seen once more'))
    assert descent.rate == 1


def test_lost_when_there_is_no_way_back():
    descent = start()
    assert descent.is_lost
    go(descent, 1.0)
    for _ in range(20):
        assert not descent.is_lost
        go(descent, math.nan)
    go(descent, math.nan)
    assert descent.is_lost


def test_limits():
    descent = start(limits=(torch.tensor(0.5), torch.full((1, 1, 1), 0.95)))
    go(descent, 1.0, lr=5.0)
    assert value(descent) == 0.5
    go(descent, 0.5, lr=-50.0)
    assert value(descent) == pytest.approx(0.95)


def test_objectives_are_compared_at_one_resolution():
    descent = start()
    go(descent, 1.0)
    go(descent, 5.0)
    assert descent.rate == 0.5
    descent.resize((4, 4))
    assert go(descent, 100.0)
    assert descent.rate == pytest.approx(0.55)
    assert not go(descent, 1000.0)
    assert torch.equal(descent.best['pixels'], torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize('stop', range(1, 12))
def test_goes_on_bit_by_bit(stop, tmp_path):
    objectives = [5.0, 4.0, 9.0, 7.0, 3.5, 3.6, 8.0, 3.0, 2.9, math.nan, 2.0, 1.0, 1.9]
    gradients = torch.randn(len(objectives), 1, 2, 4, 4, generator=torch.manual_seed(0))

    def run(descent, numbers):
        for number in numbers:
            if descent.accept(dict(objective=objectives[number])):
                descent.step(gradients[number], 0.1)
        return descent

    numbers = range(len(objectives))
    expected = run(Descent(torch.zeros(1, 2, 4, 4), None), numbers)
    stopped = run(Descent(torch.zeros(1, 2, 4, 4), None), numbers[:stop])
    torch.save(stopped.state_dict(), tmp_path / 'state.pth')
    resumed = Descent(torch.ones(1, 2, 4, 4), None)
    resumed.load_state_dict(torch.load(tmp_path / 'state.pth', weights_only=True))
    run(resumed, numbers[stop:])
    assert torch.equal(resumed.pixels, expected.pixels)
    assert torch.equal(resumed.best['pixels'], expected.best['pixels'])
    assert resumed.rate == expected.rate < 1
    assert resumed.best['terms'] == expected.best['terms']
