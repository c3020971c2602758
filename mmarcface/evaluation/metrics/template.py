"""Verification and identification of templates, as IJB-B and IJB-C ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mmarcface.datasets.ijb import Templates
from mmarcface.functional import (
    equal_error_rate,
    pair_similarity,
    roc_auc,
    roc_curve,
)
from mmarcface.functional.arguments import as_rates
from mmarcface.functional.identification import search_gallery
from mmarcface.functional.templates import pool_templates
from mmarcface.registry import METRICS

from .embedding_metric import EmbeddingMetric, Embeddings
from .identification import check_identification_options, identification_figures
from .verification import sort_pairs, tar_figures

WEIGHTINGS = ('quality', 'detection')


@METRICS.register_module()
class TemplateVerificationMetric(EmbeddingMetric):
    """TAR@FAR of pairs of templates (1:1), and rank-k and TPIR@FPIR of templates (1:N), in percent.

    A template is the normalized sum, over its media, of the mean embedding of each; see
    :func:`mmarcface.functional.templates.pool_templates`. The data set, :class:`IJB`, says which
    images make up which template, and which lists there are: pairs, galleries and probes. The 1:N
    figures are means over the galleries; probes of the other gallery are the searches without
    mates. The flip test is a setting of the model.

    Args:
        far: false acceptance rates, in [0, 1], at which to report TAR; with their intervals, see
            :class:`VerificationMetric`.
        rank_at: ranks k of the 1:N figures.
        fpir: false positive identification rates, in [0, 1].
        weighting: factor on the embedding of an image: 'detection', the score of its detection,
            and 'quality', its norm instead of 1; both, one or none.
        collect_device: see :class:`EmbeddingMetric`.
        prefix: see :class:`EmbeddingMetric`.
        collect_dir: see :class:`EmbeddingMetric`.

    Raises:
        ValueError: if an argument is out of its range; in evaluation if the data set has no
            templates.
    """

    default_prefix = 'template'

    def __init__(
        self,
        far: Sequence[float] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        rank_at: Sequence[int] = (1, 5, 10),
        fpir: Sequence[float] = (0.01, 0.1),
        weighting: Sequence[str] = ('detection',),
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ):
        super().__init__(collect_device, prefix, collect_dir)
        listed = isinstance(weighting, Sequence) and not isinstance(weighting, str)
        if not listed or not set(weighting) <= set(WEIGHTINGS):
            raise ValueError(f'weighting must be a list of {WEIGHTINGS}, got {weighting!r}')
        self.far = as_rates('far', far)
        self.rank_at, self.fpir = check_identification_options(rank_at, fpir)
        self.weighting = weighting

    def check(self, labels: torch.Tensor, roles: torch.Tensor, names: Sequence[str]) -> None:
        """Refuse a data set without templates, and lists that leave nothing to compare."""
        templates = (self.dataset_meta or {}).get('templates')
        if not isinstance(templates, Templates):
            raise ValueError(
                "TemplateVerificationMetric needs a data set whose metainfo has 'templates', such "
                f'as IJB; got {type(templates).__name__}'
            )
        if len(templates.template) != len(labels):
            raise ValueError(
                f'the templates are of {len(templates.template)} samples, and the data set has '
                f'{len(labels)}: it is a part of the one that they were made for, or several '
                'joined; evaluate IJB as a whole'
            )
        pairs = templates.pairs
        if pairs is None and not templates.galleries:
            raise ValueError('templates must have pairs or galleries: there is nothing to compare')
        if pairs is not None and (pairs.is_same.all() or not pairs.is_same.any()):
            raise ValueError(
                f'both kinds of pairs of templates are needed, got {int(pairs.is_same.sum())} of '
                f'{len(pairs.is_same)} of the same identity'
            )
        for name, (_, subjects) in (templates.galleries or {}).items():
            if not np.isin(templates.probes[1], subjects).any():
                raise ValueError(f'no probe is of a subject of gallery {name}')

    def compute_metrics(self, results: Embeddings) -> dict[str, float]:
        """Figures in percent of all embeddings."""
        templates = self.dataset_meta['templates']
        order = results.rows()
        weights = torch.ones(len(order))
        if 'quality' in self.weighting:
            weights *= results.norms[order]
        if 'detection' in self.weighting:
            weights *= torch.from_numpy(templates.detection_score)
        pooled = pool_templates(
            results.vectors[order],
            torch.from_numpy(templates.template),
            torch.from_numpy(templates.media),
            weights,
        )
        figures = {}
        if templates.pairs is not None:
            indices = torch.from_numpy(templates.pairs.indices)
            similarity, is_same = sort_pairs(
                pair_similarity(pooled, indices).numpy(), templates.pairs.is_same
            )
            far, tar, _ = roc_curve(similarity, is_same)
            rates = {'AUC': roc_auc(far, tar), 'EER': equal_error_rate(far, tar)}
            rates |= tar_figures(similarity, is_same, self.far, 'templates')
            figures |= {name: 100 * rate for name, rate in rates.items()}
        if templates.galleries:
            found = [self._identify(pooled, gallery) for gallery in templates.galleries.values()]
            figures |= {name: float(np.mean([f[name] for f in found])) for name in found[0]}
        return figures

    def _identify(
        self, pooled: torch.Tensor, gallery: tuple[np.ndarray, np.ndarray]
    ) -> dict[str, float]:
        """1:N figures of one gallery."""
        probes = self.dataset_meta['templates'].probes
        (probe, label), (item, subject) = (
            map(torch.from_numpy, part) for part in (probes, gallery)
        )
        searches = search_gallery(pooled[probe], label, pooled[item], subject, max(self.rank_at))
        return identification_figures(searches, self.rank_at, self.fpir)
