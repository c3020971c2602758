"""Identification: who is it, among those enrolled?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmarcface.functional.arguments import as_ranks, as_rates
from mmarcface.functional.identification import (
    SearchResults,
    cmc_curve,
    search_distractors,
    search_gallery,
    tpir_at_fpir,
)
from mmarcface.registry import METRICS

from .embedding_metric import ROLES, EmbeddingMetric, Embeddings

MATES = ('gallery', 'probes')


@METRICS.register_module()
class IdentificationMetric(EmbeddingMetric):
    """Rank-k and TPIR@FPIR of 1:N identification by cosine similarity, in percent.

    Samples with role 'query' are the probes, all others have the role 'gallery'; items of the
    gallery whose identity no probe has are distractors; :class:`ProbesAndGallery` makes such a
    data set. Rank-k, a point of the CMC curve, is over probes whose identity is enrolled. FPIR is
    over the other probes or, where there are none, over all searches with their mates left out.

    Args:
        rank_at: the ranks k.
        fpir: false positive identification rates, in [0, 1], at which to report TPIR.
        mates: 'gallery', or 'probes' for the protocol of MegaFace: each probe of the same
            identity in turn is hidden among the gallery, which holds distractors only.
        collect_device: see :class:`EmbeddingMetric`.
        prefix: see :class:`EmbeddingMetric`.
        collect_dir: see :class:`EmbeddingMetric`.

    Raises:
        ValueError: if an argument is out of its range; in evaluation if a sample has no role, there
            are no probes or no gallery, or no probe has a mate.
    """

    default_prefix = 'identification'
    by_role = True

    def __init__(
        self,
        rank_at: Sequence[int] = (1, 5, 10),
        fpir: Sequence[float] = (0.01, 0.1),
        mates: str = 'gallery',
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ):
        super().__init__(collect_device, prefix, collect_dir)
        if mates not in MATES:
            raise ValueError(f'mates must be one of {MATES}, got {mates!r}')
        self.rank_at, self.fpir = check_identification_options(rank_at, fpir)
        self.mates = mates

    def check(self, labels: torch.Tensor, roles: torch.Tensor, names: Sequence[str]) -> None:
        """Refuse samples without roles, and probes without any mate."""
        is_probe, in_gallery = (roles == ROLES.index(role) for role in ('query', 'gallery'))
        if not is_probe.any() or not in_gallery.any() or not (is_probe | in_gallery).all():
            raise ValueError(
                "probes need the role 'query' and all others the role 'gallery', and there must be "
                f'some of both; got {int(is_probe.sum())} and {int(in_gallery.sum())} of '
                f'{len(roles)} samples'
            )
        if self.mates == 'gallery' and not torch.isin(labels[is_probe], labels[in_gallery]).any():
            raise ValueError('no probe has its identity in the gallery: there is nothing to find')
        if self.mates == 'probes':
            counts = labels[is_probe].unique(return_counts=True)[1]
            shared = torch.isin(labels[in_gallery], labels[is_probe])
            if (counts < 2).all() or shared.any():
                raise ValueError(
                    "with mates='probes' some probes must be of one identity, and the gallery of "
                    f'others only; got at most {int(counts.max())} probes an identity, and '
                    f'{int(shared.sum())} items of the gallery with the identity of a probe'
                )

    def compute_metrics(self, results: Embeddings) -> dict[str, float]:
        """Figures in percent of all embeddings."""
        number = int((results.roles == ROLES.index('query')).sum())
        probes, gallery = results.vectors[:number], results.vectors[number:]
        labels, items = results.labels[:number], results.labels[number:]
        max_rank = max(self.rank_at)
        if self.mates == 'probes':
            searches = search_distractors(probes, labels, gallery, max_rank)
        else:
            searches = search_gallery(probes, labels, gallery, items, max_rank)
        return identification_figures(searches, self.rank_at, self.fpir)


def check_identification_options(
    rank_at: Sequence[int], fpir: Sequence[float]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Ranks and rates as they were given, unless they are out of range.

    Args:
        rank_at: the ranks k, at least one, each at least 1.
        fpir: false positive identification rates, in [0, 1].

    Raises:
        ValueError: naming the argument, the rule and the value.
    """
    ranks = as_ranks('rank_at', rank_at)
    if not ranks:
        raise ValueError(f'rank_at must hold ranks of at least 1, got {rank_at!r}')
    return ranks, as_rates('fpir', fpir)


def identification_figures(
    searches: SearchResults, rank_at: Sequence[int], fpir: Sequence[float]
) -> dict[str, float]:
    """Rank-k and TPIR@FPIR in percent.

    Args:
        searches: result of the searches.
        rank_at: the ranks k.
        fpir: false positive identification rates, in [0, 1].
    """
    curve = cmc_curve(searches.ranks, max(rank_at))
    figures = {f'Rank-{rank}': 100 * float(curve[rank - 1]) for rank in rank_at}
    return figures | {f'TPIR@FPIR={rate:g}': 100 * tpir_at_fpir(searches, rate) for rate in fpir}
