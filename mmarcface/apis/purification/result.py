"""The result of a purification."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch

from mmarcface.functional.subcenter import AngleMixture, clean_mask, dead_subcenters


@dataclass(frozen=True, repr=False)
class Purification:
    """What was found in a training set; all lists are in the order of the data set.

    Attributes:
        sample_ids: names of the samples, as a keep-list has them, N.
        labels: labels as given, (N,).
        angles: angles of the samples to the dominant center of their class, in degrees, (N,).
        nearest_subcenters: nearest center of the given class, (N,), in [0, K).
        keep: whether to keep each sample under its label, (N,), bool.
        proposed_labels: another class for each sample, -1 for none, (N,); None without ``relabel``.
        subcenter_counts: number of samples that each center is nearest to, (C, K).
        threshold: largest angle that is kept, in degrees.
        mixture: fit by which the threshold was found; None where it was given.
        nontarget_angles: angles of samples to dominant centers of other classes, in degrees, (M,).
        min_per_class: number of samples that are kept of each class in any case.
        fingerprint: fingerprint of the data set.
        true_labels: true labels, (N,), -1 for none of the classes; None where the data set does not
            know them. :meth:`score` and the color of a figure use them, and nothing else.
    """

    sample_ids: list[str]
    labels: torch.Tensor
    angles: torch.Tensor
    nearest_subcenters: torch.Tensor
    keep: torch.Tensor
    proposed_labels: torch.Tensor | None
    subcenter_counts: torch.Tensor
    threshold: float
    mixture: AngleMixture | None
    nontarget_angles: torch.Tensor
    min_per_class: int
    fingerprint: str
    true_labels: torch.Tensor | None = None

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({int(self.keep.sum())} of {len(self.keep)} samples kept at '
            f'{self.threshold} degrees)'
        )

    @cached_property
    def relabeled(self) -> torch.Tensor:
        """Whether each sample goes to another class, (N,), bool."""
        if self.proposed_labels is None:
            return torch.zeros_like(self.keep)
        return self.proposed_labels >= 0

    @cached_property
    def new_labels(self) -> torch.Tensor:
        """The labels to train under, (N,); of dropped samples the given ones."""
        if self.proposed_labels is None:
            return self.labels
        return torch.where(self.relabeled, self.proposed_labels, self.labels)

    @cached_property
    def dropped(self) -> torch.Tensor:
        """Whether each sample is left out, (N,), bool."""
        return ~(self.keep | self.relabeled)

    def report(self) -> dict[str, Any]:
        """A summary in numbers, of which only ``truth`` depends on the true labels.

        Returns:
            The settings; the numbers of ``samples``, ``classes``, ``kept``, ``relabeled`` and
            ``dropped``; ``auto``, the attributes of :class:`AngleMixture`, or None; ``subcenters``;
            ``classes_by_dropped``, up to 20 classes that lose the largest share of their samples;
            ``below_minimum``, the number of classes that would have kept less than
            ``min_per_class``; ``truth``, see :meth:`score`, or None.
        """
        counts = self.subcenter_counts
        sizes = torch.bincount(self.labels, minlength=len(counts))
        lost = torch.bincount(self.labels[~self.keep], minlength=len(counts))
        worst = torch.argsort(lost / sizes.clamp(min=1), descending=True, stable=True)[:20]
        plain = clean_mask(self.angles, self.labels, self.threshold, 0)
        kept = torch.bincount(self.labels[plain], minlength=len(counts))
        return dict(
            data_set=self.fingerprint,
            threshold=self.threshold,
            auto=self.mixture and asdict(self.mixture),
            min_per_class=self.min_per_class,
            samples=len(self.labels),
            classes=int((sizes > 0).sum()),
            kept=int(self.keep.sum()),
            relabeled=int(self.relabeled.sum()),
            dropped=int(self.dropped.sum()),
            below_minimum=int((kept < sizes.clamp(max=self.min_per_class)).sum()),
            subcenters=dict(
                number=counts.shape[1],
                on_dominant=float(counts.amax(1).sum() / counts.sum()),
                dead=int(dead_subcenters(counts).sum()),
                empty_classes=int((sizes == 0).sum()),
            ),
            classes_by_dropped=[
                dict(label=label, samples=int(sizes[label]), not_kept=int(lost[label]))
                for label in worst.tolist()
                if lost[label]
            ],
            truth=self.score(),
        )

    def score(self) -> dict[str, float] | None:
        """How right the result is, where the true labels are known.

        A relabeled sample counts as found, whatever class is proposed.

        Returns:
            ``precision``, the share of samples not kept whose label is wrong, None if all are kept;
            ``recall``, the share of wrong labels that are not kept, None if there are none;
            ``clean_lost``, the share of right labels that are not kept; ``noise_before`` and
            ``noise_after``, the shares of wrong labels among all samples and among those to train
            on; ``relabeled_right``, the share of proposed classes that are right, None if there are
            none. None altogether without ``true_labels``.
        """
        if self.true_labels is None:
            return None
        wrong = self.labels != self.true_labels
        out = ~self.keep
        stays_wrong = (self.new_labels != self.true_labels)[~self.dropped]
        proposals = (self.new_labels == self.true_labels)[self.relabeled]
        return dict(
            precision=_mean(wrong[out]),
            recall=_mean(out[wrong]),
            clean_lost=_mean(out[~wrong]),
            noise_before=_mean(wrong),
            noise_after=_mean(stays_wrong),
            relabeled_right=_mean(proposals),
        )


def _mean(flags: torch.Tensor) -> float | None:
    return float(flags.double().mean()) if len(flags) else None
