"""BN statistics of the images that will be tested, not of those that were trained on."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.optim.swa_utils import update_bn

from mmarcface.registry import HOOKS


@HOOKS.register_module()
class RecomputeStatisticsHook(Hook):
    """Recompute the BN statistics on the training images, prepared as in testing.

    Strong augmentation, or :class:`VirtualIdentities`, gives running statistics of images that
    never come up in testing. Before each validation, and at the end, they are taken anew over one
    pass of the training set with the pipeline of the test set. Weights do not change. Name it
    before SyncBuffersHook, which averages over the processes.

    Args:
        mirrored: take every image mirrored, too, as the flip test will show it; False for images
            that are not seen mirrored, such as digits.
    """

    def __init__(self, mirrored: bool = True):
        self.mirrored = mirrored

    def after_train_epoch(self, runner: Runner) -> None:
        """Recompute, if a validation or the end of the training follows."""
        if not isinstance(runner.train_loop, IterBasedTrainLoop) and (
            self.is_last_train_epoch(runner)
            or self.every_n_epochs(runner, runner.train_loop.val_interval)
        ):
            self._recompute(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """The same in training by iterations, where an epoch has no end."""
        if isinstance(runner.train_loop, IterBasedTrainLoop) and (
            self.is_last_train_iter(runner)
            or self.every_n_train_iters(runner, runner.train_loop.val_interval)
        ):
            self._recompute(runner)

    def _recompute(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        update_bn(self._images(runner, model), model)

    def _images(self, runner: Runner, model: torch.nn.Module) -> Iterator[torch.Tensor]:
        config = deepcopy(runner.cfg.train_dataloader)
        config.dataset.pipeline = deepcopy(runner.cfg.test_dataloader.dataset.pipeline)
        # No gradients are kept, so larger batches fit, whose variances are less noisy.
        config.batch_size *= 4
        config.drop_last = False
        # One pass, where that of training may have no end.
        config.sampler = dict(type=DefaultSampler, shuffle=True)
        for batch in Runner.build_dataloader(config):
            inputs = model.data_preprocessor(batch, False)['inputs']
            yield inputs
            if self.mirrored:
                yield inputs.flip(-1)
