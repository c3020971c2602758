import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from mmarcface.functional import retrieval
from mmarcface.functional.retrieval import (
    count_relevant,
    map_at_k,
    map_at_r,
    r_precision,
    recall_at_k,
    topk_search,
)


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.data())
@settings(deadline=None)
def test_blocks_find_what_a_whole_product_finds(rows, gallery, k, scores_per_block, data):
    k = min(k, gallery)
    columns = data.draw(st.integers(1, gallery))
    generator = torch.Generator().manual_seed(rows * 1000 + gallery)
    query = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    items = torch.randn(gallery, 6, generator=generator, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, 'SCORES_PER_BLOCK', scores_per_block)
        patch.setattr(retrieval, 'GALLERY_PER_BLOCK', columns)
        scores, indices = topk_search(query, items, k)
    order = np.argsort(-(query @ items.T).numpy(), axis=1)[:, :k]
    assert (indices.numpy() == order).all()
    torch.testing.assert_close(scores, (query @ items.T).gather(1, indices))


def test_exclude_leaves_each_query_out(monkeypatch):
    monkeypatch.setattr(retrieval, 'GALLERY_PER_BLOCK', 4)
    vectors = torch.randn(10, 5)
    _, indices = topk_search(vectors, vectors, 9, exclude=torch.arange(10))
    for query, found in enumerate(indices.tolist()):
        assert sorted(found) == [i for i in range(10) if i != query]


@pytest.mark.parametrize(
    ('query', 'gallery', 'k', 'message'),
    [
        ((2, 3), (0, 3), 1, 'gallery is empty'),
        ((2, 3), (5, 4), 1, r'\(2, 3\) torch.float32 and \(5, 4\)'),
        ((2, 3), (5, 3), 6, r'k must be in \[1, 5\] for this gallery, got 6'),
        ((2, 3), (5, 3), 0, 'got 0'),
    ],
)
def test_wrong_search(query, gallery, k, message):
    with pytest.raises(ValueError, match=message):
        topk_search(torch.zeros(query), torch.zeros(gallery), k)


def ranked(seed: int, num_classes: int = 6, number: int = 60):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % num_classes
    centers = torch.randn(num_classes, 8, generator=generator)
    vectors = centers[labels] + 1.5 * torch.randn(number, 8, generator=generator)
    return torch.nn.functional.normalize(vectors), labels


@pytest.mark.parametrize('seed', [0, 1])
def test_map_at_r_and_r_precision_equal_pytorch_metric_learning(seed):
    vectors, labels = ranked(seed)
    _, found = topk_search(vectors, vectors, 59, exclude=torch.arange(60))
    relevance = labels[found] == labels[:, None]
    relevant = torch.full((60,), 9)
    calculator = AccuracyCalculator(
        include=('mean_average_precision_at_r', 'r_precision', 'precision_at_1'),
        knn_func=CustomKNN(CosineSimilarity()),
        device=torch.device('cpu'),
    )
    peer = calculator.get_accuracy(vectors, labels)
    assert map_at_r(relevance, relevant) == pytest.approx(
        peer['mean_average_precision_at_r'], abs=1e-6
    )
    assert r_precision(relevance, relevant) == pytest.approx(peer['r_precision'], abs=1e-6)
    assert recall_at_k(relevance, 1) == pytest.approx(peer['precision_at_1'], abs=1e-6)


def naive_average_precision(row: list[bool], relevant: int, k: int, denominator: str) -> float:
    hits, total = 0, 0.0
    for rank, hit in enumerate(row[:k], 1):
        if hit:
            hits += 1
            total += hits / rank
    return (
        total
        / {'relevant': relevant, 'min': min(k, relevant), 'retrieved': max(hits, 1)}[denominator]
    )


@pytest.mark.parametrize('denominator', ['relevant', 'min', 'retrieved'])
@pytest.mark.parametrize('k', [1, 5, 10, 70])
def test_average_precision_equals_a_naive_loop(denominator, k):
    vectors, labels = ranked(0)
    _, found = topk_search(vectors[:20], vectors, 60)
    relevance = labels[found] == labels[:20, None]
    relevant = torch.full((20,), 10)
    expected = np.mean(
        [naive_average_precision(row, 10, k, denominator) for row in relevance.tolist()]
    )
    assert map_at_k(relevance, relevant, k, denominator) == pytest.approx(expected)


def test_conventions_differ_where_they_should():
    perfect = torch.ones(1, 10, dtype=torch.bool)
    relevant = torch.tensor([20])
    values = [map_at_k(perfect, relevant, 10, d) for d in ('relevant', 'min')]
    assert values == [0.5, 1.0]


@pytest.mark.parametrize('figure', [map_at_r, r_precision, lambda r, n: map_at_k(r, n, 1)])
def test_query_without_a_relevant_item_is_named(figure):
    with pytest.raises(ValueError, match='2 have none, the first is query 1'):
        figure(torch.zeros(3, 4, dtype=torch.bool), torch.tensor([1, 0, 0]))


def test_unknown_convention_and_short_relevance():
    relevance, relevant = torch.zeros(1, 2, dtype=torch.bool), torch.tensor([3])
    with pytest.raises(ValueError, match="got 'all'"):
        map_at_k(relevance, relevant, 1, 'all')
    with pytest.raises(ValueError, match='must reach rank 3'):
        map_at_r(relevance, relevant)


def test_items_with_each_label():
    labels, items = torch.tensor([5, 3, 5, 9]), torch.tensor([3, 5, 5, 7, 3, 5])
    assert count_relevant(labels, items).tolist() == [items.tolist().count(i) for i in labels]
    assert count_relevant(labels, items[:0]).tolist() == [0, 0, 0, 0]
