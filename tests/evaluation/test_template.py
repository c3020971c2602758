from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmarcface.datasets.formats.pairs import Pairs
from mmarcface.datasets.ijb import Templates
from mmarcface.evaluation import IdentificationMetric, TemplateVerificationMetric
from tests.functional.test_templates import naive_templates

from . import test_identification
from .test_metrics import as_samples, evaluate
from .test_pairs import embeddings, some_pairs, with_pairs


def photographs():
    """90 images in 30 templates of 10 subjects, with media in common."""
    generator = np.random.default_rng(0)
    template = generator.permutation(np.arange(90) % 30)
    subject = np.arange(30) % 10
    vectors = generator.normal(size=(10, 8))[subject[template]] + generator.normal(size=(90, 8))
    # Lengths that say something of the quality.
    vectors *= generator.uniform(0.2, 5, (90, 1))
    one, other = np.triu_indices(30, 1)
    templates = Templates(
        template,
        generator.integers(0, 4, 90),
        generator.random(90).astype(np.float32),
        Pairs(
            np.stack([one, other], 1),
            subject[one] == subject[other],
            np.zeros(len(one), np.int64),
        ),
        # Each subject is enrolled in one of two galleries.
        dict(
            G1=(np.arange(0, 5), subject[0:5]),
            G2=(np.arange(5, 10), subject[5:10]),
        ),
        (np.arange(10, 30), subject[10:30]),
    )
    return torch.from_numpy(vectors).float(), templates


def metric_of(templates, **options):
    metric = TemplateVerificationMetric(**options)
    metric.dataset_meta = dict(templates=templates)
    return metric


def samples_of(vectors, templates):
    # Embeddings are sorted by roles, which mean nothing here.
    return as_samples(vectors, torch.from_numpy(templates.template), ['gallery', 'query'] * 45)


def naive_pooled(vectors, templates, weighting):
    vectors = vectors.double().numpy()
    weights = templates.detection_score.astype(float) if 'detection' in weighting else np.ones(90)
    if 'quality' not in weighting:
        vectors = vectors / np.sqrt((vectors**2).sum(1, keepdims=True))
    return naive_templates(vectors, templates.template.tolist(), templates.media.tolist(), weights)


