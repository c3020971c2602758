import numpy as np
import pytest
import torch
from mmpretrain.evaluation import RetrievalAveragePrecision, RetrievalRecall
from sklearn.metrics import roc_auc_score

from mmarcface.evaluation import (
    IdentificationMetric,
    RetrievalMetric,
    TemplateVerificationMetric,
    VerificationMetric,
)
from mmarcface.evaluation.metrics import embedding_metric, retrieval, verification
from mmarcface.functional.retrieval import topk_search


def embeddings(number: int = 61, num_classes: int = 6):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(number) % num_classes
    centers = torch.randn(num_classes, 12, generator=generator)
    return centers[labels] + 1.2 * torch.randn(number, 12, generator=generator), labels


def as_samples(vectors, labels, roles=None):
    samples = [
        dict(embedding=v, gt_label=label[None], sample_idx=i)
        for i, (v, label) in enumerate(zip(vectors, labels, strict=True))
    ]
    if roles:
        samples = [s | dict(role=role) for s, role in zip(samples, roles, strict=True)]
    return samples


def evaluate(metric, samples, size=None):
    for start in range(0, len(samples), 7):
        metric.process(None, samples[start : start + 7])
    return metric.evaluate(len(samples) if size is None else size)


@pytest.fixture
def query_and_gallery():
    vectors, labels = embeddings()
    roles = ['query' if i % 5 == 0 else 'gallery' for i in range(61)]
    return as_samples(vectors, labels, roles)


def test_equals_mmpretrain(query_and_gallery, monkeypatch):
    # Gone from NumPy 2.4, which is why mmpretrain's own metrics crash.
    monkeypatch.setattr(np, 'in1d', np.isin, raising=False)
    ours = evaluate(RetrievalMetric(recall_at=(1, 10), map_at=(10,)), query_and_gallery)

    query = [s for s in query_and_gallery if s['role'] == 'query']
    gallery = [s for s in query_and_gallery if s['role'] == 'gallery']
    cosines = torch.cosine_similarity(
        torch.stack([s['embedding'] for s in query])[:, None],
        torch.stack([s['embedding'] for s in gallery])[None],
        dim=-1,
    )
    relevant = [
        [i for i, item in enumerate(gallery) if item['gt_label'] == s['gt_label']] for s in query
    ]
    target = torch.zeros_like(cosines)
    for row, items in enumerate(relevant):
        target[row, items] = 1
    recall = RetrievalRecall.calculate(cosines, target, topk=(1, 10))
    precision = RetrievalAveragePrecision.calculate(cosines, target, topk=10)
    assert ours['retrieval/Recall@1'] == pytest.approx(recall[0].item(), abs=1e-4)
    assert ours['retrieval/Recall@1'] / 100 == pytest.approx(recall[0].item() / 100, abs=1e-6)
    assert ours['retrieval/Recall@10'] / 100 == pytest.approx(recall[1].item() / 100, abs=1e-6)
    assert ours['retrieval/mAP@10'] / 100 == pytest.approx(precision / 100, abs=1e-6)


def test_without_roles_each_is_searched_among_all_others():
    vectors, labels = embeddings()
    ours = evaluate(RetrievalMetric(), as_samples(vectors, labels))
    unit = torch.nn.functional.normalize(vectors)
    cosines = (unit @ unit.T).fill_diagonal_(-2)
    expected = (labels[cosines.argmax(1)] == labels).double().mean().item()
    assert ours['retrieval/Recall@1'] == pytest.approx(100 * expected)


def test_verification_over_all_pairs():
    vectors, labels = embeddings()
    ours = evaluate(VerificationMetric(far=(0.1,), num_folds=5), as_samples(vectors, labels))
    unit = torch.nn.functional.normalize(vectors)
    rows, columns = np.triu_indices(61, 1)
    similarity = (unit @ unit.T).numpy()[rows, columns]
    is_same = (labels[rows] == labels[columns]).numpy()
    assert ours['verification/AUC'] == pytest.approx(100 * roc_auc_score(is_same, similarity))
    negatives = np.sort(similarity[~is_same])[::-1]
    threshold = negatives[int(0.1 * len(negatives))]
    expected = 100 * np.mean(similarity[is_same] > threshold)
    assert ours['verification/TAR@FAR=0.1'] == pytest.approx(expected)
    assert 60 < ours['verification/Accuracy'] < 95


