"""Exact nearest neighbors, and the figures of a retrieval benchmark.

The figures are functions of ``relevance``, (Q, K) bool: whether the item that query q got at rank
k, best first, has the query's label. It is ``gallery_labels[indices] == query_labels[:, None]`` of
the indices from :func:`topk_search`. All figures are means over the queries, in [0, 1].
"""

from __future__ import annotations

import torch

from .arguments import check_number, is_number

# Scores held at a time: 64 MiB of fp32. Larger matrix products are no faster.
SCORES_PER_BLOCK = 1 << 24
GALLERY_PER_BLOCK = 1 << 14
DENOMINATORS = ('relevant', 'min', 'retrieved')


@torch.no_grad()
def topk_search(
    query: torch.Tensor,
    gallery: torch.Tensor,
    k: int,
    exclude: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best items of a gallery for each query, by inner product, best first.

    It equals ``(query @ gallery.T).topk(k)``, computed block by block: apart from its inputs and
    outputs it holds about 64 MiB. For cosine similarity pass unit vectors. Equal scores come in no
    particular order.

    Args:
        query: query vectors, (Q, D).
        gallery: gallery vectors, (G, D).
        k: number of items per query, in [1, G], or [1, G - 1] with ``exclude``.
        exclude: index in the gallery of the one item that each query must not get, (Q,):
            itself, where the queries are searched among themselves.

    Returns:
        Scores (Q, k) and indices into the gallery (Q, k), int64.

    Raises:
        ValueError: if the gallery is empty, widths or types differ, or k is out of its range.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
        >>> scores, indices = topk_search(torch.tensor([[1.0, 0.0]]), gallery, k=2)
        >>> scores.tolist(), indices.tolist()
        ([[1.0, 0.5]], [[0, 2]])
    """
    if len(gallery) == 0:
        raise ValueError('the gallery is empty: there is nothing to search')
    if query.ndim != 2 or query.shape[1:] != gallery.shape[1:] or query.dtype != gallery.dtype:
        raise ValueError(
            'query and gallery must be matrices of one width and type, got '
            f'{tuple(query.shape)} {query.dtype} and {tuple(gallery.shape)} {gallery.dtype}'
        )
    max_k = len(gallery) - (exclude is not None)
    if not is_number(k, whole=True) or not 1 <= k <= max_k:
        raise ValueError(f'k must be in [1, {max_k}] for this gallery, got {k!r}')

    columns = min(len(gallery), GALLERY_PER_BLOCK)
    rows = max(1, SCORES_PER_BLOCK // columns)
    scores = query.new_empty(len(query), k)
    indices = torch.empty(len(query), k, dtype=torch.int64, device=query.device)
    # One buffer for all blocks: allocating one for each costs as much as the top-k.
    buffer = query.new_empty(rows * columns)
    for top in range(0, len(query), rows):
        block = query[top : top + rows]
        best = None
        for left in range(0, len(gallery), columns):
            items = gallery[left : left + columns]
            part = buffer[: len(block) * len(items)].view(len(block), len(items))
            torch.mm(block, items.T, out=part)
            if exclude is not None:
                own = exclude[top : top + rows] - left
                here = ((own >= 0) & (own < part.shape[1])).nonzero().squeeze(1)
                part[here, own[here]] = -torch.inf
            found = part.topk(min(k, part.shape[1]))
            found = found.values, found.indices + left
            if best is not None:
                candidates = torch.cat([best[0], found[0]], 1), torch.cat([best[1], found[1]], 1)
                values, order = candidates[0].topk(min(k, candidates[0].shape[1]))
                found = values, candidates[1].gather(1, order)
            best = found
        scores[top : top + rows], indices[top : top + rows] = best
    return scores, indices


def count_relevant(labels: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Number of gallery items that have each of some labels.

    Args:
        labels: labels of the queries, (Q,), int64.
        items: labels of the gallery, (G,), int64; may be empty.

    Returns:
        Numbers, (Q,), int64.

    Example:
        >>> count_relevant(torch.tensor([3, 7]), torch.tensor([7, 7, 5])).tolist()
        [0, 2]
    """
    known, place = torch.cat([items, labels]).unique(return_inverse=True)
    return place[: len(items)].bincount(minlength=len(known))[place[len(items) :]]


def recall_at_k(relevance: torch.Tensor, k: int) -> float:
    """Share of the queries with a relevant item among their first k.

    Args:
        relevance: whether the item at each rank is relevant, (Q, K), bool; K < k is allowed where
            the gallery has only K items.
        k: rank, at least 1.

    Returns:
        Recall@k in [0, 1].

    Raises:
        ValueError: if ``k`` is not a whole number of at least 1.

    Example:
        >>> relevance = torch.tensor([[False, True, True], [False, False, True]])
        >>> recall_at_k(relevance, 1), recall_at_k(relevance, 2)
        (0.0, 0.5)
    """
    check_number('k', k, minimum=1, whole=True)
    return relevance[:, :k].any(1).double().mean().item()


def map_at_k(
    relevance: torch.Tensor, num_relevant: torch.Tensor, k: int, denominator: str = 'relevant'
) -> float:
    """Mean average precision over the first k ranks.

    The precision at each relevant rank up to k is summed and divided by a denominator, on which the
    conventions differ:

    - ``'relevant'``: all relevant items of the gallery; mmpretrain's, and that of the published
      In-Shop figures. A perfect top 10 of 20 relevant items scores 0.5.
    - ``'min'``: min(k, all relevant items); a perfect top k scores 1.
    - ``'retrieved'``: the relevant items among the first k; ignores what was missed.

    Args:
        relevance: whether the item at each rank is relevant, (Q, K), bool; K < k is allowed where
            the gallery has only K items.
        num_relevant: number of relevant items in the whole gallery, (Q,), at least 1.
        k: rank, at least 1.
        denominator: 'relevant', 'min' or 'retrieved'.

    Returns:
        mAP@k in [0, 1].

    Raises:
        ValueError: if a query has no relevant item, ``k`` is not a whole number of at least 1, or
            the convention is unknown.

    Example:
        >>> relevance, num_relevant = torch.tensor([[True, False]]), torch.tensor([4])
        >>> [map_at_k(relevance, num_relevant, 2, rule) for rule in DENOMINATORS]
        [0.25, 0.5, 1.0]
    """
    check_number('k', k, minimum=1, whole=True)
    _check_relevant(num_relevant)
    if denominator not in DENOMINATORS:
        raise ValueError(f'denominator must be one of {DENOMINATORS}, got {denominator!r}')
    hits = relevance[:, :k].double()
    if denominator == 'relevant':
        divisor = num_relevant
    elif denominator == 'min':
        divisor = num_relevant.clamp(max=k)
    else:
        divisor = hits.sum(1).clamp(min=1)
    return (_precisions(hits).sum(1) / divisor).mean().item()


def map_at_r(relevance: torch.Tensor, num_relevant: torch.Tensor) -> float:
    """Mean average precision at R, where R is the number of relevant items of each query.

    `A Metric Learning Reality Check <https://arxiv.org/abs/2003.08505>`_, equation 4.

    Args:
        relevance: whether the item at each rank is relevant, (Q, K), bool, K at least the largest
            R.
        num_relevant: R of each query, (Q,), at least 1.

    Returns:
        MAP@R in [0, 1].

    Raises:
        ValueError: if a query has no relevant item, or K is too small.

    Example:
        >>> relevance, num_relevant = torch.tensor([[False, True, True]]), torch.tensor([2])
        >>> map_at_r(relevance, num_relevant)
        0.25
    """
    hits = _first_r(relevance, num_relevant)
    return (_precisions(hits).sum(1) / num_relevant).mean().item()


def r_precision(relevance: torch.Tensor, num_relevant: torch.Tensor) -> float:
    """Share of relevant items among the first R, where R is their number for each query.

    Args:
        relevance: whether the item at each rank is relevant, (Q, K), bool, K at least the largest
            R.
        num_relevant: R of each query, (Q,), at least 1.

    Returns:
        R-precision in [0, 1].

    Raises:
        ValueError: if a query has no relevant item, or K is too small.

    Example:
        >>> r_precision(torch.tensor([[False, True, True]]), torch.tensor([2]))
        0.5
    """
    return (_first_r(relevance, num_relevant).sum(1) / num_relevant).mean().item()


def _precisions(hits: torch.Tensor) -> torch.Tensor:
    """Precision at each rank that is a hit, 0 elsewhere."""
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return hits * hits.cumsum(1) / ranks


def _first_r(relevance: torch.Tensor, num_relevant: torch.Tensor) -> torch.Tensor:
    _check_relevant(num_relevant)
    max_relevant = int(num_relevant.max())
    if relevance.shape[1] < max_relevant:
        raise ValueError(
            f'relevance must reach rank {max_relevant}, the most relevant items that a query has; '
            f'it has {relevance.shape[1]} ranks'
        )
    ranks = torch.arange(max_relevant, device=relevance.device)
    return (relevance[:, :max_relevant] & (ranks < num_relevant[:, None])).double()


def _check_relevant(num_relevant: torch.Tensor) -> None:
    without = (num_relevant < 1).nonzero().squeeze(1)
    if len(without):
        raise ValueError(
            f'every query needs a relevant item in the gallery; {len(without)} have none, '
            f'the first is query {int(without[0])}'
        )
