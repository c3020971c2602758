"""Purification against loops over samples of which all is known."""

import csv
import json
import logging
import math
import shutil
from dataclasses import astuple, fields
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow.parquet
import pytest
import torch
from mmengine.dataset import RepeatDataset
from mmengine.logging import MMLogger
from mmpretrain.models import ImageClassifier
from sklearn.metrics import precision_score, recall_score

from mmarcface.apis import purify, save_purification
from mmarcface.apis.purification.saving import _image as shown_image
from mmarcface.datasets import FilteredDataset, IdentityFolder, NoisyLabels
from mmarcface.functional.subcenter import fit_angle_mixture
from mmarcface.models import ArcFaceHead, SoftmaxHead
from tests.apis.colors import (
    PIPELINE,
    PREPROCESSOR,
    Means,
    Told,
    known_model,
    random_colors,
    write_colors,
)

# The head has a class more, of which there is no sample.
SIZES, WAYS = (12, 9, 14, 1, 20), 3
CENTERS = np.random.default_rng(1).integers(-50, 50, (len(SIZES) + 1, WAYS, 3)).tolist()
NAMES = [f'c{label}/{i:03}.png' for label, size in enumerate(SIZES) for i in range(size)]
LABELS = [label for label, size in enumerate(SIZES) for _ in range(size)]
COLORS = [[c - 128 for c in color] for own in random_colors(SIZES) for color in own]
SETTINGS = [
    dict(threshold=threshold, min_per_class=least, relabel=relabel)
    for threshold in (25, 60.0, 110.0)
    for least in (0, 1, 3)
    for relabel in (False, True)
]


@pytest.fixture
def root(tmp_path):
    write_colors(tmp_path / 'data', random_colors(SIZES))
    return tmp_path / 'data'


@pytest.fixture
def dataset(root):
    return Told(str(root))


def angle(a, b) -> float:
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
    return math.degrees(math.acos(max(-1, min(1, cosine))))


def by_loops(colors, labels, centers, threshold, min_per_class, relabel):
    """Angles, nearest centers, which to keep, proposed classes, and the counts."""
    ways = range(len(centers[0]))
    to_centers = [
        [angle(c, centers[y][k]) for k in ways] for c, y in zip(colors, labels, strict=True)
    ]
    nearest = [row.index(min(row)) for row in to_centers]
    counts = [[0] * len(ways) for _ in centers]
    for label, center in zip(labels, nearest, strict=True):
        counts[label][center] += 1
    dominant = [row.index(max(row)) for row in counts]
    angles = [row[dominant[label]] for row, label in zip(to_centers, labels, strict=True)]
    keep = [a <= threshold for a in angles]
    for label in set(labels):
        own = [i for i, other in enumerate(labels) if other == label]
        missing = min_per_class - sum(keep[i] for i in own)
        rest = sorted((i for i in own if not keep[i]), key=lambda i: angles[i])
        for i in rest[: max(0, missing)]:
            keep[i] = True
    proposed = [-1] * len(labels)
    for i, label in enumerate(labels):
        others = [y for y in range(len(centers)) if y != label and any(counts[y])]
        if relabel and not keep[i] and others:
            away, best = min((angle(colors[i], centers[y][dominant[y]]), y) for y in others)
            if away <= threshold:
                proposed[i] = best
    return angles, nearest, keep, proposed, counts


def check(found, expected, relabel):
    angles, nearest, keep, proposed, counts = expected
    assert found.angles.tolist() == pytest.approx(angles, abs=0.05)
    assert found.nearest_subcenters.tolist() == nearest
    assert found.keep.tolist() == keep
    assert found.subcenter_counts.tolist() == counts
    if relabel:
        assert found.proposed_labels.tolist() == proposed
    else:
        assert found.proposed_labels is None
    assert found.relabeled.tolist() == [p >= 0 for p in proposed]
    out = [not k and p < 0 for k, p in zip(keep, proposed, strict=True)]
    assert found.dropped.tolist() == out
    labels = found.labels.tolist()
    new = [p if p >= 0 else y for p, y in zip(proposed, labels, strict=True)]
    assert found.new_labels.tolist() == new


