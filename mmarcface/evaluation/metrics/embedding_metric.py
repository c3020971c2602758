"""Collecting embeddings from all processes, each image once."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, collect_results, get_world_size, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmarcface.datasets import labels_of

ROLES = ('query', None, 'gallery')
# Batches are merged into pieces of this size, in bytes, which go back to the system when freed.
MERGED_BYTES = 1 << 25
UNWRAPPED_ADVICE = (
    'evaluate a data set that is not wrapped, several sets of pairs as VerificationSets, and '
    "queries with their gallery as one data set, such as InShop with split='test' or "
    'ProbesAndGallery'
)
SAMPLE_IDX_RULE = (
    'each sample needs its place in the data set as sample_idx, which a ConcatDataset renumbers '
    'in each part and a RepeatDataset repeats'
)


@dataclass
class Embeddings:
    """The embeddings of a data set: queries first, then the gallery, each in data set order.

    Attributes:
        vectors: unit vectors, (N, D), fp32.
        labels: label of each, (N,), int64.
        sample_idx: place of each in the data set, (N,), int64.
        roles: role of each as an index into ``ROLES``, (N,), int64.
        norms: norms of the embeddings as the model gave them, (N,).
    """

    vectors: torch.Tensor
    labels: torch.Tensor
    sample_idx: torch.Tensor
    roles: torch.Tensor
    norms: torch.Tensor | None = None

    def rows(self) -> torch.Tensor:
        """The row of each sample, by its place in the data set, (N,)."""
        return torch.empty_like(self.sample_idx).index_copy_(
            0, self.sample_idx, torch.arange(len(self.sample_idx))
        )


class EmbeddingMetric(BaseMetric):
    """Base of the metrics over all embeddings of a data set.

    The model's samples need ``embedding`` (D,), ``gt_label``, ``sample_idx`` and, where queries
    and gallery are apart, ``role``. Whatever a distributed sampler repeats is counted once, and
    shards of different length are joined, so that the figures do not depend on the number of
    processes.

    What the data set says of its samples is in ``dataset_meta``, its ``metainfo``, which a Runner
    sets; a loop of your own must set it. Where it has ``roles``, such as ``('query', 'gallery')``,
    each sample must arrive with one of them at a metric that depends on roles.

    Args:
        collect_device: device on which the shards are gathered, 'cpu' or 'gpu'; see mmengine's
            BaseMetric.
        prefix: text before the names of the figures.
        collect_dir: folder shared by the processes, for gathering on the CPU.
    """

    # Whether the figures depend on the roles of the samples.
    by_role = False

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the embeddings of one batch.

        Args:
            data_batch: the batch, which is not used.
            data_samples: the samples that the model gives.

        Raises:
            ValueError: if a sample lacks a field, has several labels or an unknown role, or not
                one of the roles that the data set has.
        """
        for sample in data_samples:
            self._check_sample(sample)
        if data_samples:
            self.results.append(
                Embeddings(
                    torch.stack([sample['embedding'] for sample in data_samples]).float().cpu(),
                    torch.tensor([int(sample['gt_label']) for sample in data_samples]),
                    torch.tensor([sample['sample_idx'] for sample in data_samples]),
                    torch.tensor([ROLES.index(sample.get('role')) for sample in data_samples]),
                )
            )
            self._merge_batches()

    def _check_sample(self, sample: dict) -> None:
        missing = [k for k in ('embedding', 'gt_label', 'sample_idx') if k not in sample]
        if missing:
            raise ValueError(
                f'{type(self).__name__} needs {", ".join(missing)} in every sample: use '
                'EmbeddingRetriever as model, a labeled data set, and sample_idx in the '
                f'meta_keys of PackInputs; this sample has {sorted(sample)}'
            )
        place, role = sample['sample_idx'], sample.get('role')
        if not hasattr(place, '__index__'):
            raise ValueError(
                f'sample_idx must be the place of a sample in the data set, got {place!r}'
            )
        if sample['gt_label'].numel() != 1:
            raise ValueError(f'sample {place} must have one label, got {sample["gt_label"]}')
        _refuse_unknown_role(role, place)
        if self.by_role:
            _refuse_other_role(role, place, (self.dataset_meta or {}).get('roles'))

    def _merge_batches(self) -> None:
        """Merge the batches at the end of the results once they make up a piece."""
        start, total = len(self.results), 0
        while start and self.results[start - 1].vectors.nbytes < MERGED_BYTES:
            start -= 1
            total += self.results[start].vectors.nbytes
        if total >= MERGED_BYTES:
            batches = self.results[start:]
            names = ('vectors', 'labels', 'sample_idx', 'roles')
            self.results[start:] = [
                Embeddings(*(torch.cat([getattr(b, name) for b in batches]) for name in names))
            ]

    def _assume(self, assumed: str) -> None:
        """Warn of what is assumed where the metainfo of the data set is unknown."""
        if self.dataset_meta is None:
            print_log(
                f'dataset_meta of {type(self).__name__}, the metainfo of the data set, is not set: '
                f'{assumed}',
                'current',
                logging.WARNING,
            )

    @abstractmethod
    def check(self, labels: torch.Tensor, roles: torch.Tensor, names: Sequence[str]) -> None:
        """Refuse samples whose figures cannot be computed; it comes before any embedding.

        Args:
            labels: label of each sample, (N,), int64, in the order of the data set.
            roles: role of each as an index into ``ROLES``, (N,), int64.
            names: names of the N samples, for the error.

        Raises:
            ValueError: as the class in evaluation.
        """

    @abstractmethod
    def compute_metrics(self, results: Embeddings) -> dict[str, float]:
        """Figures of all embeddings; runs on the main process."""

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather what all processes kept, and compute the figures.

        Args:
            size: number of samples of the data set.

        Returns:
            Names and figures, on every process.

        Raises:
            ValueError: on every process, if samples are missing, an embedding is not finite or
                see :meth:`check`.
        """
        where = {'tmpdir': self.collect_dir} if self.collect_device == 'cpu' else {}
        shards = collect_results([self.results], get_world_size(), self.collect_device, **where)
        outcome = [None]
        if is_main_process():
            try:
                batches = [batch for shard in shards for batch in shard]
                del shards
                self.results.clear()
                outcome[0] = self.compute_metrics(self._join(batches, size))
            except Exception as error:
                # The other processes wait for the outcome, good or bad.
                outcome[0] = error
        broadcast_object_list(outcome)
        self.results.clear()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return {f'{self.prefix}/{k}' if self.prefix else k: v for k, v in outcome[0].items()}

    def _join(self, batches: list[Embeddings], size: int) -> Embeddings:
        """Join batches in order, without repeats, freeing them on the way."""
        if not batches:
            raise ValueError(f'{type(self).__name__} got no samples to evaluate')
        labels, sample_idx, roles = (
            torch.cat([getattr(batch, name) for batch in batches])
            for name in ('labels', 'sample_idx', 'roles')
        )
        distinct = len(sample_idx[(sample_idx >= 0) & (sample_idx < size)].unique())
        if distinct != size:
            raise ValueError(
                f'the data set has {size} samples and {distinct} distinct sample_idx were '
                f'evaluated: {SAMPLE_IDX_RULE}; {UNWRAPPED_ADVICE}'
            )
        row = (roles * (sample_idx.max() + 1) + sample_idx).unique(return_inverse=True)[1]
        vectors = torch.empty(size, batches[0].vectors.shape[1])
        end = len(row)
        while batches:
            batch = batches.pop().vectors
            start = end - len(batch)
            vectors[row[start:end]] = batch
            end = start
        first = torch.empty(size, dtype=torch.int64)
        first[row] = torch.arange(len(row))
        sample_idx = sample_idx[first]

        norms = vectors.norm(dim=1, keepdim=True)
        bad = (~norms.isfinite()).nonzero()[:, 0]
        if len(bad):
            raise ValueError(
                f'{len(bad)} of {size} embeddings are not finite, the first is that of sample '
                f'{int(sample_idx[bad[0]])} of the data set'
            )
        vectors /= norms.clamp(min=torch.finfo(torch.float).tiny)
        joined = Embeddings(vectors, labels[first], sample_idx, roles[first], norms[:, 0])
        place = sample_idx.argsort()
        names = [f'sample {index} of the data set' for index in range(size)]
        self.check(joined.labels[place], joined.roles[place], names)
        return joined


def check_dataset(dataset: Dataset, metrics: Sequence[EmbeddingMetric]) -> None:
    """Refuse a data set whose figures cannot be computed, before its images are embedded.

    Args:
        dataset: the data set that is to be evaluated, with ``get_data_info``.
        metrics: metrics of the evaluation.

    Raises:
        ValueError: if a sample has another place than its ``sample_idx`` says, or an unknown role;
            if the pipeline loses roles that a metric needs; or see :meth:`EmbeddingMetric.check`.
    """
    samples = [dataset.get_data_info(place) for place in range(len(dataset))]
    try:
        labels = torch.from_numpy(labels_of(samples))
    except ValueError:
        return  # EmbeddingMetric.process names the sample, unless the pipeline adds the label.
    for place, sample in enumerate(samples):
        if sample.get('sample_idx', place) != place:
            raise ValueError(
                f'{SAMPLE_IDX_RULE}; in this {type(dataset).__name__} sample {place} has '
                f'{sample["sample_idx"]}; {UNWRAPPED_ADVICE}'
            )
        _refuse_unknown_role(sample.get('role'), place)
    roles = [sample.get('role') for sample in samples]
    if any(metric.by_role for metric in metrics) and any(roles):
        arriving = dataset[0]['data_samples'].get('role')
        _refuse_other_role(arriving, 0, sorted(set(roles), key=ROLES.index))
    names = [sample.get('img_path', f'sample {place}') for place, sample in enumerate(samples)]
    for metric in metrics:
        metric.check(labels, torch.tensor([ROLES.index(role) for role in roles]), names)


def _refuse_unknown_role(role: object, place: int) -> None:
    if role not in ROLES:
        raise ValueError(
            f"role must be 'query' or 'gallery' or absent, got {role!r} in sample {place}"
        )


def _refuse_other_role(role: str | None, place: int, expected: Sequence[str | None] | None) -> None:
    """Refuse a role that no sample of the data set has."""
    if not expected or role in expected:
        return
    rule = f'each sample of this data set has a role, one of {tuple(expected)}'
    if role is None:
        raise ValueError(
            f'{rule}, and sample {place} arrives without: its pipeline loses it; add it to '
            "meta_keys of PackInputs, meta_keys=('sample_idx', 'img_path', 'role')"
        )
    raise ValueError(
        f'{rule}, and sample {place} arrives as {role!r}: a wrapper such as ConcatDataset has the '
        f'metainfo of its first part only; {UNWRAPPED_ADVICE}'
    )
