"""Running statistics that are the same on all processes, in figures and in checkpoints."""

from __future__ import annotations

from mmengine.dist import all_reduce_params, is_distributed
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmarcface.engine.saved_weights import (
    load_averaged_weights,
    require_averaged_figures,
    saved_model,
    trained_model,
)
from mmarcface.registry import HOOKS


@HOOKS.register_module()
class SyncStatisticsHook(Hook):
    """Averages running statistics over the processes before each validation and checkpoint.

    After training under an EMAHook the model is the averaged one, as its checkpoint.

    It takes the place of mmengine's SyncBuffersHook, which in training by iterations comes after
    the checkpoint, and leaves out the averaged model of an EMAHook. It runs after an EMAHook and
    before CheckpointHook, wherever a config names it.
    """

    # EMAHook is NORMAL, CheckpointHook VERY_LOW.
    priority = 'LOW'
    stale = False

    def before_train(self, runner: Runner) -> None:
        """Refuse figures of other weights than checkpoints give."""
        require_averaged_figures(runner)

    def after_train(self, runner: Runner) -> None:
        """Take the weights that the checkpoint has."""
        load_averaged_weights(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Note that the statistics are about to change."""
        self.stale = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Refresh, if a checkpoint is written after this iteration."""
        savers = self._savers(runner, by_epoch=False)
        ends = bool(savers) or isinstance(runner.train_loop, IterBasedTrainLoop)
        if (ends and self.is_last_train_iter(runner)) or any(
            self.every_n_train_iters(runner, hook.interval, hook.save_begin) for hook in savers
        ):
            self._refresh_once(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Refresh, if a checkpoint is written after this epoch, or the training ends."""
        if self.is_last_train_epoch(runner) or any(
            self.every_n_epochs(runner, hook.interval, hook.save_begin)
            for hook in self._savers(runner, by_epoch=True)
        ):
            self._refresh_once(runner)

    def before_val(self, runner: Runner) -> None:
        """Refresh, where training went on since the last time."""
        self._refresh_once(runner)

    def refresh(self, runner: Runner) -> None:
        """Average the statistics over the processes.

        Args:
            runner: runner whose model has the statistics.
        """
        if not is_distributed():
            return
        for module in dict.fromkeys([trained_model(runner), saved_model(runner)]):
            parameters = dict(module.named_parameters())
            all_reduce_params(
                [
                    value
                    for name, value in module.state_dict().items()
                    if name not in parameters and value.is_floating_point()
                ],
                op='mean',
            )

    def _refresh_once(self, runner: Runner) -> None:
        if self.stale:
            self.stale = False
            self.refresh(runner)

    @staticmethod
    def _savers(runner: Runner, by_epoch: bool) -> list[CheckpointHook]:
        return [
            hook
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and hook.by_epoch == by_epoch
        ]