def test_all_is_that_of_a_loop(dataset, tmp_path):
    model = known_model(CENTERS)
    seen = set()
    for settings in SETTINGS:
        found = purify(model, dataset, state=tmp_path / 'state', batch_size=2, **settings)
        expected = by_loops(COLORS, LABELS, CENTERS, **settings)
        check(found, expected, settings['relabel'])
        assert found.sample_ids == NAMES
        assert found.labels.tolist() == LABELS
        assert found.threshold == settings['threshold']
        assert found.mixture is None
        assert found.true_labels is None
        assert found.score() is None
        assert found.fingerprint == dataset.fingerprint
        seen.add((sum(found.keep.tolist()), sum(found.relabeled.tolist())))
    # Most settings make a difference.
    assert len(seen) > 8
    # A further threshold costs no embedding.
    assert sum(model.image_encoder.seen) == len(LABELS)


def test_report_counts(dataset):
    for settings in SETTINGS[::3]:
        found = purify(known_model(CENTERS), dataset, **settings)
        report = found.report()
        _, _, keep, proposed, counts = by_loops(COLORS, LABELS, CENTERS, **settings)
        plain = by_loops(COLORS, LABELS, CENTERS, **settings | dict(min_per_class=0))[2]
        kept = sum(keep)
        relabeled = sum(p >= 0 for p in proposed)
        of_class = [[k for k, y in zip(keep, LABELS, strict=True) if y == c] for c in range(5)]
        for key, wanted in dict(
            samples=56,
            classes=5,
            kept=kept,
            relabeled=relabeled,
            dropped=56 - kept - relabeled,
            below_minimum=sum(
                sum(k for k, y in zip(plain, LABELS, strict=True) if y == c)
                < min(size, settings['min_per_class'])
                for c, size in enumerate(SIZES)
            ),
            threshold=settings['threshold'],
            auto=None,
            truth=None,
        ).items():
            assert report[key] == wanted, key
        centers = report['subcenters']
        assert centers['number'] == 3
        assert centers['on_dominant'] == pytest.approx(sum(map(max, counts)) / 56)
        assert centers['dead'] == sum(row.count(0) for row in counts[:5])
        assert centers['empty_classes'] == 1
        listed = report['classes_by_dropped']
        assert {(row['label'], row['samples'], row['not_kept']) for row in listed} == {
            (c, len(own), own.count(False)) for c, own in enumerate(of_class) if not all(own)
        }
        shares = [row['not_kept'] / row['samples'] for row in listed]
        assert shares == sorted(shares, reverse=True)
        assert json.loads(json.dumps(report, allow_nan=False)) == report


AXES = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
# The second center of a class is near nothing.
AXIS_CENTERS = [[axis, (1, 1, 1) if sum(axis) < 0 else (-1, -1, -1)] for axis in AXES]


def axes_data(root, noise, per_class=30, classes=6, strangers=False):
    """Colors around the axes, and their true classes by name, some in a wrong folder."""
    rng = np.random.default_rng(0)
    colors, truth = [], {}
    for label in range(classes):
        own = []
        for i in range(per_class):
            origin = label
            if i < noise * per_class:
                origin = (label + 1 + i % (classes - 1)) % classes
            color = 128 + 100 * np.array(AXES[origin]) + rng.integers(-15, 16, 3)
            own.append(tuple(map(int, color)))
            truth[f'c{label}/{i:03}.png'] = -1 if strangers and i == 0 else origin
        colors.append(own)
    write_colors(root, colors)
    return truth, [[c - 128 for c in color] for own in colors for color in own]


