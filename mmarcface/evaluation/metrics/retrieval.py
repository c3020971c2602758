"""Retrieval: is the right item among the nearest?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from mmarcface.functional.retrieval import (
    DENOMINATORS,
    average_precision_at_k,
    count_items,
    map_at_r,
    r_precision,
    recall_at_k,
    topk_search,
)
from mmarcface.registry import METRICS

from .embedding_metric import ROLES, EmbeddingMetric, Embeddings

# Ranked items held at a time, over all queries of a block.
RANKS_PER_BLOCK = 1 << 20


@METRICS.register_module()
class RetrievalMetric(EmbeddingMetric):
    """Recall@k, mAP@k, MAP@R and R-precision by cosine similarity, in percent.

    Samples with role 'query' are searched among those with role 'gallery'. Where no sample has a
    role, each is searched among all others.

    Args:
        recall_at: the ranks of Recall@k.
        map_at: the ranks of mAP@k.
        map_denominator: the convention of mAP@k, 'relevant' (mmpretrain's), 'min' or 'retrieved';
            see :func:`mmarcface.functional.retrieval.average_precision_at_k`.
        collect_device: see :class:`EmbeddingMetric`.
        prefix: see :class:`EmbeddingMetric`.
        collect_dir: see :class:`EmbeddingMetric`.

    Raises:
        ValueError: if a rank is below 1 or the convention is unknown; in evaluation if there are
            no queries, no gallery, or a query has nothing to find.
    """

    default_prefix = 'retrieval'

    def __init__(
        self,
        recall_at: Sequence[int] = (1,),
        map_at: Sequence[int] = (10,),
        map_denominator: str = 'relevant',
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ):
        super().__init__(collect_device, prefix, collect_dir)
        for name, ranks in dict(recall_at=recall_at, map_at=map_at).items():
            if any(rank < 1 for rank in ranks):
                raise ValueError(f'{name} must hold ranks of at least 1, got {ranks}')
        if map_denominator not in DENOMINATORS:
            raise ValueError(
                f'map_denominator must be one of {DENOMINATORS}, got {map_denominator!r}'
            )
        self.recall_at = recall_at
        self.map_at = map_at
        self.map_denominator = map_denominator

    def check(self, labels: torch.Tensor, roles: torch.Tensor, names: Sequence[str]) -> None:
        """Refuse roles that leave nothing to search, and queries with nothing to find."""
        queries = (roles == ROLES.index('query')).nonzero()[:, 0]
        num_gallery = int((roles == ROLES.index('gallery')).sum())
        if (roles == ROLES.index(None)).all():
            queries = torch.arange(len(roles))
        elif len(queries) == 0 or len(queries) + num_gallery != len(roles):
            raise ValueError(
                "some samples have a role: then all need one and some must be 'query', got "
                f'{len(queries)} queries, {num_gallery} of the gallery and '
                f'{len(roles) - len(queries) - num_gallery} without'
            )
        elif num_gallery == 0:
            raise ValueError(
                f'the gallery is empty: {len(queries)} queries and nothing to search among'
            )
        items = labels[roles != ROLES.index('query')]
        num_relevant = count_items(labels[queries], items) - int(num_gallery == 0)
        lost = queries[num_relevant < 1]
        if len(lost):
            raise ValueError(
                f'{len(lost)} of {len(queries)} queries have no image of their identity to find, '
                f'the first is {names[lost[0]]} with label {int(labels[lost[0]])}'
            )

    def compute_metrics(self, results: Embeddings) -> dict[str, float]:
        """Figures in percent of all embeddings."""
        num_queries = first_item = int((results.roles == ROLES.index('query')).sum())
        if num_queries == 0:
            num_queries = len(results.labels)
        labels, items = results.labels[:num_queries], results.labels[first_item:]
        exclude = torch.arange(num_queries) if first_item == 0 else None
        num_relevant = count_items(labels, items) - int(exclude is not None)
        figures = Counter()
        ranks = min(
            max(1, *self.recall_at, *self.map_at, int(num_relevant.max())),
            len(items) - (exclude is not None),
        )
        # A query may have to reach far down: few identities with many images each.
        rows = max(1, RANKS_PER_BLOCK // ranks)
        for block in torch.arange(num_queries).split(rows):
            _, found = topk_search(
                results.vectors[block[0] : block[-1] + 1],
                results.vectors[first_item:],
                ranks,
                None if exclude is None else exclude[block],
            )
            means = self._figures(items[found] == labels[block, None], num_relevant[block])
            for name, mean in means.items():
                figures[name] += 100 * mean * len(block) / num_queries
        return dict(figures)

    def _figures(self, relevance: torch.Tensor, num_relevant: torch.Tensor) -> dict[str, float]:
        """Means over a block of queries, in [0, 1]."""
        figures = {f'Recall@{k}': recall_at_k(relevance, k) for k in self.recall_at}
        for k in self.map_at:
            figures[f'mAP@{k}'] = average_precision_at_k(
                relevance, num_relevant, k, self.map_denominator
            )
        figures['MAP@R'] = map_at_r(relevance, num_relevant)
        figures['R-Precision'] = r_precision(relevance, num_relevant)
        return figures
