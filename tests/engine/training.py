"""Small trainings on ORL photographs, by a Runner that is built from keywords or from a config."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn

PIPELINE = [
    dict(type='mmarcface.LoadImageFromFile'),
    dict(type='Resize', scale=(24, 28)),
    dict(type='PackInputs'),
]


class QuietRunner(Runner):
    """Without the second that it takes to describe the machine in the log.

    Runners that are built within one second would share their logs under a name of that second.
    """

    numbers = itertools.count()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs | dict(experiment_name=f'run{next(self.numbers)}'))

    def _log_env(self, env_cfg: dict) -> None:
        pass


def orl(people=(1, 2, 3), **changes) -> dict:
    return dict(type='mmarcface.ORLFaces', people=list(people), pipeline=PIPELINE) | changes


def loader(dataset: Any, **changes) -> dict:
    return (
        dict(
            batch_size=8,
            num_workers=0,
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        )
        | changes
    )


@MODELS.register_module()
class TinyEncoder(nn.Sequential):
    """A net with BN of images (0), of maps (2) and of embeddings (5)."""

    def __init__(self):
        super().__init__(
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 4, 3, stride=4),
            nn.BatchNorm2d(4),
            nn.Flatten(),
            nn.Linear(4 * 7 * 6, 8),
            nn.BatchNorm1d(8),
        )


MODEL = dict(
    type='mmarcface.EmbeddingRetriever',
    image_encoder=dict(type='TinyEncoder'),
    head=dict(type='mmarcface.ArcFaceHead', num_classes=3, in_channels=8, scale=8.0),
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3
    ),
)


def settings(work_dir: Path, hooks: list, **changes) -> dict:
    """Keywords of a Runner that trains for two epochs and tests on two other people."""
    sampler = dict(type='DefaultSampler', shuffle=True)
    return dict(
        model=copy.deepcopy(MODEL),
        work_dir=str(work_dir),
        train_dataloader=loader(orl(), sampler=sampler, drop_last=True),
        val_dataloader=loader(orl([4, 5])),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=2),
        val_cfg=dict(),
        val_evaluator=dict(type='mmarcface.VerificationMetric', far=[0.1]),
        custom_hooks=hooks,
        default_scope='mmpretrain',
        experiment_name=Path(work_dir).name,
        log_level='WARNING',
        randomness=dict(seed=0),
    ) | copy.deepcopy(changes)


def train(work_dir: Path, *hooks: dict, from_config: bool = False, **changes) -> Runner:
    work_dir = Path(work_dir)
    keywords = settings(work_dir, list(hooks), **changes)
    build = QuietRunner.from_cfg if from_config else lambda keys: QuietRunner(**keys)
    runner = build(Config(keywords) if from_config else keywords)
    runner.train()
    return runner