def test_threshold_that_is_found(tmp_path):
    truth, colors = axes_data(tmp_path / 'data', 0.2)
    dataset = Told(str(tmp_path / 'data'), truth)
    labels = [label for label in range(6) for _ in range(30)]
    found = purify(known_model(AXIS_CENTERS), dataset, relabel=True)
    assert 20 < found.threshold < 80
    settings = dict(min_per_class=1, relabel=True)
    expected = by_loops(colors, labels, AXIS_CENTERS, found.threshold, **settings)
    check(found, expected, relabel=True)
    true_labels = [truth[name] for name in found.sample_ids]
    assert found.keep.tolist() == [t == y for t, y in zip(true_labels, labels, strict=True)]
    assert found.new_labels.tolist() == true_labels
    assert found.mixture.noise_share == pytest.approx(0.2, abs=0.02)
    wanted = fit_angle_mixture(torch.tensor(expected[0]), found.nontarget_angles)
    assert astuple(found.mixture) == pytest.approx(astuple(wanted), abs=0.02)
    assert found.report()['auto']['threshold'] == found.threshold
    again = purify(known_model(AXIS_CENTERS), dataset, found.threshold)
    assert torch.equal(again.keep, found.keep)
    assert again.mixture is None


def test_other_angles_are_of_other_classes(tmp_path):
    axes_data(tmp_path / 'data', 0)
    found = purify(known_model(AXIS_CENTERS), Told(str(tmp_path / 'data')), 60, batch_size=3)
    others = found.nontarget_angles.numpy()
    assert len(others) == pytest.approx(20 * 180, rel=0.01)
    # Of five other axes one is opposite.
    assert others.min() > 60
    assert (others > 135).mean() == pytest.approx(0.2, abs=0.03)


def test_truth_is_for_the_score_only(tmp_path):
    truth, _ = axes_data(tmp_path / 'data', 0.2)
    lies = {name: (label + 1) % 6 for name, label in truth.items()}
    model = known_model(AXIS_CENTERS)
    for settings in (dict(), dict(relabel=True), dict(threshold=9.0)):
        all_found = [purify(model, Told(str(tmp_path / 'data'), t), **settings) for t in (
            truth, lies, None
        )]  # fmt: skip
        for field in fields(all_found[0]):
            first, *rest = (getattr(found, field.name) for found in all_found)
            if field.name == 'true_labels':
                assert rest[1] is None
                assert first.tolist() == [truth[name] for name in all_found[0].sample_ids]
            elif isinstance(first, torch.Tensor):
                assert all(torch.equal(first, other) for other in rest), field.name
            else:
                assert all(first == other for other in rest), field.name
        reports = [found.report() for found in all_found]
        scores = [report.pop('truth') for report in reports]
        assert scores[0] != scores[1]
        assert scores[2] is None
        assert reports[0] == reports[1] == reports[2]


@pytest.mark.parametrize('relabel', [False, True])
@pytest.mark.parametrize('threshold', [7.0, 12.0, 100.0])
def test_score_is_that_of_a_count(tmp_path, threshold, relabel):
    truth, _ = axes_data(tmp_path / 'data', 0.3, strangers=True)
    dataset = Told(str(tmp_path / 'data'), truth)
    found = purify(known_model(AXIS_CENTERS), dataset, threshold, relabel=relabel)
    score = found.score()
    rows = [
        (truth[name], label, keep, new, dropped)
        for name, label, keep, new, dropped in zip(
            found.sample_ids,
            found.labels.tolist(),
            found.keep.tolist(),
            found.new_labels.tolist(),
            found.dropped.tolist(),
            strict=True,
        )
    ]
    wrong, out = [t != y for t, y, *_ in rows], [not row[2] for row in rows]
    assert score['precision'] == pytest.approx(precision_score(wrong, out))
    assert score['recall'] == pytest.approx(recall_score(wrong, out))
    right_out = [o for o, w in zip(out, wrong, strict=True) if not w]
    assert score['clean_lost'] == pytest.approx(sum(right_out) / len(right_out))
    assert score['noise_before'] == pytest.approx(sum(wrong) / len(wrong))
    stays = [(t, new) for t, _, _, new, dropped in rows if not dropped]
    assert score['noise_after'] == pytest.approx(sum(t != n for t, n in stays) / len(stays))
    moved = [(t, new) for t, y, _, new, _ in rows if new != y]
    assert bool(moved) == relabel
    right = sum(t == new for t, new in moved) / len(moved) if moved else None
    assert score['relabeled_right'] == pytest.approx(right)
    json.dumps(found.report(), allow_nan=False)


