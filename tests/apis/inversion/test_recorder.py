"""The record of a search: how many points and frames, and what it goes on from."""

import math

import pytest
import torch

from mmarcface.apis import InversionSettings
from mmarcface.apis.inversion.descent import Descent
from mmarcface.apis.inversion.model import InversionModel
from mmarcface.apis.inversion.recorder import Recorder
from mmarcface.apis.inversion.state import SearchState, WorkItem
from mmarcface.apis.inversion.targets import resolve_targets

from .test_search import SIZE, Tiny, weight

FIRST = WorkItem(0, 0)


def state_in(folder, interval=4):
    net = InversionModel.of(Tiny(), None, SIZE)
    targets = resolve_targets(net, weight()[:1])
    return SearchState(folder, interval, net, targets, InversionSettings(), 0)


def run(recorder, descent, until=math.inf):
    """Go down a slope of 1, with a frame of the number of the step."""
    recorder.resume(descent)
    while recorder.step < min(until, recorder.steps):
        assert descent.accept(dict(objective=-float(recorder.step)))
        recorder.add_point(dict(objective=-float(recorder.step)))
        if recorder.needs_frame:
            recorder.frames.append(torch.tensor(recorder.step))
        descent.step(torch.ones_like(descent.pixels), 0.1)
        recorder.finish_step(descent)


@pytest.mark.parametrize(
    ('steps', 'points', 'frames'),
    [(1, [0], [0]), (24, range(24), range(24)), (101, range(0, 101, 2), range(0, 101, 5))]
    + [(202, [*range(0, 202, 3), 201], range(0, 202, 9))],
)
def test_points_and_frames(steps, points, frames):
    shown = []
    recorder = Recorder(FIRST, state_in(None), steps, lambda step, terms: shown.append(step))
    run(recorder, Descent(torch.zeros(1, 1, 2, 2), None))
    assert [point['step'] for point in recorder.history] == shown
    assert sorted(set(shown)) == sorted(set(points))
    assert [int(frame) for frame in recorder.frames] == list(frames)
    other = Recorder(WorkItem(0, 1), state_in(None), steps, lambda *_: None)
    run(other, Descent(torch.zeros(1, 1, 2, 2), None))
    assert other.history == recorder.history
    assert other.frames == []


def test_goes_on_from_the_last_save(tmp_path):
    start = torch.zeros(1, 1, 2, 2)
    descent, expected = Descent(start, None), Descent(start, None)
    run(Recorder(FIRST, state_in(tmp_path), 20, lambda *_: None), descent, until=11)
    whole = Recorder(FIRST, state_in(None), 20, lambda *_: None)
    run(whole, expected)
    again, descent = Recorder(FIRST, state_in(tmp_path), 20, lambda *_: None), Descent(start, None)
    assert again.step == 8
    assert len(again.history) == len(again.frames) == 8
    run(again, descent)
    assert again.history == whole.history
    assert torch.equal(descent.pixels, expected.pixels)
