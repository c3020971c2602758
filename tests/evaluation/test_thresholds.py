import json
import os

import numpy as np
import pytest

from mmarcface.evaluation.thresholds import (
    Thresholds,
    choose_threshold,
    load_thresholds,
    save_thresholds,
    thresholds_file,
)
from mmarcface.functional.calibration import calibrate


def calibrations(*fars):
    """400 pairs of each kind."""
    generator = np.random.default_rng(0)
    is_same = np.arange(800) < 400
    similarity = np.clip(generator.normal(0.6 * is_same, 0.2), -1, 1)
    return [calibrate(similarity, is_same, far) for far in fars]


def test_round_trip(tmp_path):
    path = tmp_path / 'epoch_1.thresholds.json'
    sets = {'verification': calibrations(0.1, 0.001, 1.0), 'verification/ä': calibrations(0.0)}
    save_thresholds(path, Thresholds('abc', {}, {}))
    save_thresholds(path, Thresholds('abc', {}, sets))
    assert load_thresholds(path) == Thresholds('abc', {}, sets)
    assert load_thresholds(str(path)) == Thresholds('abc', {}, sets)
    assert os.listdir(tmp_path) == [path.name]

    content = json.loads(path.read_text())
    assert content['model'] == 'abc'
    enough, few, _ = content['sets']['verification']
    cosine = sets['verification'][0].threshold
    assert enough['l2'] == pytest.approx(np.sqrt(2 - 2 * cosine))
    assert enough['squared_l2'] == pytest.approx(2 - 2 * cosine)
    assert enough['note'] is None
    assert 'allows 0 of 400 pairs' in few['note']


def test_other_sets_of_the_same_model_are_kept(tmp_path):
    path = tmp_path / 'thresholds.json'
    first, second, third = (calibrations(far) for far in (0.1, 0.2, 0.3))
    save_thresholds(path, Thresholds('abc', {}, dict(lfw=first, cfp=first)))
    save_thresholds(path, Thresholds('abc', {}, dict(cfp=second)))
    assert load_thresholds(path) == Thresholds('abc', {}, dict(lfw=first, cfp=second))
    save_thresholds(path, Thresholds('other weights', {}, dict(cfp=third)))
    assert load_thresholds(path) == Thresholds('other weights', {}, dict(cfp=third))
    path.write_text('damaged')
    save_thresholds(path, Thresholds('abc', {}, dict(lfw=first)))
    assert load_thresholds(path) == Thresholds('abc', {}, dict(lfw=first))


def test_a_failed_write_leaves_the_file_as_it_is(tmp_path):
    path = tmp_path / 'thresholds.json'
    save_thresholds(path, Thresholds('abc', {}, dict(a=calibrations(0.1))))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_thresholds(path, Thresholds(b'not JSON', {}, {}))
    assert path.read_bytes() == before


@pytest.mark.parametrize('name', ['epoch_20.pth', 'net.v1.pth'])
def test_place_beside_the_checkpoint(tmp_path, name):
    found = thresholds_file(str(tmp_path / name))
    assert found == tmp_path / f'{name[:-4]}.thresholds.json'


def test_missing_file(tmp_path):
    for path in (tmp_path / 'gone.json', tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r'not exist: python tools/test.py CONFIG CHECKPOINT writes'
        ):
            load_thresholds(path)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'{"model": "abc", "sets": {',
        b'\xff\xfe\x00',
        b'null',
        b'[]',
        b'"sets"',
        b'{}',
        b'{"model": "abc"}',
        b'{"sets": {}}',
        b'{"model": "abc", "sets": []}',
        b'{"model": "abc", "sets": {"a": 3}}',
        b'{"model": "abc", "sets": {"a": [3]}}',
        b'{"model": "abc", "sets": {"a": [{"threshold": 0.5}]}}',
    ],
)
def test_damaged_file(tmp_path, content):
    path = tmp_path / 'thresholds.json'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'thresholds.json holds no thresholds that tools/test.py'):
        load_thresholds(path)


@pytest.mark.parametrize(
    ('fars', 'far', 'chosen'),
    [
        ((0.1, 0.001, 0.5), 0.001, 0.001),
        ((0.1, 0.001, 0.5), None, 0.1),
        ((0.5, 0.1), None, 0.1),
        # Too few pairs for any of them.
        ((0.001, 0.01), None, 0.01),
        ((0.0, 0.1), None, 0.1),
        ((0.0, 0.1), 0.0, 0.0),
    ],
)
def test_choice(fars, far, chosen):
    by_name = dict(lfw=calibrations(*fars), other=calibrations(0.9))
    assert choose_threshold(by_name, far, 'lfw', 'f') == calibrations(chosen)[0]
    assert choose_threshold(dict(lfw=by_name['lfw']), far, None, 'f') == calibrations(chosen)[0]


def test_wrong_choice():
    one, two = dict(lfw=calibrations(0.5, 0.1)), dict(lfw=calibrations(0.1), cfp=calibrations(0.1))
    for by_name, far, benchmark, message in (
        (one, 0.2, None, r'far must be one of \[0.1, 0.5\] in f, got 0.2: add it to far of'),
        (one, None, 'cfp', r"benchmark must be one of \['lfw'\] in f, got cfp"),
        (two, None, None, r"benchmark must be one of \['lfw', 'cfp'\] in f, got None"),
        ({}, None, None, r'benchmark must be one of \[\] in f'),
        (dict(lfw=[]), None, None, r'far must be one of \[\] in f'),
    ):
        with pytest.raises(ValueError, match=message):
            choose_threshold(by_name, far, benchmark, 'f')
