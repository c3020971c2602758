"""Speed and memory of retrieval."""

from __future__ import annotations

import torch

from mmarcface.evaluation import RetrievalMetric
from mmarcface.functional.retrieval import SCORES_PER_BLOCK

from .timing import best_times, peak_extra_memory


def measure_retrieval(
    queries: int = 14218,
    gallery: int = 12612,
    items: int = 3985,
    dim: int = 2048,
    rounds: int = 15,
) -> list[dict]:
    """RetrievalMetric against the bare matrix products between queries and gallery.

    The defaults are the size of In-Shop. The metric starts from collected embeddings, and its
    memory is counted beyond them.

    Args:
        queries: number of query images.
        gallery: number of gallery images.
        items: number of items that the images show.
        dim: width of the embeddings.
        rounds: number of rounds, of which the fastest counts.

    Returns:
        One row.
    """
    generator = torch.Generator().manual_seed(0)
    vectors = {
        role: torch.randn(number, dim, generator=generator)
        for role, number in (('query', queries), ('gallery', gallery))
    }
    labels = {role: (torch.arange(len(rows)) % items).tolist() for role, rows in vectors.items()}

    def collect() -> RetrievalMetric:
        metric = RetrievalMetric(recall_at=(1, 10, 20, 30, 40, 50), map_at=(10,))
        first = 0
        for role, rows in vectors.items():
            for start in range(0, len(rows), 32):
                metric.process(
                    None,
                    [
                        dict(
                            embedding=rows[i],
                            gt_label=torch.tensor([labels[role][i]]),
                            sample_idx=first + i,
                            role=role,
                        )
                        for i in range(start, min(start + 32, len(rows)))
                    ],
                )
            first += len(rows)
        return metric

    size = queries + gallery
    rows = max(1, SCORES_PER_BLOCK // gallery)
    buffer = torch.empty(rows, gallery)

    def products() -> None:
        for block in vectors['query'].split(rows):
            torch.mm(block, vectors['gallery'].T, out=buffer[: len(block)])

    metrics = [collect() for _ in range(rounds)]
    extra = peak_extra_memory(lambda: metrics[0].evaluate(size))
    metrics[0] = collect()
    waiting = iter(metrics)
    seconds = best_times(
        {'metric': lambda: next(waiting).evaluate(size), 'limit': products}, rounds
    )
    return [
        {
            'metric_ms': 1000 * seconds['metric'],
            'limit_ms': 1000 * seconds['limit'],
            'ratio': seconds['metric'] / seconds['limit'],
            'embeddings_mb': 4e-6 * size * dim,
            'extra_mb': extra and extra / 1e6,
        }
    ]
