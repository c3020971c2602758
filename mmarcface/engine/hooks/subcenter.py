"""Logs of how mislabeled samples gather on sub-centers of their own."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmarcface.engine.saved_weights import trained_model
from mmarcface.functional.arguments import check_number
from mmarcface.functional.subcenter import (
    angles_to_subcenters,
    dead_subcenters,
    dominant_subcenters,
    subcenter_cosines,
)
from mmarcface.models import ClassHead
from mmarcface.registry import HOOKS

BINS_PER_DEGREE = 10
PERCENTS = (10, 50, 90)


@HOOKS.register_module()
class SubCenterHook(Hook):
    """Logs where the training samples are among the sub-centers, without a further forward pass.

    At the end of each interval one line in the log, and scalars to the visualizer and the message
    hub, for all processes together:

    - ``subcenters/dominant_share``, the share of samples nearest to the dominant center of their
      class, in [0, 1];
    - ``subcenters/dead``, the number of centers that no sample was nearest to, in classes that
      were seen;
    - ``subcenters/angle_p10``, ``_p50`` and ``_p90``, percentiles of the angle to the dominant
      center, in degrees, to 0.05.

    The dominant center is the one that most samples of the class were nearest to in the interval
    before; in the first interval, and the first after a resume, in the batches so far. Samples and
    labels are those that the head sees, after augmentation, embedded by the net of that iteration.

    Args:
        interval: number of iterations, at least 1; one pass of the training set by default. What is
            left at the end of the training counts as one more.

    Raises:
        ValueError: if ``interval`` is below 1; before training if the head has no sub-centers.
    """

    def __init__(self, interval: int | None = None):
        if interval is not None:
            check_number('interval', interval, minimum=1, whole=True)
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Begin to observe the head."""
        head = getattr(trained_model(runner), 'head', None)
        number = getattr(head, 'num_subcenters', 1)
        if not isinstance(head, ClassHead) or number == 1:
            raise ValueError(
                'SubCenterHook needs a head of this project with sub-centers, SubCenterArcFaceHead '
                'or another margin head with num_subcenters=3; this model has '
                f'{type(head).__name__} with num_subcenters={number}'
            )
        self.head = head
        self.period = self.interval or len(runner.train_dataloader)
        self.dominant = None
        self._start()
        head.observers.append(self.observe)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Log, where an interval ends."""
        if self.every_n_train_iters(runner, self.period):
            self._log(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Log what is left, and leave the head alone."""
        if runner.iter % self.period:
            self._log(runner, runner.iter)
        self.head.observers.remove(self.observe)

    def observe(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch.

        Args:
            embeddings: embeddings of the batch, (N, D).
            labels: class of each, (N,).
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = subcenter_cosines(
                embeddings, self.head.weight, labels, self.head.num_subcenters
            )
        nearest, one = cosines.argmax(1), labels.new_ones(())
        self.counts.index_put_((labels, nearest), one, accumulate=True)
        centers = (self._dominant_so_far() if self.dominant is None else self.dominant)[labels]
        places = (angles_to_subcenters(cosines, centers) * BINS_PER_DEGREE).long()
        self.histogram.index_put_((places.clamp(0, len(self.histogram) - 1),), one, accumulate=True)
        self.on_dominant += (nearest == centers).sum()

    def _start(self) -> None:
        device, shape = self.head.weight.device, (self.head.num_classes, self.head.num_subcenters)
        self.counts = torch.zeros(shape, dtype=torch.long, device=device)
        self.histogram = torch.zeros(180 * BINS_PER_DEGREE, dtype=torch.long, device=device)
        self.on_dominant = torch.zeros((), dtype=torch.long, device=device)

    def _dominant_so_far(self) -> torch.Tensor:
        counts = self.counts.clone()
        all_reduce(counts)
        return dominant_subcenters(counts)

    def _log(self, runner: Runner, step: int) -> None:
        for part in (self.counts, self.histogram, self.on_dominant):
            all_reduce(part)
        number, seen = int(self.histogram.sum()), self.counts.any(1)
        if not number:
            return
        below = self.histogram.cumsum(0).cpu()
        ranks = torch.tensor([max(1, -(-percent * number // 100)) for percent in PERCENTS])
        angles = (torch.searchsorted(below, ranks) + 0.5) / BINS_PER_DEGREE
        share, dead = int(self.on_dominant) / number, int(dead_subcenters(self.counts).sum())
        scalars = {'subcenters/dominant_share': share, 'subcenters/dead': dead} | {
            f'subcenters/angle_p{percent}': round(angle, 2)
            for percent, angle in zip(PERCENTS, angles.tolist(), strict=True)
        }
        runner.visualizer.add_scalars(scalars, step=step)
        runner.message_hub.update_scalars(scalars)
        low, median, high = angles.tolist()
        runner.logger.info(
            f'Sub-centers: {100 * share:.1f}% of {number} samples nearest to the dominant one of '
            f'their class, {dead} of {int(seen.sum()) * self.counts.shape[1]} dead; angle to it '
            f'{median:.1f} degrees (median), {low:.1f} to {high:.1f} (10% to 90%)'
        )
        # Classes that did not come up keep the last known one.
        now = dominant_subcenters(self.counts)
        self.dominant = now if self.dominant is None else torch.where(seen, now, self.dominant)
        self._start()
