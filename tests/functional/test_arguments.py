"""Numbers are checked where they are given: the checks, and every function that takes numbers."""

import math
from functools import partial

import numpy as np
import pytest
import torch

import mmarcface.functional as F
from mmarcface.functional.arguments import (
    are_numbers,
    as_height_width,
    as_ranks,
    as_rates,
    check_number,
    is_number,
)
from mmarcface.functional.identification import SearchResults
from mmarcface.functional.losses import margin_sigmoid, margin_softmax, target_cosines

NO_NUMBERS = ['1', True, None, math.nan, math.inf, [1], torch.tensor(1)]
NOT_WHOLE = [1.5, 1.0, np.float32(1)]


@pytest.mark.parametrize('value', [1, 0, -2, 10**400, np.int64(3), np.uint8(3)])
def test_whole_numbers(value):
    assert is_number(value, whole=True)
    assert is_number(value)
    check_number('k', value, whole=True)


@pytest.mark.parametrize('value', NO_NUMBERS)
def test_no_numbers(value):
    assert not is_number(value)
    with pytest.raises(ValueError, match='scale must be a finite number above 0, got '):
        check_number('scale', value, above=0)


@pytest.mark.parametrize('value', NOT_WHOLE)
def test_numbers_that_are_not_whole(value):
    assert is_number(value)
    assert not is_number(value, whole=True)
    with pytest.raises(ValueError, match='k must be a whole number of at least 1, got '):
        check_number('k', value, minimum=1, whole=True)


@pytest.mark.parametrize(
    ('limits', 'good', 'bad', 'rule'),
    [
        (dict(), [-1e9], [], ''),
        (dict(minimum=1), [1, 9], [0.9], 'at least 1'),
        (dict(above=0), [1e-9], [0, -1], 'above 0'),
        (dict(maximum=2), [2, -9], [2.1], 'at most 2'),
        (dict(below=0), [-1e-9], [0], 'below 0'),
        (dict(minimum=0, maximum=math.pi / 2), [0, 1.57], [-0.1, 1.58], r'in \[0, 1.571\]'),
        (dict(above=0, maximum=1), [1], [0, 1.1], r'in \(0, 1\]'),
        (dict(minimum=0, below=1), [0], [1], r'in \[0, 1\)'),
        (dict(above=-1, below=1), [0], [-1, 1], r'in \(-1, 1\)'),
        (dict(minimum=1, maximum=1234567), [1234567], [1234568], r'in \[1, 1234567\]'),
    ],
)
def test_ranges(limits, good, bad, rule):
    for value in good:
        check_number('x', value, **limits)
    for value in bad:
        with pytest.raises(ValueError, match=rf'^x must be {rule}, got {value}$'):
            check_number('x', value, **limits)


@pytest.mark.parametrize(
    'values', [[1, 10], (1,), [], range(1, 3), np.array([1, 2]), [np.int64(1), 2]]
)
def test_lists(values):
    assert are_numbers(values, whole=True)
    ranks = as_ranks('k', values)
    assert ranks == tuple(np.array(values, int))
    assert all(type(rank) is int for rank in ranks)


@pytest.mark.parametrize(
    'values', [1, '1', '123', None, {1}, {1: 2}, [1, '1'], [True], [[1]], [1.5], [0], np.eye(2)]
)
def test_wrong_ranks(values):
    with pytest.raises(ValueError, match=r'^recall_at must hold ranks of at least 1, got '):
        as_ranks('recall_at', values)


@pytest.mark.parametrize('values', [0.1, '0.1', [0.1, '1'], [True], [-0.1], [1.1], [math.nan]])
def test_wrong_rates(values):
    with pytest.raises(ValueError, match=r'^far must hold rates in \[0, 1\], got '):
        as_rates('far', values)


def test_height_and_width():
    assert as_height_width('size', 5) == (5, 5)
    assert as_height_width('size', np.int64(5)) == (5, 5)
    assert as_height_width('size', [5, 7], minimum=5) == (5, 7)
    for size in ('112', 1.5, (1, 2, 3), (1,), (1, '2'), True, None):
        with pytest.raises(ValueError, match='size must be a whole number, or two for'):
            as_height_width('size', size)
    with pytest.raises(ValueError, match=r'size must be at least 8, got \(8, 7\)'):
        as_height_width('size', (8, 7), minimum=8)