@pytest.mark.parametrize(
    'weighting', [(), ('quality',), ('detection',), ('detection', 'quality')], ids=str
)
def test_equals_a_naive_loop(weighting):
    vectors, templates = photographs()
    metric = metric_of(templates, far=(0.01, 0.1), rank_at=(1, 3), fpir=(0.1,), weighting=weighting)
    ours = evaluate(metric, samples_of(vectors, templates)[::-1])
    pooled = naive_pooled(vectors, templates, weighting)
    similarity = np.array([pooled[i] @ pooled[j] for i, j in templates.pairs.indices])
    is_same = templates.pairs.is_same
    auc = 100 * roc_auc_score(is_same, similarity)
    assert ours.pop('template/AUC') == pytest.approx(auc, abs=1e-9)
    assert 0 < ours.pop('template/EER') < 50
    for far in (0.01, 0.1):
        tar = max(
            np.mean(similarity[is_same] >= t)
            for t in similarity
            if np.mean(similarity[~is_same] >= t) <= far
        )
        low, value, high = (ours.pop(f'template/TAR@FAR={far}{e}') for e in ('_low', '', '_high'))
        assert value == pytest.approx(100 * tar)
        assert low <= value <= high

    by_gallery = []
    for rows, subjects in templates.galleries.values():
        probes, labels = templates.probes
        by_gallery.append(
            test_identification.naive_figures(
                torch.from_numpy(np.concatenate([pooled[probes], pooled[rows]])),
                torch.from_numpy(np.concatenate([labels, subjects])),
                ['query'] * len(probes) + ['gallery'] * len(rows),
                'gallery',
                (1, 3),
                (0.1,),
            )
        )
    expected = {
        name.replace('identification', 'template'): np.mean([one[name] for one in by_gallery])
        for name in by_gallery[0]
    }
    assert ours == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ('left_out', 'kept'),
    [
        (dict(pairs=None), {'Rank-1', 'TPIR@FPIR=0.1'}),
        (
            dict(galleries=None, probes=None),
            {'AUC', 'EER', 'TAR@FAR=0.1', 'TAR@FAR=0.1_low', 'TAR@FAR=0.1_high'},
        ),
    ],
    ids=['1:N', '1:1'],
)
def test_either_protocol_alone(left_out, kept):
    vectors, templates = photographs()
    options = dict(far=(0.1,), rank_at=(1,), fpir=(0.1,))
    samples = samples_of(vectors, templates)
    ours = evaluate(metric_of(replace(templates, **left_out), **options), samples)
    assert set(ours) == {f'template/{name}' for name in kept}
    assert ours.items() <= evaluate(metric_of(templates, **options), samples).items()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(far=(2,)), r'far must hold rates in \[0, 1\], got \(2,\)'),
        (dict(rank_at=(0,)), r'rank_at must hold ranks of at least 1, got \(0,\)'),
        (dict(fpir=(-1,)), r'fpir must hold rates in \[0, 1\], got \(-1,\)'),
        (dict(weighting='quality'), r"weighting must be a list of .* got 'quality'"),
        (dict(weighting=('size',)), r"got \('size',\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TemplateVerificationMetric(**arguments)


def test_wrong_data_sets():
    vectors, templates = photographs()
    samples = samples_of(vectors, templates)
    same = Pairs(templates.pairs.indices[:2], np.ones(2, bool), np.zeros(2, np.int64))
    for metric, number, message in (
        (TemplateVerificationMetric(), 90, "metainfo has 'templates', such as IJB; got NoneType"),
        (metric_of(None), 90, 'such as IJB'),
        (metric_of(dict(template=templates.template)), 90, 'such as IJB; got dict'),
        (metric_of(templates), 89, 'the templates are of 90 samples, and the data set has 89'),
        (
            metric_of(replace(templates, pairs=same)),
            90,
            'both kinds of pairs of templates are needed, got 2 of 2 of the same identity',
        ),
        (
            metric_of(replace(templates, probes=(np.arange(3), np.arange(3)))),
            90,
            'no probe is of a subject of gallery G2',
        ),
        (
            metric_of(replace(templates, pairs=None, galleries=None)),
            90,
            'pairs or galleries',
        ),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(metric, samples[:number])


def every_metric():
    """Metrics with pairs, identities and templates, each with its samples."""
    vectors, labels = embeddings()
    sets = {'lfw': some_pairs(labels), 'view1': some_pairs(labels, first_fold=-1)}
    faces, templates = photographs()
    weighting = ('detection', 'quality')
    return [
        (with_pairs(sets, far=(0.1,)), as_samples(vectors, labels)),
        (IdentificationMetric(), as_samples(*test_identification.identities())),
        (IdentificationMetric(mates='probes'), as_samples(*test_identification.megaface())),
        (metric_of(templates, weighting=weighting), samples_of(faces, templates)),
    ]


def evaluate_shards(rank, world):
    """Figures of padded shards, as a distributed sampler makes them, and of uneven ones."""
    found = []
    for metric, samples in every_metric():
        padded = samples[rank::world] + samples[: 3 if rank == world - 1 else 0]
        uneven = samples if world == 1 else samples[:20] if rank == 0 else samples[20:]
        found += [evaluate(metric, own, len(samples)) for own in (padded, uneven)]
    return found


def test_figures_do_not_depend_on_processes(on_processes):
    expected = [evaluate(*part) for part in every_metric() for _ in range(2)]
    for found in on_processes(evaluate_shards):
        for ours, figures in zip(found, expected, strict=True):
            assert ours == pytest.approx(figures, abs=1e-9)
