import numpy as np
import pytest
import torch

from mmarcface.evaluation import IdentificationMetric

from .test_metrics import as_samples, embeddings, evaluate


def identities():
    """21 probes of 5 identities, a gallery of 3 of them, and distractors."""
    vectors, labels = embeddings(num_classes=7)
    roles = ['query' if i < 21 else 'gallery' for i in range(61)]
    # 5 and 6 are in the gallery only, 3 and 4 not at all.
    labels = torch.tensor(
        [
            label % 5 if role == 'query' else label + 10 if label in (3, 4) else label
            for label, role in zip(labels.tolist(), roles, strict=True)
        ]
    )
    return vectors, labels, roles


def megaface():
    vectors, labels, roles = identities()
    probe = torch.tensor([role == 'query' for role in roles])
    return vectors, torch.where(probe, labels, labels + 100), roles


def naive_figures(vectors, labels, roles, mates, rank_at, fpir):
    """In percent, by loops over searches and thresholds."""
    vectors = vectors.double().numpy()
    vectors = vectors / np.sqrt((vectors**2).sum(1, keepdims=True))
    labels = labels.tolist()
    probes = [i for i, role in enumerate(roles) if role == 'query']
    gallery = [i for i, role in enumerate(roles) if role == 'gallery']
    mated, nonmated_scores, without_mates = [], [], []
    for i in probes:
        scores = {j: vectors[i] @ vectors[j] for j in range(len(labels))}
        others = [scores[j] for j in gallery if labels[j] != labels[i]]
        own = probes if mates == 'probes' else gallery
        found = [scores[j] for j in own if j != i and labels[j] == labels[i]]
        hidden = found if mates == 'probes' else [max(found)] if found else []
        mated += [(1 + sum(other >= mate for other in others), mate) for mate in hidden]
        without_mates.append(max(others))
        if mates == 'probes' or not found:
            nonmated_scores.append(max(others))
    nonmated_scores = np.array(nonmated_scores or without_mates)
    figures = {f'Rank-{k}': np.mean([rank <= k for rank, _ in mated]) for k in rank_at}
    for rate in fpir:
        figures[f'TPIR@FPIR={rate:g}'] = max(
            (
                np.mean([rank == 1 and score >= t for rank, score in mated])
                for _, t in mated
                if np.mean(nonmated_scores >= t) <= rate
            ),
            default=0,
        )
    return {f'identification/{name}': 100 * value for name, value in figures.items()}


@pytest.mark.parametrize(
    ('data', 'mates'), [(identities, 'gallery'), (megaface, 'probes')], ids=['gallery', 'megaface']
)
def test_equals_a_naive_loop(data, mates):
    wanted = dict(rank_at=(1, 3, 70), fpir=(0.0, 0.1, 0.5, 1.0), mates=mates)
    ours = evaluate(IdentificationMetric(**wanted), as_samples(*data())[::-1])
    assert ours == pytest.approx(naive_figures(*data(), **{**wanted}), abs=1e-9)
    assert 10 < ours['identification/Rank-1'] < 95
    assert ours['identification/Rank-70'] == 100


def test_closed_set():
    vectors, labels = embeddings()
    roles = ['query' if i % 4 == 0 else 'gallery' for i in range(61)]
    ours = evaluate(IdentificationMetric(), as_samples(vectors, labels, roles))
    expected = naive_figures(vectors, labels, roles, 'gallery', (1, 5, 10), (0.01, 0.1))
    assert ours == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(rank_at=()), r'rank_at must hold ranks of at least 1, got \(\)'),
        (dict(rank_at=(0,)), r'got \(0,\)'),
        (dict(fpir=(2,)), r'fpir must hold rates in \[0, 1\], got \(2,\)'),
        (dict(mates='all'), r"mates must be one of \('gallery', 'probes'\), got 'all'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        IdentificationMetric(**arguments)


@pytest.mark.parametrize(
    ('mates', 'labels', 'roles', 'message'),
    [
        ('gallery', [0, 0], None, 'some of both; got 0 and 0 of 2 samples'),
        ('gallery', [0, 0], ['query', 'query'], 'got 2 and 0 of 2'),
        ('gallery', [0, 0], ['gallery', 'gallery'], 'got 0 and 2 of 2'),
        ('gallery', [0, 0, 1], ['query', 'gallery', None], 'got 1 and 1 of 3'),
        ('gallery', [0, 1], ['query', 'gallery'], 'no probe has its identity in the gallery'),
        ('probes', [0, 1, 2], ['query', 'query', 'gallery'], 'at most 1 probes an identity, and 0'),
        ('probes', [0, 0, 0], ['query', 'query', 'gallery'], 'and 1 items of the gallery'),
    ],
)
def test_wrong_samples(mates, labels, roles, message):
    samples = as_samples(torch.randn(len(labels), 4), torch.tensor(labels), roles)
    with pytest.raises(ValueError, match=message):
        evaluate(IdentificationMetric(mates=mates), samples)