def test_verification_of_given_pairs(monkeypatch):
    monkeypatch.setattr(verification, 'PAIRS_PER_BLOCK', 16)
    vectors, labels = embeddings()
    generator = np.random.default_rng(0)
    pairs = generator.integers(0, 61, (200, 2)).tolist()
    ours = evaluate(VerificationMetric(pairs=pairs), as_samples(vectors, labels))
    first, second = np.array(pairs).T
    similarity = torch.cosine_similarity(vectors[first], vectors[second]).numpy()
    is_same = (labels[first] == labels[second]).numpy()
    assert ours['verification/AUC'] == pytest.approx(100 * roc_auc_score(is_same, similarity))
    with pytest.raises(ValueError, match=r'in \[0, 61\); got 61'):
        evaluate(VerificationMetric(pairs=[(0, 61)]), as_samples(vectors, labels))


def test_too_many_pairs_are_drawn():
    vectors, labels = embeddings(400)
    samples = as_samples(vectors, labels)
    everything = evaluate(VerificationMetric(), samples)
    drawn = evaluate(VerificationMetric(max_pairs=20_000), samples)
    assert drawn['verification/AUC'] != everything['verification/AUC']
    assert drawn['verification/AUC'] == pytest.approx(everything['verification/AUC'], abs=0.5)


def test_merging_batches_changes_nothing(query_and_gallery, monkeypatch):
    expected = evaluate(RetrievalMetric(), query_and_gallery)
    monkeypatch.setattr(embedding_metric, 'MERGED_BYTES', 1000)
    metric = RetrievalMetric()
    assert evaluate(metric, query_and_gallery) == expected


def test_many_images_of_few_identities_take_little_memory(monkeypatch):
    vectors, labels = embeddings(3000, 2)
    samples = as_samples(vectors, labels)
    expected = evaluate(RetrievalMetric(), samples)
    blocks = []

    def noted(query, *arguments):
        blocks.append(len(query) * arguments[1])
        return topk_search(query, *arguments)

    monkeypatch.setattr(retrieval, 'topk_search', noted)
    monkeypatch.setattr(retrieval, 'RANKS_PER_BLOCK', 100_000)
    assert evaluate(RetrievalMetric(), samples) == pytest.approx(expected, abs=1e-9)
    assert max(blocks) <= 100_000


def evaluate_shards(rank, world, samples):
    """Figures of padded shards, as a distributed sampler makes them, and of uneven ones."""
    padded = samples[rank::world] + samples[: 3 if rank == world - 1 else 0]
    uneven = samples[:20] if rank == 0 else samples[20:]
    return [
        evaluate(kind(), own, len(samples))
        for kind in (RetrievalMetric, VerificationMetric)
        for own in (padded, uneven if world == 2 else samples)
    ]


def test_figures_do_not_depend_on_processes(on_processes):
    samples = as_samples(*embeddings())
    retrieval, verification = (
        evaluate(kind(), samples) for kind in (RetrievalMetric, VerificationMetric)
    )
    for figures in on_processes(evaluate_shards, samples):
        for ours, expected in zip(figures, [retrieval] * 2 + [verification] * 2, strict=True):
            assert ours == pytest.approx(expected, abs=1e-9)


def fail_on_all(rank, world, samples):
    with pytest.raises(ValueError, match=r'1 of 61 embeddings are not finite, .* sample 5 '):
        evaluate(RetrievalMetric(), samples[rank::world], len(samples))
    return True


def test_error_reaches_every_process(on_processes):
    vectors, labels = embeddings()
    vectors[5, 0] = float('nan')
    assert all(on_processes(fail_on_all, as_samples(vectors, labels)))


