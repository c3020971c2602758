"""Identification: who is it, among those enrolled in a gallery?

A probe is *mated* where its identity is in the gallery; its *mates* are the items of that
identity. All rates are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .arguments import check_number
from .retrieval import count_relevant, topk_search

# Ranked items that a block of probes may hold.
RANKS_PER_BLOCK = 1 << 20


@dataclass
class SearchResults:
    """Ranks and scores of the searches of a benchmark.

    Attributes:
        ranks: rank of the best mate in each mated search, (M,), int64, from 1 on; one more than the
            gallery has items where the rank exceeds the ``max_rank`` of the search.
        scores: score of the best mate in each mated search, (M,); it may be -inf where the rank
            exceeds ``max_rank``.
        nonmated_scores: highest score of a non-mate in each search without mates, (S,).

    Example:
        >>> found = SearchResults(np.array([1, 3]), np.array([0.9, 0.4]), np.array([0.5]))
        >>> cmc_curve(found.ranks, max_rank=3).tolist()
        [0.5, 0.5, 1.0]
    """

    ranks: np.ndarray
    scores: np.ndarray
    nonmated_scores: np.ndarray


def search_gallery(
    probes: torch.Tensor,
    labels: torch.Tensor,
    gallery: torch.Tensor,
    gallery_labels: torch.Tensor,
    max_rank: int,
) -> SearchResults:
    """Search every probe in a gallery that may hold mates and distractors.

    Ties count against a mate: it ranks after all others that score at least as much. The searches
    without mates are those of the probes that are not mated; where all probes are mated, each is
    searched again without its mates.

    Args:
        probes: unit vectors, (P, D).
        labels: identity of each probe, (P,), int64.
        gallery: unit vectors, (G, D).
        gallery_labels: identity of each item of the gallery, (G,), int64.
        max_rank: largest rank that is told apart, at least 1.

    Returns:
        One mated search for each mated probe.

    Raises:
        ValueError: if no probe is mated, or ``max_rank`` is not a whole number of at least 1.

    Example:
        >>> probes, gallery = torch.eye(2), torch.tensor([[0.8, 0.6], [0.6, 0.8]])
        >>> found = search_gallery(probes, torch.tensor([0, 1]), gallery, torch.tensor([0, 0]), 2)
        >>> found.ranks.tolist(), [round(float(score), 2) for score in found.nonmated_scores]
        ([1], [0.8])
    """
    check_number('max_rank', max_rank, minimum=1, whole=True)
    num_mates = count_relevant(labels, gallery_labels)
    mated = num_mates > 0
    if not mated.any():
        raise ValueError(
            f'some of the {len(labels)} probes must have their identity in the gallery of '
            f'{len(gallery_labels)}, none has'
        )
    # So many hold at least max_rank non-mates after the mates are removed.
    reach = min(len(gallery), int(max_rank) + int(num_mates.max()))
    ranks, scores, nonmated_scores = [], [], []
    for block in torch.arange(len(probes)).split(max(1, RANKS_PER_BLOCK // reach)):
        values, found = topk_search(probes[block], gallery, reach)
        is_mate = gallery_labels[found] == labels[block, None]
        best_mate = values.masked_fill(~is_mate, -torch.inf).amax(1)
        others = values.masked_fill(is_mate, -torch.inf)
        nonmated_scores.append(others.amax(1))
        rank = 1 + (others >= best_mate[:, None]).sum(1)
        ranks.append(torch.where(rank <= max_rank, rank, len(gallery) + 1)[mated[block]])
        scores.append(best_mate[mated[block]])
    nonmated_scores = torch.cat(nonmated_scores)
    return SearchResults(
        torch.cat(ranks).cpu().numpy(),
        torch.cat(scores).cpu().numpy(),
        (nonmated_scores if mated.all() else nonmated_scores[~mated]).cpu().numpy(),
    )


@torch.no_grad()
def search_distractors(
    probes: torch.Tensor, labels: torch.Tensor, distractors: torch.Tensor, max_rank: int
) -> SearchResults:
    """Search every probe among distractors and one mate, once for each of its mates.

    This is the protocol of `MegaFace <https://arxiv.org/abs/1512.00596>`_: the mates of a probe are
    the other probes of its identity, and each in turn is hidden among the distractors.

    Args:
        probes: unit vectors, (P, D).
        labels: identity of each probe, (P,), int64.
        distractors: unit vectors of other identities, (G, D).
        max_rank: largest rank that is told apart, at least 1.

    Returns:
        One mated search for each ordered pair of probes of one identity, and one search without
        mates for each probe.

    Raises:
        ValueError: if no two probes are of one identity, or ``max_rank`` is not a whole number of
            at least 1.

    Example:
        >>> probes = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
        >>> found = search_distractors(probes, torch.tensor([0, 0]), torch.eye(2), max_rank=2)
        >>> found.ranks.tolist()
        [2, 2]
    """
    check_number('max_rank', max_rank, minimum=1, whole=True)
    reach = min(len(distractors), int(max_rank))
    rows = max(1, RANKS_PER_BLOCK // max(reach, len(probes)))
    places = torch.arange(len(probes), device=probes.device)
    ranks, scores, nonmated_scores = [], [], []
    for block in places.split(rows):
        best, _ = topk_search(probes[block], distractors, reach)
        nonmated_scores.append(best[:, 0])
        own = probes[block] @ probes.T
        is_mate = (labels[block, None] == labels) & (block[:, None] != places)
        # Number of distractors that score less than the mate; searchsorted wants rising order.
        below = torch.searchsorted(best.flip(1), own)
        rank = 1 + reach - below
        ranks.append(torch.where(rank <= max_rank, rank, len(distractors) + 1)[is_mate])
        scores.append(own[is_mate])
    if not sum(map(len, ranks)):
        raise ValueError(f'some of the {len(labels)} probes must be of one identity, none are')
    return SearchResults(
        *(torch.cat(parts).cpu().numpy() for parts in (ranks, scores, nonmated_scores))
    )


def cmc_curve(ranks: np.ndarray, max_rank: int) -> np.ndarray:
    """Cumulative match characteristic: the share of mated searches with the mate at rank <= k.

    Args:
        ranks: rank of the mate in each search, (M,), from 1 on.
        max_rank: last rank of the curve, at least 1.

    Returns:
        The shares for k = 1 ... ``max_rank``, (max_rank,), rising.

    Raises:
        ValueError: if ``max_rank`` is not a whole number of at least 1.

    Example:
        >>> cmc_curve(np.array([1, 1, 2, 5]), max_rank=3).tolist()
        [0.5, 0.75, 0.75]
    """
    check_number('max_rank', max_rank, minimum=1, whole=True)
    counts = np.bincount(np.minimum(ranks, max_rank + 1), minlength=max_rank + 2)
    return counts[1 : max_rank + 1].cumsum() / len(ranks)


def tpir_at_fpir(searches: SearchResults, fpir: float) -> float:
    """The highest TPIR of any threshold whose FPIR is at most the one asked for.

    FPIR, the false positive identification rate, is the share of the searches without mates in
    which anyone scores at least the threshold. TPIR, the true positive identification rate, is the
    share of the mated searches in which the mate is at rank 1 and scores at least the threshold.

    Args:
        searches: results of :func:`search_gallery` or :func:`search_distractors`.
        fpir: largest FPIR allowed, in [0, 1].

    Returns:
        TPIR in [0, 1].

    Raises:
        ValueError: if ``fpir`` is outside [0, 1].

    Example:
        >>> found = SearchResults(np.array([1, 1]), np.array([0.9, 0.4]), np.array([0.5, 0.1]))
        >>> tpir_at_fpir(found, 0.0), tpir_at_fpir(found, 0.5)
        (0.5, 1.0)
    """
    check_number('fpir', fpir, minimum=0, maximum=1)
    number = len(searches.nonmated_scores)
    allowed = round(fpir * number)
    allowed -= allowed / number > fpir
    falling = np.sort(searches.nonmated_scores)[::-1]
    refused = falling[allowed] if allowed < number else -np.inf
    return float(np.mean((searches.ranks == 1) & (searches.scores > refused)))
