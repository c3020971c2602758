import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mmarcface.functional import identification, retrieval
from mmarcface.functional.identification import (
    SearchResults,
    cmc_curve,
    search_distractors,
    search_gallery,
    tpir_at_fpir,
)

seeds = st.integers(0, 2**32 - 1)


def small_integers(generator, number):
    """Vectors of which inner products are exact and often tied."""
    return generator.integers(-1, 2, (number, 2))


def naive_rank(mate, others, most, beyond):
    rank = 1 + sum(other >= mate for other in others)
    return rank if rank <= most else beyond


def naive_gallery(probes, labels, gallery, items, most):
    ranks, scores, nonmated_scores, without_mates = [], [], [], []
    for probe, label in zip(probes, labels, strict=True):
        values = [int(probe @ item) for item in gallery]
        mates = [v for v, item in zip(values, items, strict=True) if item == label]
        others = [v for v, item in zip(values, items, strict=True) if item != label]
        without_mates.append(max(others, default=-np.inf))
        if mates:
            ranks.append(naive_rank(max(mates), others, most, len(gallery) + 1))
            scores.append(max(mates))
        else:
            nonmated_scores.append(max(others))
    return ranks, scores, nonmated_scores or without_mates


def naive_distractors(probes, labels, distractors, most):
    ranks, scores, nonmated_scores = [], [], []
    for i, probe in enumerate(probes):
        others = [int(probe @ item) for item in distractors]
        nonmated_scores.append(max(others))
        for j, mate in enumerate(probes):
            if i != j and labels[i] == labels[j]:
                score = int(probe @ mate)
                ranks.append(naive_rank(score, others, most, len(distractors) + 1))
                scores.append(score)
    return ranks, scores, nonmated_scores


def naive_tpir(searches, fpir):
    best = 0
    for threshold in searches.scores:
        if np.mean(searches.nonmated_scores >= threshold) <= fpir:
            found = (searches.ranks == 1) & (searches.scores >= threshold)
            best = max(best, np.mean(found))
    return best


def check(found, expected, most, fpir):
    ranks, scores, nonmated_scores = map(np.array, expected)
    assert found.ranks.tolist() == ranks.tolist()
    assert found.nonmated_scores.tolist() == nonmated_scores.tolist()
    seen = ranks <= most
    assert found.scores[seen].tolist() == scores[seen].tolist()
    curve = [np.mean(ranks <= rank) for rank in range(1, most + 1)]
    assert cmc_curve(found.ranks, most) == pytest.approx(curve, abs=1e-12)
    expected = naive_tpir(SearchResults(ranks, scores, nonmated_scores), fpir)
    assert tpir_at_fpir(found, fpir) == pytest.approx(expected, abs=1e-12)


sizes = st.tuples(st.integers(1, 8), st.integers(1, 14))
rates = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0]), st.floats(0, 1))


@given(seeds, sizes, st.integers(1, 16), rates, st.integers(1, 40), st.integers(1, 5))
@settings(deadline=None, max_examples=300)
def test_gallery_equals_a_naive_loop(seed, size, most, fpir, ranks_per_block, num_identities):
    """Closed sets, nonmated_scores, distractors and several mates, as they are drawn."""
    generator = np.random.default_rng(seed)
    probes, gallery = (small_integers(generator, number) for number in size)
    # Up to three labels that only probes have, and three that only the gallery has.
    labels = generator.integers(0, num_identities + generator.integers(0, 4), size[0])
    items = generator.integers(0, num_identities, size[1])
    items[items == num_identities - 1] += generator.integers(0, 2) * 10
    assume(np.isin(labels, items).any())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identification, 'RANKS_PER_BLOCK', ranks_per_block)
        found = search_gallery(*as_tensors(probes, labels, gallery, items), most)
    check(found, naive_gallery(probes, labels, gallery, items, most), most, fpir)