def test_wrong_samples(query_and_gallery):
    vectors, labels = embeddings()
    samples = as_samples(vectors, labels)
    metric = RetrievalMetric()
    for broken, message in (
        ({k: v for k, v in samples[0].items() if k != 'sample_idx'}, 'sample_idx in the meta_keys'),
        (samples[0] | dict(gt_label=torch.tensor([1, 2])), 'sample 0 must have one label'),
        (samples[0] | dict(role='probe'), "got 'probe' in sample 0"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.process(None, [broken])
    with pytest.raises(ValueError, match='has 61 samples and 60 distinct'):
        evaluate(RetrievalMetric(), samples[:60], 61)
    with pytest.raises(ValueError, match='got no samples'):
        RetrievalMetric().evaluate(0)
    with pytest.raises(ValueError, match='the gallery is empty: 61 queries'):
        evaluate(RetrievalMetric(), as_samples(vectors, labels, ['query'] * 61))
    with pytest.raises(ValueError, match='got 12 queries, 48 of the gallery and 1 without'):
        evaluate(RetrievalMetric(), [samples[0], *query_and_gallery[1:]])
    alone = [samples[0] | dict(gt_label=torch.tensor([99])), *samples[1:]]
    with pytest.raises(
        ValueError,
        match=r'the first is sample 0 of the data set with label 99: .* ignore_lone_queries=True',
    ):
        evaluate(RetrievalMetric(), alone)


def lonely(roles=None):
    """Samples of which some are alone with their label: queries 0, 5 and 20, item 1."""
    vectors, labels = embeddings()
    labels = labels.clone()
    labels[[0, 1, 5, 20]] = torch.tensor([99, 98, 97, 96])
    return vectors, labels, roles


ROLES = ['query' if i % 5 == 0 else 'gallery' for i in range(61)]


def naive_figures(vectors, labels, roles):
    """Recall@1 and MAP@R in percent and lone queries, by a loop over the queries."""
    unit = torch.nn.functional.normalize(vectors.double())
    gallery = [i for i in range(len(labels)) if not roles or roles[i] == 'gallery']
    hits, precisions, lone = [], [], 0
    for query in range(len(labels)):
        if roles and roles[query] != 'query':
            continue
        others = [i for i in gallery if i != query]
        relevant = sum(bool(labels[i] == labels[query]) for i in others)
        if not relevant:
            lone += 1
            continue
        ranked = sorted(others, key=lambda i: -float(unit[i] @ unit[query]))
        right = [bool(labels[i] == labels[query]) for i in ranked]
        hits.append(right[0])
        found = [sum(right[: k + 1]) / (k + 1) for k in range(relevant) if right[k]]
        precisions.append(sum(found) / relevant)
    return 100 * np.mean(hits), 100 * np.mean(precisions), lone


@pytest.mark.parametrize('roles', [None, ROLES], ids=['no roles', 'roles'])
def test_lone_queries_are_left_out_and_counted(roles, monkeypatch):
    lines = []
    monkeypatch.setattr(retrieval, 'print_log', lambda text, *_: lines.append(text))
    # Blocks of a few queries.
    monkeypatch.setattr(retrieval, 'RANKS_PER_BLOCK', 100)
    samples = as_samples(*lonely(roles))
    ours = evaluate(RetrievalMetric(ignore_lone_queries=True), samples[::-1])
    recall, precision, lone = naive_figures(*lonely(roles))
    assert ours['retrieval/Recall@1'] == pytest.approx(recall)
    assert ours['retrieval/MAP@R'] == pytest.approx(precision)
    assert ours['retrieval/lone_queries'] == lone == (3 if roles else 4)
    (line,) = lines
    assert line.startswith(f'{lone} of {13 if roles else 61} queries have no image')
    assert 'sample 0 of the data set with label 99; they are left out' in line
    with pytest.raises(ValueError, match=f'{lone} of .* or set ignore_lone_queries=True'):
        evaluate(RetrievalMetric(), samples)


def test_lone_queries_are_known_before_anything_is_embedded():
    _, labels, roles = lonely(ROLES)
    places = torch.tensor([embedding_metric.ROLES.index(role) for role in roles])
    names = [f'{i}.jpg' for i in range(61)]
    RetrievalMetric(ignore_lone_queries=True).check(labels, places, names)
    with pytest.raises(ValueError, match=r'the first is 0.jpg with label 99: add images of them'):
        RetrievalMetric().check(labels, places, names)
    # Then no figure is defined.
    with pytest.raises(ValueError, match=r'13 of 13 queries .* there is nothing to measure'):
        RetrievalMetric(ignore_lone_queries=True).check(torch.arange(61), places, names)


def test_no_lone_query_changes_no_figure(query_and_gallery):
    figures = evaluate(RetrievalMetric(ignore_lone_queries=True), query_and_gallery)
    assert figures.pop('retrieval/lone_queries') == 0
    assert figures == evaluate(RetrievalMetric(), query_and_gallery)


def ignore_on_shards(rank, world):
    samples = as_samples(*lonely(ROLES))
    own = samples[rank::world] + samples[: 3 if rank == world - 1 else 0]
    return evaluate(RetrievalMetric(ignore_lone_queries=True), own, len(samples))


def test_lone_queries_do_not_depend_on_processes(on_processes):
    expected = evaluate(RetrievalMetric(ignore_lone_queries=True), as_samples(*lonely(ROLES)))
    for found in on_processes(ignore_on_shards):
        assert found == pytest.approx(expected, abs=1e-9)


def test_too_few_pairs_for_the_folds():
    vectors, labels = embeddings(4, 2)
    with pytest.raises(ValueError, match=r'2 pairs of the same identity and 4 of .* for 10 folds'):
        evaluate(VerificationMetric(), as_samples(vectors, labels))
    alike = VerificationMetric(pairs=[(0, 2), (1, 3)], num_folds=2)
    with pytest.raises(ValueError, match=r'2 pairs of the same identity and 0 of .* both kinds'):
        evaluate(alike, as_samples(vectors, labels))
    assert evaluate(VerificationMetric(num_folds=4), as_samples(vectors, labels))


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r'recall_at must hold ranks of at least 1, got \(0,\)'):
        RetrievalMetric(recall_at=(0,))
    with pytest.raises(ValueError, match=r"map_denominator must be .* got 'all'"):
        RetrievalMetric(map_denominator='all')
    with pytest.raises(ValueError, match='num_folds must be at least 2, got 1'):
        VerificationMetric(num_folds=1)
    with pytest.raises(ValueError, match=r'pairs must be \(i, j\) each'):
        VerificationMetric(pairs=[(1, 2, 3)])
    with pytest.raises(ValueError, match='there must be some'):
        VerificationMetric(pairs=[])
    with pytest.raises(ValueError, match=r'far must hold rates in \[0, 1\]'):
        VerificationMetric(far=(2,))


NO_RANKS = [1, '1', '10', True, None, {1}, [0], [-1], [1.5], [1.0], ['1'], [True], [1, None]]
NO_RATES = [0.1, '0.1', True, None, {0.1}, [-0.1], [2], ['0.1'], [True], [float('nan')]]
NO_COUNTS = [0, -1, 2.5, 3.0, '10', True, None, [10], float('nan'), float('inf')]


@pytest.mark.parametrize(
    ('metric', 'name', 'wrong'),
    [
        (RetrievalMetric, 'recall_at', NO_RANKS),
        (RetrievalMetric, 'map_at', NO_RANKS),
        (IdentificationMetric, 'rank_at', [*NO_RANKS, []]),
        (IdentificationMetric, 'fpir', NO_RATES),
        (TemplateVerificationMetric, 'rank_at', [*NO_RANKS, ()]),
        (TemplateVerificationMetric, 'fpir', NO_RATES),
        (TemplateVerificationMetric, 'far', NO_RATES),
        (TemplateVerificationMetric, 'weighting', [1, None, ['quality', 1]]),
        (VerificationMetric, 'far', NO_RATES),
        (VerificationMetric, 'num_folds', [*NO_COUNTS, 1]),
        (VerificationMetric, 'max_pairs', NO_COUNTS),
        (
            VerificationMetric,
            'pairs',
            [3, '01', [], [1, 2], [(0, 1), (2,)], [(0, '1')], [(0, 1.0)], [(-1, 0)], [(0, 1, 2)]],
        ),
    ],
)
def test_every_number_is_checked_when_it_is_given(metric, name, wrong):
    for value in wrong:
        with pytest.raises(ValueError, match=f'{name} must '):
            metric(**{name: value})


def test_numbers_of_numpy_and_empty_lists_are_fine(query_and_gallery):
    ours = evaluate(RetrievalMetric(np.array([1, 5]), [np.int64(10)]), query_and_gallery)
    assert ours == evaluate(RetrievalMetric([1, 5], [10]), query_and_gallery)
    assert set(evaluate(RetrievalMetric([], ()), query_and_gallery)) == {
        'retrieval/MAP@R',
        'retrieval/R-Precision',
    }
    vectors, labels = embeddings()
    pairs = np.stack([np.arange(60), np.arange(60) * 7 % 61], 1)
    options = dict(far=np.array([0.1]), num_folds=np.int64(2))
    ours = evaluate(VerificationMetric(pairs, **options), as_samples(vectors, labels))
    other = VerificationMetric(pairs.tolist(), far=[0.1], num_folds=2)
    assert ours == evaluate(other, as_samples(vectors, labels))
