"""Identification: who is it, among those enrolled in a gallery?

A probe is *mated* where its identity is in the gallery; its *mates* are the items of it. All rates
are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .arguments import check_number
from .retrieval import count_relevant, topk_search

# Ranked items held at a time, over all probes of a block.
RANKS_PER_BLOCK = 1 << 20


@dataclass
class SearchResults:
    """What the searches of a benchmark gave.

    Attributes:
        ranks: of the best mate in each mated search, (M,), int64, from 1 on; where it is beyond
            the ranks looked at, one more than the gallery has items.
        scores: of the best mate in each mated search, (M,); it may be -inf where the mate is beyond
            the ranks looked at.
        nonmated_scores: the highest score of a non-mate in each search without mates, (S,).
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
    """Search every probe among a gallery that may hold mates and distractors.

    A mate has the rank after all others that score at least as much: ties count against it.
    SearchResults without mates are those of probes that are not mated. Where all are, it is every
    search once more with its mates left out.

    Args:
        probes: unit vectors, (P, D).
        labels: identities of the probes, (P,), int64.
        gallery: unit vectors, (G, D).
        gallery_labels: (G,), int64.
        max_rank: ranks to look at, at least 1.

    Returns:
        One mated search for each mated probe.

    Raises:
        ValueError: if no probe is mated, or ``max_rank`` is no whole number of at least 1.
    """
    check_number('max_rank', max_rank, minimum=1, whole=True)
    num_mates = count_relevant(labels, gallery_labels)
    mated = num_mates > 0
    if not mated.any():
        raise ValueError(
            f'some of the {len(labels)} probes must have their identity in the gallery of '
            f'{len(gallery_labels)}, none has'
        )
    # However many of them are mates, as many others as there are ranks are among these.
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
    """Search every probe among distractors and one mate, for each mate that it has.

    The protocol of `MegaFace <https://arxiv.org/abs/1512.00596>`_: the mates of a probe are the
    other probes of its identity, and each in turn is hidden among the distractors.

    Args:
        probes: unit vectors, (P, D).
        labels: identities of the probes, (P,), int64.
        distractors: unit vectors, (G, D), of other identities.
        max_rank: ranks to look at, at least 1.

    Returns:
        One mated search for each ordered pair of probes of one identity, and one without mates
        for each probe.

    Raises:
        ValueError: if no two probes are of one identity, or ``max_rank`` is no whole number of at
            least 1.
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
        # Distractors that score less than the mate; the search wants rising order.
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
    """The CMC curve: share of mated searches whose mate is at rank k or before.

    Args:
        ranks: of the mates, (M,), from 1 on.
        max_rank: last rank of the curve, at least 1.

    Returns:
        The shares for k = 1 ... ``max_rank``, (max_rank,), rising.

    Raises:
        ValueError: if ``max_rank`` is no whole number of at least 1.
    """
    check_number('max_rank', max_rank, minimum=1, whole=True)
    counts = np.bincount(np.minimum(ranks, max_rank + 1), minlength=max_rank + 2)
    return counts[1 : max_rank + 1].cumsum() / len(ranks)


def tpir_at_fpir(searches: SearchResults, fpir: float) -> float:
    """The highest TPIR of any threshold whose FPIR is at most the one asked for.

    FPIR, false positive identification rate, is the share of the searches without mates in which
    anyone scores at least the threshold. TPIR, true positive identification rate, is the share of
    the mated ones in which the mate is at rank 1 and scores at least the threshold.

    Args:
        searches: from :func:`search_gallery` or :func:`search_distractors`.
        fpir: the FPIR allowed, in [0, 1].

    Returns:
        TPIR in [0, 1].

    Raises:
        ValueError: if ``fpir`` is outside [0, 1].
    """
    check_number('fpir', fpir, minimum=0, maximum=1)
    number = len(searches.nonmated_scores)
    allowed = round(fpir * number)
    allowed -= allowed / number > fpir
    falling = np.sort(searches.nonmated_scores)[::-1]
    refused = falling[allowed] if allowed < number else -np.inf
    return float(np.mean((searches.ranks == 1) & (searches.scores > refused)))