@given(seeds, sizes, st.integers(1, 16), rates, st.integers(1, 40), st.integers(1, 5))
@settings(deadline=None, max_examples=300)
def test_distractors_equal_a_naive_loop(seed, size, most, fpir, ranks_per_block, num_identities):
    generator = np.random.default_rng(seed)
    probes, distractors = (small_integers(generator, number) for number in size)
    labels = generator.integers(0, num_identities, size[0])
    assume(len(set(labels.tolist())) < len(labels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identification, 'RANKS_PER_BLOCK', ranks_per_block)
        found = search_distractors(*as_tensors(probes, labels, distractors), most)
    check(found, naive_distractors(probes, labels, distractors, most), most, fpir)


def as_tensors(*arrays):
    """Vectors as fp32, labels as they are."""
    tensors = map(torch.from_numpy, arrays)
    return [tensor.float() if tensor.ndim == 2 else tensor for tensor in tensors]


def test_ties_count_against_the_mate():
    same = torch.ones(4, 1)
    labels = torch.tensor([0, 1, 2, 3])
    found = search_gallery(same, labels, same, labels, 5)
    assert found.ranks.tolist() == [4] * 4
    assert tpir_at_fpir(found, 1) == 0
    found = search_distractors(same, torch.tensor([0, 0, 1, 2]), same[:2], 5)
    assert found.ranks.tolist() == [3, 3]


def test_as_many_mates_as_probes_take_little_memory(monkeypatch):
    """No matrix of all mates and all ranks."""
    monkeypatch.setattr(identification, 'RANKS_PER_BLOCK', 1000)
    monkeypatch.setattr(retrieval, 'SCORES_PER_BLOCK', 1000)
    probes, distractors = torch.randn(100, 4), torch.randn(200, 4)
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    with Largest():
        found = search_distractors(probes, torch.zeros(100, dtype=torch.int64), distractors, 100)
    assert len(found.ranks) == 9900
    assert largest <= 10_000


def test_gradients_are_not_in_the_way():
    probes = torch.randn(4, 3, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    assert len(search_distractors(probes, labels, torch.randn(5, 3), 2).ranks) == 4
    assert len(search_gallery(probes, labels, probes.detach(), labels, 2).ranks) == 4


def test_wrong_searches():
    vectors, labels = torch.eye(3), torch.arange(3)
    with pytest.raises(ValueError, match='3 probes must have their identity in the gallery of 3'):
        search_gallery(vectors, labels, vectors, labels + 3, 1)
    with pytest.raises(ValueError, match='3 probes must have their identity in the gallery of 0'):
        search_gallery(vectors, labels, vectors[:0], labels[:0], 1)
    with pytest.raises(ValueError, match='the 3 probes must be of one identity, none are'):
        search_distractors(vectors, labels, vectors, 1)
    with pytest.raises(ValueError, match='the gallery is empty'):
        search_distractors(vectors, labels * 0, vectors[:0], 1)
    searches = search_gallery(vectors, labels, vectors, labels, 1)
    for fpir in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=rf'fpir must be .*in \[0, 1\], got {fpir}'):
            tpir_at_fpir(searches, fpir)


MILLION = """
import json, re, time
from pathlib import Path
import torch
from mmarcface.functional.identification import cmc_curve, search_gallery, tpir_at_fpir

def peak():
    return int(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1]) / 2**20

torch.manual_seed(0)
gallery = torch.empty(1_000_000, 512)
for block in gallery.split(10_000):
    torch.nn.functional.normalize(block.normal_(), out=block)
items = torch.arange(1_000_000)
labels = torch.randperm(1_000_000)[:1000]
probes = torch.nn.functional.normalize(gallery[labels] + 0.1 * torch.randn(1000, 512))
probes[500:] = torch.nn.functional.normalize(torch.randn(500, 512))
labels[500:] += 1_000_000
start = time.time()
searches = search_gallery(probes, labels, gallery, items, 100)
seconds = time.time() - start
print(json.dumps(dict(
    seconds=seconds, above=peak() - gallery.nbytes / 2**30, mated=len(searches.ranks),
    rank_1=cmc_curve(searches.ranks, 100)[0], tpir=tpir_at_fpir(searches, 0.01),
)))
"""


@pytest.mark.slow
def test_a_million_are_searched_in_3_gib_beside_the_gallery():
    done = subprocess.run(
        [sys.executable, '-c', MILLION], check=True, capture_output=True, text=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    print(figures)
    assert figures['above'] < 3
    assert figures['mated'] == 500
    # The cosine to the mate is about 0.4, that to the best of a million others 0.22.
    assert min(figures['rank_1'], figures['tpir']) > 0.99