COSINES = torch.linspace(-1, 1, 5)
UNIT, LABELS = torch.eye(4), torch.tensor([0, 0, 1, 1])
FOUND = SearchResults(np.ones(3, int), np.ones(3), np.zeros(3))
RELEVANCE = torch.eye(4, dtype=torch.bool)
SIMILARITY, IS_SAME = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1], bool)
SOFTMAX = dict(embeddings=UNIT, weight=torch.eye(6, 4), labels=LABELS, target_logit=lambda c: c)
SIGMOID = partial(margin_sigmoid, **SOFTMAX, bias=torch.zeros(1))
# Each function with an argument that is a number, some that are right, and some out of range.
NUMBERS = [
    (partial(F.topk_search, UNIT, UNIT), 'k', [1, 4], [0, 5, -1]),
    (partial(F.recall_at_k, RELEVANCE), 'k', [1, 99], [0, -1]),
    (
        partial(F.map_at_k, RELEVANCE, torch.ones(4)),
        'k',
        [1, np.int64(99)],
        [0, -1],
    ),
    (partial(F.search_gallery, UNIT, LABELS, UNIT, LABELS), 'max_rank', [1, 9], [0, -1]),
    (partial(F.search_distractors, UNIT, LABELS, UNIT), 'max_rank', [1, 9], [0, -1]),
    (partial(F.cmc_curve, FOUND.ranks), 'max_rank', [1, 9], [0, -1]),
    (partial(F.tpir_at_fpir, FOUND), 'fpir', [0, 1, 0.5], [-0.1, 1.1]),
    (partial(F.tar_at_far, SIMILARITY, IS_SAME), 'far', [0, 0.5], [-0.1, 1.1]),
    (
        partial(F.tar_from_roc, np.array([0.0, 1]), np.array([0.0, 1])),
        'allowed',
        [0, 0.5],
        [-0.1, 1.1],
    ),
    (partial(F.tar_interval, SIMILARITY, IS_SAME), 'far', [0, 0.5], [-0.1, 1.1]),
    (partial(F.tar_interval, SIMILARITY, IS_SAME, 0.5), 'confidence', [0.9], [0, 1]),
    (partial(F.tar_interval, SIMILARITY, IS_SAME, 0.5), 'seed', [0, 7], [-1]),
    (partial(F.calibrate, SIMILARITY, IS_SAME), 'far', [0, 0.5], [-0.1, 1.1]),
    (partial(F.calibrate, SIMILARITY, IS_SAME, 0.5), 'confidence', [0.9], [0, 1]),
    (partial(F.consecutive_folds, num_folds=2), 'number', [0, 9], [-1]),
    (partial(F.consecutive_folds, 9), 'num_folds', [1, 3], [0, -1]),
    (partial(F.kfold_accuracy, SIMILARITY, IS_SAME), 'folds', [2, 4], [1, 5, -2]),
    (partial(F.wilson_interval, trials=5), 'successes', [0, 5], [-1, 6]),
    (partial(F.wilson_interval, 0), 'trials', [1], [0, -1]),
    (partial(F.wilson_interval, 1, 2), 'confidence', [0.9], [0, 1]),
    (
        partial(F.convert_threshold, source='l2', target='cosine'),
        'value',
        [0, 1.5],
        [-1],
    ),
    (partial(F.few_pairs_warning, num_other=5), 'far', [0, 1], [-1, 2]),
    (partial(F.few_pairs_warning, 0.5), 'num_other', [1], [0]),
    (partial(F.mean_directions, UNIT, LABELS), 'num_classes', [2, 9], [0]),
    (partial(F.subcenter_cosines, UNIT, UNIT, LABELS), 'num_subcenters', [1, 2], [0, -1]),
    (partial(F.subcenter_counts, UNIT, LABELS), 'num_classes', [2, 9], [0]),
    (partial(F.clean_mask, torch.ones(4), LABELS), 'threshold', [0, 75.0, 180], [-1]),
    (partial(F.clean_mask, torch.ones(4), LABELS), 'min_per_class', [0, 9], [-1]),
    (partial(F.cosface, COSINES), 'margin', [0.35], []),
    (partial(F.arcface, COSINES), 'margin', [0, 0.5, math.pi / 2], [-0.1, 1.6]),
    (partial(F.combined_margin, COSINES, m2=0.1, m3=0), 'm1', [0.9], [0, -1]),
    (partial(F.combined_margin, COSINES, m1=1, m3=0), 'm2', [0], [-0.1]),
    (partial(F.combined_margin, COSINES, m1=1, m2=0), 'm3', [0], [-0.1]),
    (partial(F.sphereface, COSINES), 'margin', [1, 1.5], [0.9]),
    (partial(F.sphereface, COSINES, 4), 'annealing', [0, 5], [-1]),
    (partial(F.sphereface_r, COSINES), 'margin', [1, 1.5], [0.9]),
    (F.sphereface_r_nontarget, 'margin', [1, 1.5], [0.9]),
    (partial(F.adaface, COSINES, quality=COSINES), 'margin', [0.4], []),
    (partial(F.elasticface_margins, COSINES, COSINES), 'sigma', [0, 0.1], [-0.1]),
    (partial(F.curricularface_nontarget, COSINES[:, None]), 't', [0, 0.1], []),
    (F.interclass_filter, 'threshold', [0.4], []),
    (F.sphereface2_similarity, 'exponent', [1, 3.5], [0.9]),
    (
        partial(F.magface_margin, COSINES, norm_max=9, margin_min=0.1, margin_max=0.5),
        'norm_min',
        [1],
        [0, -1],
    ),
    (
        partial(F.magface_margin, COSINES, 1, margin_min=0.1, margin_max=0.5),
        'norm_max',
        [2],
        [1, 0.5],
    ),
    (partial(F.magface_regularizer, COSINES, 1), 'norm_max', [2], [1, 0.5]),
    (partial(F.target_logit_curve, lambda c: c), 'number', [2, 181], [1, 0]),
    (partial(margin_softmax, **SOFTMAX), 'scale', [1, 64.0], [0, -1]),
    (partial(margin_softmax, **SOFTMAX), 'num_subcenters', [1, 3], [0, 4, -1]),
    (
        partial(target_cosines, UNIT, torch.eye(6, 4), LABELS),
        'num_subcenters',
        [1, 3],
        [0, 4, -1],
    ),
    (SIGMOID, 'scale', [1, 64.0], [0, -1]),
    (SIGMOID, 'nontarget_margin', [0, 0.4], []),
    (SIGMOID, 'target_weight', [0, 2.0], [-1]),
    (SIGMOID, 'nontarget_weight', [0, 2.0], [-1]),
    (SIGMOID, 'num_subcenters', [1, 3], [0, 4]),
]
WHOLE = {'k', 'max_rank', 'number', 'num_folds', 'successes', 'trials', 'num_other', 'num_classes'}
WHOLE |= {'num_subcenters', 'min_per_class', 'seed', 'folds'}


@pytest.mark.parametrize(
    ('function', 'name', 'good', 'bad'),
    NUMBERS,
    ids=[f'{getattr(f, "func", f).__name__}-{name}' for f, name, *_ in NUMBERS],
)
def test_functions_check_their_numbers(function, name, good, bad):
    for value in good:
        function(**{name: value})
        function(**{name: np.int64(value) if name in WHOLE else np.float64(value)})
    # Margins and scales may be tensors, and folds may be one for each pair.
    listed = {'margin', 'm1', 'm2', 'm3', 't', 'scale', 'folds'}
    wrong = ['1', True, None, math.nan, math.inf, *bad]
    wrong += [] if name in listed else [[1], torch.tensor(1)]
    wrong += NOT_WHOLE if name in WHOLE else []
    for value in wrong:
        with pytest.raises(ValueError, match=name):
            function(**{name: value})


def test_margins_may_be_tensors_of_any_value():
    assert F.arcface(COSINES, torch.full((5,), 1.6)).isfinite().all()
    assert F.sphereface_r(COSINES, torch.tensor(2.0)).isfinite().all()
