"""Pictures of what a net has learned, while it learns it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmarcface.apis import invert, save_inversion
from mmarcface.apis.inversion.search import prepare_inversion
from mmarcface.engine.inversion_plan import find_judge, plan_inversion
from mmarcface.engine.saved_weights import saved_model
from mmarcface.registry import HOOKS


@HOOKS.register_module()
class BNPriorInversionHook(Hook):
    """Inverts classes or people after training, or every few epochs, and shows the images.

    The grid, a row for each target, goes to all backends of the visualizer; images, report and
    animation to ``inversion/STEP`` in the work dir, STEP being the iteration. It runs after
    CheckpointHook, wherever a config names it, and inverts what checkpoints give, under an EMAHook
    the averaged weights. Before BN statistics were recomputed images mean little, as after a first
    epoch. ``tools/invert.py`` does not read the hook but ``inversion = dict(...)`` of the config,
    as those of ``configs/inversion`` have it.

    Args:
        targets: see :func:`mmarcface.engine.inversion_plan.plan_inversion`.
        per_target: images of each.
        max_targets: of classes or identities invert no more than so many, spread evenly.
        interval: epochs between two inversions; none but after training by default.
        judge: see :func:`mmarcface.engine.inversion_plan.find_judge`; none by default.
        seed: of the noise.
        **settings: of :func:`mmarcface.apis.invert`: ``preset``, ``head``, ``steps``, and so on.

    Raises:
        ValueError: if ``interval`` is below 1.
    """

    # After CheckpointHook.
    priority = 'VERY_LOW'

    def __init__(
        self,
        targets: str | Sequence[int] = 'classes',
        per_target: int = 4,
        max_targets: int = 256,
        interval: int | None = None,
        judge: dict | None = None,
        seed: int = 0,
        **settings: Any,
    ):
        if interval is not None and interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.targets = targets
        self.per_target = per_target
        self.max_targets = max_targets
        self.interval = interval
        self.judge = judge
        self.seed = seed
        self.settings = settings

    def before_train(self, runner: Runner) -> None:
        """Check targets and settings, and train the judge, before hours of work.

        Raises:
            ValueError: see :func:`mmarcface.apis.invert` and
                :func:`mmarcface.engine.inversion_plan.find_judge`.
            TypeError: for a setting that there is not.
        """
        if self.interval is not None and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                'interval of BNPriorInversionHook counts epochs, and this training has iterations: '
                f'leave it out, and images are made after training; got {self.interval}'
            )
        self.wanted = plan_inversion(runner.cfg, self.targets, self.max_targets).times(
            self.per_target
        )
        model = self._model(runner)
        prepare_inversion(model, self.wanted.targets, **self.settings)
        if self.judge is not None:
            self.found_judge = find_judge(self.judge, runner.cfg, self.wanted, model)

    def after_train_epoch(self, runner: Runner) -> None:
        """Invert, where it is time and this is not the end."""
        if self.interval is None or self.is_last_train_epoch(runner):
            return
        if self.every_n_epochs(runner, self.interval):
            self._invert(runner)

    def after_train(self, runner: Runner) -> None:
        """Invert what was learned."""
        self._invert(runner)

    @staticmethod
    def _model(runner: Runner) -> nn.Module:
        model = saved_model(runner)
        # As mmpretrain.get_model leaves it there, for the test pipeline.
        model._config = runner.cfg
        return model

    def _invert(self, runner: Runner) -> None:
        model = self._model(runner)
        judge = None
        if self.judge is not None:
            judge = self.found_judge
            judge.refuse_same_weights(model)
        folder = Path(runner.work_dir, 'inversion', str(runner.iter))
        state = folder / 'state'
        inversion = invert(
            model,
            self.wanted.targets,
            companions=self.wanted.companions,
            seed=self.seed,
            state=state,
            **self.settings,
        )
        if not is_main_process():
            return
        report = save_inversion(
            inversion,
            folder,
            self.wanted.names,
            judge,
            self.wanted.identities,
            dict(config=runner.cfg.filename, iteration=runner.iter),
        )
        shutil.rmtree(state, ignore_errors=True)
        grid = cv2.imread(str(folder / 'grid.png'))
        runner.visualizer.add_image('inversion', grid[..., ::-1], runner.iter)
        judged = report.get('attack_accuracy')
        verdict = '' if judged is None else f', of which the judge names {judged:.1%} right'
        runner.logger.info(f'{len(inversion.images)} inverted images are in {folder}{verdict}')