def test_score_where_a_share_is_of_nothing(tmp_path):
    truth, _ = axes_data(tmp_path / 'data', 0)
    model = known_model(AXIS_CENTERS)
    score = purify(model, Told(str(tmp_path / 'data'), truth), 180.0, relabel=True).score()
    assert score == dict(
        precision=None,
        recall=None,
        clean_lost=0,
        noise_before=0,
        noise_after=0,
        relabeled_right=None,
    )
    lies = {name: (label + 1) % 6 for name, label in truth.items()}
    score = purify(model, Told(str(tmp_path / 'data'), lies), 1e-6, min_per_class=0).score()
    assert (score['precision'], score['recall']) == (1, 1)
    assert score['clean_lost'] is score['noise_after'] is None


def test_without_noise(tmp_path):
    truth, _ = axes_data(tmp_path / 'data', 0)
    found = purify(known_model(AXIS_CENTERS), Told(str(tmp_path / 'data'), truth))
    report = found.report()
    assert report['dropped'] <= 3
    json.dumps(report, allow_nan=False)


def kept_of(found):
    return {
        name: label
        for name, label, out in zip(
            found.sample_ids, found.new_labels.tolist(), found.dropped.tolist(), strict=True
        )
        if not out
    }


def test_order_plays_no_part(root):
    for settings in SETTINGS[1::7]:
        found, turned = (
            purify(known_model(CENTERS), Told(str(root), turned=turned), batch_size=2, **settings)
            for turned in (False, True)
        )
        assert found.sample_ids == turned.sample_ids[::-1]
        assert kept_of(found) == kept_of(turned)
        assert found.fingerprint == turned.fingerprint


