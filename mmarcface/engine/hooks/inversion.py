"""Inverts a net during or after its training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmarcface.apis import invert, save_inversion
from mmarcface.apis.inversion.search import prepare_inversion
from mmarcface.engine.inversion_plan import build_evaluator, plan_inversion, train_judge
from mmarcface.engine.saved_weights import saved_model
from mmarcface.functional.arguments import check_number
from mmarcface.registry import HOOKS


@HOOKS.register_module()
class BNPriorInversionHook(Hook):
    """Inverts classes or identities after training, or every few epochs, and shows the images.

    The grid, a row for each target, goes to all backends of the visualizer; images, report and
    animation go to ``inversion/STEP`` in the work dir, STEP being the iteration. The hook runs
    after CheckpointHook, wherever a config names it, and inverts the weights that checkpoints have:
    under an EMAHook the averaged ones. Images mean little before the BN statistics were recomputed,
    such as after a first epoch. ``tools/invert.py`` does not read the hook but
    ``inversion = dict(...)`` of the config, as those of ``configs/inversion`` have it.

    The hook trains no judge: ``tools/train.py`` does so before it builds the Runner, see
    :func:`train_missing_judges`.

    Args:
        targets: see :func:`mmarcface.engine.inversion_plan.plan_inversion`.
        per_target: number of images of each target.
        max_targets: largest number of classes or identities to take, spread evenly over all.
        interval: epochs between two inversions; by default there is one, after training.
        judge: see :func:`mmarcface.engine.inversion_plan.train_judge`; none by default.
        seed: seed of the noise.
        **settings: arguments of :func:`mmarcface.apis.invert`: ``preset``, ``head``, ``steps``, and
            so on.

    Raises:
        ValueError: if ``per_target``, ``max_targets`` or ``interval`` is below 1.
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
        given = dict(per_target=per_target, max_targets=max_targets)
        given |= {} if interval is None else dict(interval=interval)
        for name, value in given.items():
            check_number(name, value, minimum=1, whole=True)
        self.targets = targets
        self.per_target = per_target
        self.max_targets = max_targets
        self.interval = interval
        self.judge = judge
        self.seed = seed
        self.settings = settings

    def before_train(self, runner: Runner) -> None:
        """Check targets, settings and judge, before hours of work.

        Raises:
            ValueError: see :func:`mmarcface.apis.invert` and
                :func:`mmarcface.engine.inversion_plan.build_evaluator`.
            FileNotFoundError: if there is no such judge.
            TypeError: if a setting is unknown.
        """
        if self.interval is not None and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                'interval of BNPriorInversionHook counts epochs, and this training counts '
                f'iterations: leave it out to invert after training; got {self.interval}'
            )
        plan = plan_inversion(runner.cfg, self.targets, self.max_targets)
        self.plan = plan.repeat(self.per_target)
        model = self._model(runner)
        prepare_inversion(model, self.plan.targets, **self.settings)
        self.evaluator = None
        if self.judge is not None:
            self.evaluator = build_evaluator(self.judge, runner.cfg, self.plan, model)

    def after_train_epoch(self, runner: Runner) -> None:
        """Invert every ``interval`` epochs, except at the end."""
        if self.interval is None or self.is_last_train_epoch(runner):
            return
        if self.every_n_epochs(runner, self.interval):
            self._invert(runner)

    def after_train(self, runner: Runner) -> None:
        """Invert the trained model."""
        self._invert(runner)

    @staticmethod
    def _model(runner: Runner) -> nn.Module:
        model = saved_model(runner)
        # As mmpretrain.get_model does, for the test pipeline.
        model._config = runner.cfg
        return model

    def _invert(self, runner: Runner) -> None:
        model = self._model(runner)
        if self.evaluator is not None:
            self.evaluator.refuse_same_weights(model)
        folder = Path(runner.work_dir, 'inversion', str(runner.iter))
        state = folder / 'state'
        inversion = invert(
            model,
            self.plan.targets,
            companions=self.plan.companions,
            seed=self.seed,
            state=state,
            **self.settings,
        )
        if not is_main_process():
            return
        report = save_inversion(
            inversion,
            folder,
            self.plan.names,
            self.evaluator,
            self.plan.identities,
            dict(config=runner.cfg.filename, iteration=runner.iter),
        )
        shutil.rmtree(state, ignore_errors=True)
        grid = cv2.imread(str(folder / 'grid.png'))
        runner.visualizer.add_image('inversion', grid[..., ::-1], runner.iter)
        accuracy = report.get('attack_accuracy')
        verdict = '' if accuracy is None else f', of which the judge names {accuracy:.1%} right'
        runner.logger.info(f'{len(inversion.images)} inverted images are in {folder}{verdict}')


def train_missing_judges(config: Config) -> None:
    """Train the judges that the inversion hooks of a config name, where they have no checkpoint.

    Args:
        config: the config of a training that is about to begin.

    Raises:
        FileNotFoundError: see :func:`mmarcface.engine.inversion_plan.train_judge`.
        ValueError: see :func:`mmarcface.engine.inversion_plan.train_judge`.
    """
    for hook in config.get('custom_hooks') or []:
        kind = HOOKS.get(hook['type']) if isinstance(hook['type'], str) else hook['type']
        inverts = isinstance(kind, type) and issubclass(kind, BNPriorInversionHook)
        if inverts and hook.get('judge') is not None:
            train_judge(hook['judge'], config)
