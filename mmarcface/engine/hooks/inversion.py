"""Pictures of what a net has learnt, while it learns it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmarcface.apis import invert, save_inversion
from mmarcface.engine.inverting import choose_targets, find_judge
from mmarcface.registry import HOOKS


@HOOKS.register_module()
class BNPriorInversionHook(Hook):
    """Inverts classes or people after training, or every few epochs, and shows the images.

    The grid, a row for each target, goes to all backends of the visualizer; images, report and
    animation to ``inversion/STEP`` in the work dir, STEP being the iteration. Name it after hooks
    that change BN statistics, such as RecomputeStatisticsHook and SyncBuffersHook.

    Args:
        targets: see :func:`mmarcface.engine.inverting.choose_targets`.
        per_target: images of each.
        interval: epochs between two inversions; none but after training by default.
        judge: see :func:`mmarcface.engine.inverting.find_judge`; none by default.
        **settings: of :func:`mmarcface.apis.invert`: ``preset``, ``seed``, and so on.

    Raises:
        ValueError: if ``interval`` is below 1.
    """

    def __init__(
        self,
        targets: str | Sequence[int] = 'classes',
        per_target: int = 4,
        interval: int | None = None,
        judge: dict | None = None,
        **settings: Any,
    ):
        if interval is not None and interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.targets = targets
        self.per_target = per_target
        self.interval = interval
        self.judge = judge
        self.settings = settings

    def before_train(self, runner: Runner) -> None:
        """Find out what is wanted, and train the judge, before hours of work."""
        self.wanted = choose_targets(runner.cfg, self.targets).times(self.per_target)
        if self.judge is not None:
            self.found_judge = find_judge(self.judge, runner.cfg, self.wanted.real, runner.model)

    def after_train_epoch(self, runner: Runner) -> None:
        """Invert, where it is time and this is not the end."""
        if self.interval is None or self.is_last_train_epoch(runner):
            return
        if self.every_n_epochs(runner, self.interval):
            self._invert(runner)

    def after_train(self, runner: Runner) -> None:
        """Invert what was learnt."""
        self._invert(runner)

    def _invert(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        # As mmpretrain.get_model leaves it there, for the test pipeline.
        model._config = runner.cfg
        inversion = invert(model, self.wanted.targets, **self.settings)
        if not is_main_process():
            return
        folder = Path(runner.work_dir, 'inversion', str(runner.iter))
        report = save_inversion(
            inversion,
            folder,
            self.wanted.names,
            self.found_judge if self.judge is not None else None,
            self.wanted.identities,
            dict(config=runner.cfg.filename, iteration=runner.iter),
        )
        grid = cv2.imread(str(folder / 'grid.png'))
        runner.visualizer.add_image('inversion', grid[..., ::-1], runner.iter)
        judged = report.get('judge_accuracy')
        verdict = '' if judged is None else f', of which the judge names {judged:.1%} right'
        runner.logger.info(f'{len(inversion.images)} inverted images are in {folder}{verdict}')