def test_moved_data_give_the_same_lists(root, tmp_path):
    moved = shutil.copytree(root, tmp_path / 'elsewhere' / 'deep')
    for folder, out in ((root, 'a'), (moved, 'b')):
        dataset = Told(str(folder))
        found = purify(known_model(CENTERS), dataset, 60.0, relabel=True)
        save_purification(found, dataset, tmp_path / out)
    for name in ('keep.csv', 'drop.csv', 'summary.json'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


def purify_on(rank, world, root, out, state):
    torch.set_num_threads(1)
    dataset = Told(root)
    model = known_model(AXIS_CENTERS)
    found = purify(model, dataset, relabel=True, batch_size=1, state=state)
    if rank == 0:
        save_purification(found, dataset, out)
    return found is None, sum(model.image_encoder.seen)


def test_processes_give_the_same_lists(on_processes, tmp_path):
    axes_data(tmp_path / 'data', 0.2, per_class=20)
    root, out = tmp_path / 'data', tmp_path / 'out'
    results = on_processes(purify_on, str(root), str(out), None)
    assert [none for none, _ in results] == [False, True][: len(results)]
    # Each image once.
    assert sum(seen for _, seen in results) == 120
    assert min(seen for _, seen in results) > 30
    purify_on(0, 1, str(root), str(tmp_path / 'one'), tmp_path / 'state')
    for name in ('keep.csv', 'drop.csv', 'summary.json'):
        assert (out / name).read_bytes() == (tmp_path / 'one' / name).read_bytes()
    with (out / 'keep.csv').open() as file:
        assert 100 < len(list(csv.DictReader(file))) <= 120


def test_head_of_mmpretrain(dataset):
    head = dict(type='mmpretrain.ArcFaceClsHead', num_classes=6, in_channels=3, num_subcenters=3)
    model = ImageClassifier(
        backbone=Means(),
        head=head,
        data_preprocessor=dict(PREPROCESSOR, type='mmpretrain.ClsDataPreprocessor'),
    )
    weight = torch.tensor(CENTERS, dtype=torch.float).flatten(0, 1)
    with torch.no_grad():
        model.head.norm_product.weight.copy_(weight)
    settings = dict(threshold=60.0, min_per_class=2, relabel=True)
    check(purify(model, dataset, **settings), by_loops(COLORS, LABELS, CENTERS, **settings), True)
    # The layout of the centers is that which the head trains with.
    colors = torch.tensor(COLORS, dtype=torch.float)
    best = [[max(-angle(c, w) for w in own) for own in CENTERS] for c in COLORS]
    assert model.head((colors,)).argmax(1).tolist() == [row.index(max(row)) for row in best]


def test_wrapped_model(dataset):
    settings = dict(threshold=60.0, min_per_class=1, relabel=False)
    model = torch.nn.DataParallel(known_model(CENTERS))
    expected = by_loops(COLORS, LABELS, CENTERS, **settings)
    check(purify(model, dataset, **settings), expected, False)


def test_noisy_labels(root):
    noisy = dict(dataset=dict(type=Told, data_root=str(root)), symmetric=0.3, pipeline=PIPELINE)
    dataset = NoisyLabels(**noisy)
    settings = dict(threshold=60.0, min_per_class=1, relabel=True)
    found = purify(known_model(CENTERS), dataset, **settings)
    labels = dataset.get_gt_labels().tolist()
    check(found, by_loops(COLORS, labels, CENTERS, **settings), True)
    assert found.true_labels.tolist() == LABELS
    assert found.score()['noise_before'] == pytest.approx(17 / 56)


@pytest.mark.parametrize(
    'head',
    [
        ArcFaceHead(6, 3),
        SoftmaxHead(6, 3),
        dict(type='mmpretrain.ArcFaceClsHead', num_classes=6, in_channels=3),
        None,
    ],
    ids=lambda head: type(head).__name__,
)
def test_heads_without_subcenters(dataset, head):
    model = known_model(head=head)
    with pytest.raises(ValueError, match=r'several centers a class.*train with num_subcenters=3'):
        purify(model, dataset, 75.0)
    assert not model.image_encoder.seen


def test_labels_that_are_no_class_of_the_head(dataset):
    model = known_model(CENTERS[:4])
    message = r'gt_label must be in \[0, 4\), .* sample 36 of Told has 4: is it the data set'
    with pytest.raises(ValueError, match=message):
        purify(model, dataset, 75.0)

    class Unlabeled(Told):
        def get_data_info(self, place):
            sample = super().get_data_info(place)
            sample.pop('gt_label')
            return sample

    with pytest.raises(ValueError, match='must be an integer in Unlabeled, got None at place 0'):
        purify(model, Unlabeled(dataset.data_root), 75.0)
    assert not model.image_encoder.seen


def test_one_class(tmp_path):
    write_colors(tmp_path / 'data', random_colors([10]))
    dataset = Told(str(tmp_path / 'data'))
    model = known_model(CENTERS)
    with pytest.raises(
        ValueError, match=r"'auto' compares with other classes, .* only one: give d"
    ):
        purify(model, dataset)
    settings = dict(threshold=60.0, min_per_class=1, relabel=True)
    found = purify(model, dataset, **settings)
    check(found, by_loops(COLORS[:10], [0] * 10, CENTERS, **settings), True)
    assert not found.relabeled.any()
    save_purification(found, dataset, tmp_path / 'out')
    config = dict(type=IdentityFolder, data_root=dataset.data_root)
    assert (
        len(FilteredDataset(config, str(tmp_path / 'out' / 'keep.csv'))) == 10 - found.dropped.sum()
    )


def test_one_sample_a_class(tmp_path):
    write_colors(tmp_path / 'data', random_colors([1, 1, 1]))
    found = purify(known_model(CENTERS), Told(str(tmp_path / 'data')), 1e-3)
    assert found.keep.all()
    assert found.report()['below_minimum'] == 3


def test_a_net_that_has_learned_nothing(tmp_path):
    write_colors(tmp_path / 'data', random_colors([200] * 5))
    with pytest.raises(ValueError, match=r'no threshold can be found.*has not learned the classes'):
        purify(known_model(CENTERS), Told(str(tmp_path / 'data')))


def test_misfit_is_told(tmp_path, monkeypatch):
    """Half of the samples lie at one angle that is neither near nor that of other classes."""
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'log', lambda *a, **k: said.append(a))
    rng = np.random.default_rng(0)
    colors = [
        [
            tuple(map(int, 128 + 100 * np.array(axis) + rng.integers(-5, 6, 3)))
            for _ in range(60)
        ]
        for axis in AXES
    ]  # fmt: skip
    for label, own in enumerate(colors):
        # Between the axes, at 45 degrees of both.
        other = AXES[(label + 2) % 6]
        own[:28] = [
            tuple(map(int, 128 + 70 * (np.array(AXES[label]) + other) + rng.integers(-5, 6, 3)))
            for _ in range(28)
        ]
    write_colors(tmp_path / 'data', colors)
    found = purify(known_model(AXIS_CENTERS), Told(str(tmp_path / 'data')))
    assert found.mixture.misfit > 0.2
    [(level, message)] = [args[:2] for args in said if 'not to be relied on' in args[1]]
    assert level == logging.WARNING
    assert f'differs from the observed one by {found.mixture.misfit:.2f}' in message


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(threshold='best'), "threshold must be degrees or 'auto', got 'best'"),
        (dict(threshold=0), r'threshold must be in \(0, 180\], got 0'),
        (dict(threshold=181.0), r'threshold must be in \(0, 180\], got 181.0'),
        (dict(threshold=math.nan), r'threshold must be a finite number in \(0, 180\], got nan'),
        (dict(min_per_class=-1), 'min_per_class must be at least 0, got -1'),
        (dict(min_per_class=1.5), 'min_per_class must be a whole number of at least 0, got 1.5'),
    ],
)
def test_wrong_arguments(dataset, arguments, message):
    model = known_model(CENTERS)
    with pytest.raises(ValueError, match=message):
        purify(model, dataset, **arguments)
    assert not model.image_encoder.seen


