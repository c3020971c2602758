"""VerificationMetric on the pairs of a data set."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmarcface.datasets.formats.pairs import Pairs
from mmarcface.evaluation import VerificationMetric
from mmarcface.evaluation.metrics import verification
from mmarcface.functional import (
    calibrate,
    equal_error_rate,
    kfold_accuracy,
    roc_auc,
    roc_curve,
    tar_at_far,
    tar_interval,
)

from .test_metrics import as_samples, embeddings, evaluate


def some_pairs(labels, number=200, first_fold=0, seed=0):
    """Pairs drawn with replacement, so that images repeat and pairs do, in mixed folds."""
    generator = np.random.default_rng(seed)
    indices = generator.integers(0, len(labels), (number, 2))
    indices[1::2, 1] = indices[1::2, 0] % 6 + 6 * generator.integers(0, 10, number // 2)
    is_same = (labels[indices[:, 0]] == labels[indices[:, 1]]).numpy()
    return Pairs(indices, is_same, generator.integers(first_fold, 3, number))


def naive_figures(vectors, pairs, far):
    """Figures by loops over pairs and thresholds, in percent."""
    vectors = vectors.double().numpy()
    similarity = np.array(
        [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in vectors[pairs.indices]]
    ).astype(np.float32)
    accuracies, thresholds = [], []
    for fold in sorted(set(pairs.folds[pairs.folds >= 0].tolist())):
        test = pairs.folds == fold
        # Of equally good thresholds the highest.
        _, best = max(
            (np.sum((similarity[~test] >= t) == pairs.is_same[~test]), t) for t in similarity[~test]
        )
        accuracies.append(np.mean((similarity[test] >= best) == pairs.is_same[test]))
        thresholds.append(best)
    tested = pairs.folds >= 0
    same, other = similarity[tested & pairs.is_same], similarity[tested & ~pairs.is_same]
    wins = (same[:, None] > other).mean() + (same[:, None] == other).mean() / 2
    tar = max((np.mean(same >= t) for t in same if np.mean(other >= t) <= far), default=0)
    return {
        'Accuracy': 100 * np.mean(accuracies),
        'Accuracy_std': 100 * np.std(accuracies),
        'AUC': 100 * wins,
        f'TAR@FAR={far:g}': 100 * tar,
        'Threshold': np.mean(thresholds),
    }


def with_pairs(of_data_set, **options):
    metric = VerificationMetric(**options)
    metric.dataset_meta = dict(pairs=of_data_set)
    return metric


@pytest.mark.parametrize('first_fold', [0, -1])
def test_pairs_of_the_data_set(first_fold):
    vectors, labels = embeddings()
    pairs = some_pairs(labels, first_fold=first_fold)
    assert len(np.unique(pairs.indices, axis=0)) < len(pairs.indices)
    metric = with_pairs(pairs, far=(0.1,))
    # Not in the order of the data set; and roles, by which embeddings are sorted, are none here.
    roles = ['gallery', 'query'] * 30 + ['gallery']
    ours = evaluate(metric, as_samples(vectors, labels, roles)[::-1])
    for name, value in naive_figures(vectors, pairs, 0.1).items():
        assert ours[f'verification/{name}'] == pytest.approx(value, abs=1e-5), name

    unit = torch.nn.functional.normalize(vectors)
    similarity = (unit[pairs.indices[:, 0]] * unit[pairs.indices[:, 1]]).sum(1).numpy()
    accuracies, thresholds = kfold_accuracy(similarity, pairs.is_same, pairs.folds)
    tested = pairs.folds >= 0
    scores = similarity[tested], pairs.is_same[tested]
    far, tar, _ = roc_curve(*scores)
    low, high = tar_interval(*scores, 0.1)
    assert ours == {
        'verification/Threshold': pytest.approx(thresholds.mean(), abs=1e-6),
        **{
            f'verification/{name}': pytest.approx(100 * value, abs=1e-6)
            for name, value in {
                'Accuracy': accuracies.mean(),
                'Accuracy_std': accuracies.std(),
                'AUC': roc_auc(far, tar),
                'EER': equal_error_rate(far, tar),
                'TAR@FAR=0.1': tar_at_far(*scores, 0.1),
                'TAR@FAR=0.1_low': low,
                'TAR@FAR=0.1_high': high,
            }.items()
        },
    }
    assert low <= tar_at_far(*scores, 0.1) <= high
    (found,) = metric.calibrations['']
    expected = calibrate(*scores, 0.1)
    assert found.threshold == pytest.approx(expected.threshold, abs=1e-6)
    assert (found.tar, found.far, found.num_same) == (expected.tar, expected.far, expected.num_same)
    assert 100 * found.tar == pytest.approx(ours['verification/TAR@FAR=0.1'])


def test_several_sets():
    vectors, labels = embeddings()
    sets = {'lfw': some_pairs(labels), 'view1': some_pairs(labels, 150, -1, seed=1)}
    metric = with_pairs(sets, far=(0.1, 0.2))
    ours = evaluate(metric, as_samples(vectors, labels))
    samples = as_samples(vectors, labels)
    expected = {
        f'verification/{name}/{key.removeprefix("verification/")}': value
        for name, pairs in sets.items()
        for key, value in evaluate(with_pairs(pairs, far=(0.1, 0.2)), samples).items()
    }
    assert {k: v for k, v in ours.items() if k != 'verification/Accuracy'} == expected
    accuracies = [ours[f'verification/{name}/Accuracy'] for name in sets]
    assert ours['verification/Accuracy'] == pytest.approx(np.mean(accuracies))
    wanted = {name: [one.wanted_far for one in f] for name, f in metric.calibrations.items()}
    assert wanted == {name: [0.1, 0.2] for name in sets}
    alone = evaluate(with_pairs({'lfw': sets['lfw']}), samples)
    assert alone['verification/Accuracy'] == ours['verification/lfw/Accuracy']
    assert alone['verification/lfw/Accuracy'] == ours['verification/lfw/Accuracy']


def test_given_pairs_come_before_those_of_the_data_set():
    vectors, labels = embeddings()
    given = some_pairs(labels, seed=2)
    metric = with_pairs(some_pairs(labels), pairs=given.indices.tolist(), num_folds=3)
    given = replace(given, folds=np.repeat([0, 1, 2], [67, 67, 66]))
    ours = evaluate(metric, as_samples(vectors, labels))
    for name, value in naive_figures(vectors, given, 0.01).items():
        assert ours[f'verification/{name}'] == pytest.approx(value, abs=1e-5), name


def test_too_few_pairs_are_noted(monkeypatch):
    notes = []
    monkeypatch.setattr(verification, 'print_log', lambda text, *_: notes.append(text))
    vectors, labels = embeddings()
    pairs = some_pairs(labels)
    num_other = int((~pairs.is_same).sum())
    evaluate(with_pairs({'lfw': pairs}, far=(0.001, 0.2)), as_samples(vectors, labels))
    folds, note = notes
    assert folds.startswith('lfw: accuracy by fold, at cosine: ')
    assert folds.count(' at ') == 4
    assert note.startswith(f'lfw: FAR=0.001 allows 0 of {num_other} pairs of different identities')
    assert note.endswith('use at least 10000 of them')


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(indices=np.full((200, 2), 61)), r'pairs of lfw must name .* in \[0, 61\); got 61'),
        (dict(indices=np.full((200, 2), -1)), 'got -1'),
        (dict(is_same=np.ones(200, bool)), '200 pairs of lfw of the same identity and 0 of'),
        (dict(folds=np.arange(200) % 3 * 2), 'enough for 5 folds'),
        (dict(folds=np.zeros(200, int)), 'enough for 2 folds'),
        (dict(folds=np.full(200, -1)), '0 pairs of lfw of the same identity and 0 of'),
    ],
)
def test_wrong_pairs(fields, message):
    vectors, labels = embeddings()
    metric = with_pairs({'lfw': replace(some_pairs(labels), **fields)})
    # Before an image is embedded.
    with pytest.raises(ValueError, match=message):
        metric.check(labels, torch.ones(61, dtype=torch.int64), [''] * 61)
    with pytest.raises(ValueError, match=message):
        evaluate(metric, as_samples(vectors, labels))


def test_labels_that_name_no_identities_are_not_held_against_pairs():
    vectors, labels = embeddings()
    pairs = some_pairs(labels)
    ours = evaluate(with_pairs(pairs), as_samples(vectors, torch.arange(61)))
    assert ours == evaluate(with_pairs(pairs), as_samples(vectors, labels))


@pytest.mark.parametrize(
    'of_data_set', [[(0, 1)], {}, {'lfw': None}, {'lfw': [(0, 1)]}, 'pairs.txt', ()], ids=repr
)
def test_what_is_no_pairs_is_not_taken_for_all_pairs(of_data_set):
    vectors, labels = embeddings()
    with pytest.raises(ValueError, match=r"metainfo\['pairs'\] .* must be Pairs"):
        evaluate(with_pairs(of_data_set), as_samples(vectors, labels))


def test_folds_of_one_kind_are_warned_of(monkeypatch):
    notes = []
    monkeypatch.setattr(verification, 'print_log', lambda text, *_: notes.append(text))
    _, labels = embeddings()
    pairs = some_pairs(labels)
    roles, names = torch.ones(61, dtype=torch.int64), [''] * 61
    with_pairs(pairs).check(labels, roles, names)
    assert not notes
    sets = {'lfw': pairs, 'sorted': replace(pairs, folds=np.where(pairs.is_same, 0, pairs.folds))}
    with_pairs(sets).check(labels, roles, names)
    (note,) = notes
    assert note.startswith('2 of 3 folds of the pairs of sorted have pairs of one kind only')
    same = [(i, i + 6) for i in range(20)]
    other = [(i, i + 1) for i in range(20)]
    VerificationMetric(pairs=same + other, num_folds=4).check(labels, roles, names)
    assert notes[1].startswith('4 of 4 folds of the pairs have pairs of one kind only')


def test_what_is_tested_must_be_of_both_kinds():
    _, labels = embeddings()
    pairs = some_pairs(labels)
    metric = with_pairs(replace(pairs, folds=np.where(pairs.is_same, 0, -1)))
    number = int(pairs.is_same.sum())
    with pytest.raises(ValueError, match=rf'{number} pairs of the same identity and 0 of'):
        metric.check(labels, torch.ones(61, dtype=torch.int64), [''] * 61)


def test_given_pairs_must_be_enough_for_the_folds():
    vectors, labels = embeddings()
    metric = VerificationMetric(pairs=[(0, 6), (1, 7), (0, 1), (2, 3)])
    with pytest.raises(ValueError, match=r'2 pairs of the same .* and 2 .* enough for 10 folds'):
        evaluate(metric, as_samples(vectors, labels))
