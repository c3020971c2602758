"""Retrieval: is the right item among the nearest?"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import torch
from mmengine.logging import print_log

from mmarcface.functional.arguments import as_ranks
from mmarcface.functional.retrieval import (
    DENOMINATORS,
    count_relevant,
    map_at_k,
    map_at_r,
    r_precision,
    recall_at_k,
    topk_search,
)
from mmarcface.registry import METRICS

from .embedding_metric import ROLES, EmbeddingMetric, Embeddings

# Number of ranked items in memory at a time, over all queries of a block.
RANKS_PER_BLOCK = 1 << 20


@METRICS.register_module()
class RetrievalMetric(EmbeddingMetric):
    """Recall@k, mAP@k, MAP@R and R-precision by cosine similarity, in percent.

    Samples with role 'query' are searched among those with role 'gallery'. Where no sample has a
    role, each is searched among all others; a data set that has roles says so in its metainfo, so
    that a pipeline that loses them is refused.

    Args:
        recall_at: the ranks k of Recall@k; an empty list leaves the figure out.
        map_at: the ranks k of mAP@k; an empty list leaves the figure out.
        map_denominator: the convention of mAP@k, 'relevant' (mmpretrain's), 'min' or 'retrieved';
            see :func:`mmarcface.functional.retrieval.map_at_k`.
        ignore_lone_queries: whether to leave out the queries that have no image of their identity
            to find, for which no figure is defined. Their number is the figure ``lone_queries``,
            and a warning in the log names the first. Where no sample has a role they are still
            among the images that the others search. By default such a query is an error.
        collect_device: see :class:`EmbeddingMetric`.
        prefix: see :class:`EmbeddingMetric`.
        collect_dir: see :class:`EmbeddingMetric`.

    Raises:
        ValueError: if a rank is no whole number of at least 1 or the convention is unknown; in
            evaluation if there are no queries or no gallery, the data set has roles and a sample
            arrives without, or a query (with ``ignore_lone_queries``, every query) has nothing to
            find.
    """

    default_prefix = 'retrieval'
    by_role = True

    def __init__(
        self,
        recall_at: Sequence[int] = (1,),
        map_at: Sequence[int] = (10,),
        map_denominator: str = 'relevant',
        ignore_lone_queries: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ):
        super().__init__(collect_device, prefix, collect_dir)
        if map_denominator not in DENOMINATORS:
            raise ValueError(
                f'map_denominator must be one of {DENOMINATORS}, got {map_denominator!r}'
            )
        self.recall_at = as_ranks('recall_at', recall_at)
        self.map_at = as_ranks('map_at', map_at)
        self.map_denominator = map_denominator
        self.ignore_lone_queries = ignore_lone_queries

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
        num_relevant = count_relevant(labels[queries], items) - int(num_gallery == 0)
        lost = queries[num_relevant < 1]
        if not len(lost):
            return
        message = (
            f'{len(lost)} of {len(queries)} queries have no image of their identity to find, '
            f'the first is {names[lost[0]]} with label {int(labels[lost[0]])}'
        )
        if len(lost) == len(queries):
            raise ValueError(f'{message}: there is nothing to measure')
        if not self.ignore_lone_queries:
            raise ValueError(
                f'{message}: add images of them, or set ignore_lone_queries=True of '
                'RetrievalMetric to leave them out of all means and count them'
            )
        print_log(f'{message}; they are left out', 'current', logging.WARNING)

    def compute_metrics(self, results: Embeddings) -> dict[str, float]:
        """Figures of all embeddings, in percent but for the number of lone queries."""
        num_queries = first_item = int((results.roles == ROLES.index('query')).sum())
        if num_queries == 0:
            self._assume(
                'samples are taken to have no roles, and each is searched among all others'
            )
            num_queries = len(results.labels)
        queries, labels = results.vectors[:num_queries], results.labels[:num_queries]
        items = results.labels[first_item:]
        exclude = torch.arange(num_queries) if first_item == 0 else None
        num_relevant = count_relevant(labels, items) - int(exclude is not None)
        mated = (num_relevant > 0).nonzero()[:, 0]
        if len(mated) < num_queries:
            queries, labels, num_relevant = queries[mated], labels[mated], num_relevant[mated]
            exclude = None if exclude is None else exclude[mated]
        figures = Counter()
        ranks = min(
            max(1, *self.recall_at, *self.map_at, int(num_relevant.max())),
            len(items) - (exclude is not None),
        )
        # A query may have to reach far down: few identities with many images each.
        rows = max(1, RANKS_PER_BLOCK // ranks)
        for block in torch.arange(len(mated)).split(rows):
            _, found = topk_search(
                queries[block[0] : block[-1] + 1],
                results.vectors[first_item:],
                ranks,
                None if exclude is None else exclude[block],
            )
            means = self._figures(items[found] == labels[block, None], num_relevant[block])
            for name, mean in means.items():
                figures[name] += 100 * mean * len(block) / len(mated)
        if self.ignore_lone_queries:
            figures['lone_queries'] = num_queries - len(mated)
        return dict(figures)

    def _figures(self, relevance: torch.Tensor, num_relevant: torch.Tensor) -> dict[str, float]:
        """Means over a block of queries, in [0, 1]."""
        figures = {f'Recall@{k}': recall_at_k(relevance, k) for k in self.recall_at}
        for k in self.map_at:
            figures[f'mAP@{k}'] = map_at_k(relevance, num_relevant, k, self.map_denominator)
        figures['MAP@R'] = map_at_r(relevance, num_relevant)
        figures['R-Precision'] = r_precision(relevance, num_relevant)
        return figures