def test_samples_that_are_there_twice(dataset):
    with pytest.raises(ValueError, match=r"'c0/000.png' at places 0 and 56; of a wrapper that rep"):
        purify(known_model(CENTERS), RepeatDataset(dataset, 2), 75.0)


def read_csv(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_lists(root, dataset, tmp_path):
    # Without those that leave a class empty.
    chosen = [SETTINGS[i] for i in (2, 5, 9, 11, 17)]
    assert all(settings['min_per_class'] for settings in chosen)
    for i, settings in enumerate(chosen):
        out = tmp_path / f'out{i}'
        found = purify(known_model(CENTERS), dataset, **settings)
        summary = save_purification(found, dataset, out, about=dict(config='a.py'))
        save_purification(found, dataset, out / 'too', 'parquet')
        angles, nearest, keep, proposed, _ = by_loops(COLORS, LABELS, CENTERS, **settings)
        stays = [k or p >= 0 for k, p in zip(keep, proposed, strict=True)]
        new = [p if p >= 0 else y for p, y in zip(proposed, LABELS, strict=True)]
        lists = {name: read_csv(out / f'{name}.csv') for name in ('keep', 'drop')}
        assert [row['sample'] for row in lists['keep']] == [
            name for name, stay in zip(NAMES, stays, strict=True) if stay
        ]
        dropped = sorted((i for i, stay in enumerate(stays) if not stay), key=lambda i: -angles[i])
        assert [row['sample'] for row in lists['drop']] == [NAMES[i] for i in dropped]
        for row in lists['keep'] + lists['drop']:
            i = NAMES.index(row['sample'])
            assert int(row['label']) == new[i]
            assert int(row['given_label']) == LABELS[i]
            assert int(row['centre']) == nearest[i]
            assert float(row['angle']) == pytest.approx(angles[i], abs=0.05)
            assert row['data_set'] == dataset.fingerprint
        for name, rows in lists.items():
            table = pyarrow.parquet.read_table(out / 'too' / f'{name}.parquet').to_pylist()
            assert [row.keys() for row in table] == [row.keys() for row in rows]
            for row, other in zip(rows, table, strict=True):
                assert {key: type(other[key])(value) for key, value in row.items()} == other
        written = json.loads((out / 'summary.json').read_text())
        assert written == summary == dict(config='a.py') | found.report()
        for name in ('angles', 'subcenters', 'dropped'):
            assert cv2.imread(str(out / f'{name}.png')).std() > 10

        for path in (out / 'keep.csv', out / 'too' / 'keep.parquet'):
            some = FilteredDataset(dict(type=IdentityFolder, data_root=str(root)), str(path))
            labels = {
                str(Path(info['img_path']).relative_to(root)): info['gt_label']
                for info in map(some.get_data_info, range(len(some)))
            }
            rows = zip(NAMES, new, stays, strict=True)
            assert labels == {name: label for name, label, stay in rows if stay}


def test_noisy_labels_are_filtered(root, tmp_path):
    noisy = dict(dataset=dict(type=Told, data_root=str(root)), symmetric=0.3, pipeline=PIPELINE)
    dataset = NoisyLabels(**noisy)
    found = purify(known_model(CENTERS), dataset, 60.0, relabel=True)
    save_purification(found, dataset, tmp_path / 'out')
    some = FilteredDataset(dict(noisy, type=NoisyLabels), str(tmp_path / 'out' / 'keep.csv'))
    kept = kept_of(found)
    assert {some.sample_id(info): info['gt_label'] for info in map(some.get_data_info, range(
        len(some)
    ))} == kept  # fmt: skip
    # A list belongs to the noise that it was made for.
    with pytest.raises(ValueError, match='was made for a data set of other samples or labels'):
        FilteredDataset(dict(noisy, type=NoisyLabels, seed=1), str(tmp_path / 'out' / 'keep.csv'))


def test_nothing_is_dropped(dataset, tmp_path):
    model = known_model(CENTERS)
    save_purification(purify(model, dataset, 60.0), dataset, tmp_path / 'out')
    assert (tmp_path / 'out' / 'dropped.png').exists()
    found = purify(model, dataset, 180.0)
    report = save_purification(found, dataset, tmp_path / 'out')
    assert report['dropped'] == 0
    assert not (tmp_path / 'out' / 'dropped.png').exists()
    assert read_csv(tmp_path / 'out' / 'drop.csv') == []
    assert [row['sample'] for row in read_csv(tmp_path / 'out' / 'keep.csv')] == NAMES


def test_all_is_dropped(dataset, tmp_path):
    found = purify(known_model(CENTERS), dataset, 1e-3, min_per_class=0)
    assert found.dropped.all()
    json.dumps(found.report(), allow_nan=False)
    with pytest.raises(ValueError, match='dropped'):
        save_purification(found, dataset, tmp_path / 'out')


def test_wrong_format(dataset, tmp_path):
    found = purify(known_model(CENTERS), dataset, 60.0)
    with pytest.raises(ValueError, match=r"format must be one of .* got 'txt'"):
        save_purification(found, dataset, tmp_path / 'out', 'txt')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('shape', [(5, 4), (5, 4, 1), (5, 4, 3)])
def test_images_of_any_channels_are_shown_in_color(shape):
    given = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 1
    dataset = SimpleNamespace(
        get_data_info=lambda place: dict(place=place),
        # What follows the reading is not for the eye.
        pipeline=SimpleNamespace(transforms=[lambda sample: sample | dict(img=given), None]),
    )
    image = shown_image(dataset, 0)
    expected = np.broadcast_to(given.reshape(5, 4, -1), (5, 4, 3)).clip(0)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)
