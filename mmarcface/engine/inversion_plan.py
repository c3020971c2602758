"""From a config to an inversion: its targets, and the judge of its images."""

from __future__ import annotations

import argparse
import math
import random
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.dist import barrier, is_distributed
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

from mmarcface.apis import InversionEvaluator, get_model
from mmarcface.checkpoint import open_checkpoint
from mmarcface.cli import command_of
from mmarcface.datasets import LoadImageFromFile, labels_of
from mmarcface.datasets.wrappers import REPEATING, with_pipeline
from mmarcface.functional.arguments import check_number
from mmarcface.plugin import CONFIG_ROOT
from mmarcface.registry import DATASETS

from .config_files import find_config
from .launch import finished_checkpoint, load_config, start_processes, train_unless_done

KINDS = ('classes', 'identities')
# Batch statistics over this many classes approximate those of the training set.
MIN_CLASSES = 64


@dataclass(frozen=True)
class InversionPlan:
    """The targets of an inversion; all lists are of the same length.

    Attributes:
        targets: the targets as :func:`mmarcface.apis.invert` takes them.
        names: names of the targets.
        identities: labels of the targets in ``real``, or None where they are not known.
        real: config of the data set with real images of the identities, or None.
        companions: other classes, as :func:`mmarcface.apis.invert` takes them.
        dataset: the data set of ``real``, if the targets are its labels, else None.
    """

    targets: list[Any] | np.ndarray
    names: list[str]
    identities: list[int] | None
    real: dict | None
    companions: list[int] = field(default_factory=list)
    dataset: BaseDataset | None = None

    def repeat(self, number: int) -> InversionPlan:
        """The plan for several images of each target: all targets once, then all again, and so on.

        Args:
            number: images of each target.

        Raises:
            ValueError: if ``number`` is below 1.
        """
        check_number('per_target', number, minimum=1, whole=True)
        targets = self.targets
        if isinstance(targets, np.ndarray):
            targets = np.concatenate([targets] * number)
        else:
            targets = targets * number
        return replace(
            self,
            targets=targets,
            names=self.names * number,
            identities=self.identities and self.identities * number,
            companions=self.companions * number,
        )


def plan_inversion(
    config: Config, targets: str | Sequence[int], max_targets: int = 256
) -> InversionPlan:
    """The targets of an inversion, from the data sets of a config.

    Args:
        config: the config of the model, with its training and test set.
        targets: class numbers, which are given other classes as companions; or 'classes', all
            classes with images in the training set; or 'identities', one image of each identity of
            the test set, which will be embedded.
        max_targets: largest number of classes or identities to take, spread evenly over all.

    Raises:
        ValueError: if ``targets`` is none of these, the data set has no labels, or ``max_targets``
            is below 1.
    """
    check_number('max_targets', max_targets, minimum=1, whole=True)
    if isinstance(targets, str) and targets not in KINDS:
        raise ValueError(f'targets must be class numbers or one of {KINDS}, got {targets!r}')
    unseen = targets == 'identities'
    loader = f'{"test" if unseen else "train"}_dataloader'
    if not config.get(loader) and isinstance(targets, str):
        raise ValueError(f'the config has no {loader} to take {targets} from: name classes')
    # The same images once each, without the transforms of training.
    real = with_pipeline(config[loader].dataset, [], REPEATING) if config.get(loader) else None
    if not isinstance(targets, str):
        labels, others, dataset = list(targets), [], None
        try:
            if real:
                dataset = _build(real)
                # The data set may have got new classes since, which the head does not have.
                num_classes = (config.get('model', {}).get('head') or {}).get(
                    'num_classes', math.inf
                )
                others = sorted(
                    n for n in _first_images(dataset).keys() - set(labels) if n < num_classes
                )
        except FileNotFoundError as error:
            print_log(
                f'The training images are missing ({error}), so no other classes are searched for '
                'beside these. With few classes the BN prior fits less well',
                'current',
            )
        others = _spread(others, max(0, MIN_CLASSES - len(labels)))
        return InversionPlan(labels, [f'label{n}' for n in labels], labels, real, others, dataset)
    dataset = _build(real)
    first = _first_images(dataset)
    labels = _spread(sorted(first), max_targets)
    if not unseen:
        names = [f'label{n}' for n in labels]
        return InversionPlan(labels, names, labels, real, dataset=dataset)
    load = LoadImageFromFile()
    images = [load(dataset.get_data_info(first[label]))['img'] for label in labels]
    return InversionPlan(images, [f'identity{n}' for n in labels], labels, real)


def train_judge(judge: dict, config: Config) -> None:
    """Train the judge that a config names, unless it has a checkpoint or nothing to train.

    A training that was interrupted goes on.

    Args:
        judge: ``config``, its path, from here or from the folder of ``config``, or the name of one
            of ours in ``configs/inversion``; ``checkpoint``, by default that of
            ``./work_dirs/NAME``, NAME being that of its config. A model without parameters needs
            none.
        config: the config of the model under test.

    Raises:
        FileNotFoundError: if there is no such config.
        ValueError: if ``judge`` has other keys, is the config of the model under test, or does not
            say how it is trained, or the checkpoint there is of another training.
    """
    path = _find_judge_config(judge, config)
    if judge.get('checkpoint') or not _has_parameters(path):
        return
    training = _judge_training(path, config)
    if config.get('launcher', 'none') != 'none' and not is_distributed():
        start_processes(config)
    with _same_randomness():
        if finished_checkpoint(training) is None:
            print_log(
                f'Training the judge {path} first, in {training.work_dir}, as it has no checkpoint',
                'current',
            )
        train_unless_done(training)
    barrier()


def build_evaluator(
    judge: dict, config: Config, plan: InversionPlan, model: nn.Module
) -> InversionEvaluator:
    """The evaluator with the judge that a config names, which must have been trained.

    Args:
        judge: see :func:`train_judge`.
        config: the config of the model under test.
        plan: the inversion that it will be asked about.
        model: the model under test.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if ``judge`` has other keys, is the model under test, has not been trained, or
            its checkpoint cannot be read, or there are no real images of an identity in the plan.
    """
    path = _find_judge_config(judge, config)
    if plan.real is None:
        raise ValueError('the config has no data set of real images for the judge to compare with')
    checkpoint = judge.get('checkpoint') or None
    with _same_randomness():
        if checkpoint is not None:
            open_checkpoint(checkpoint)
        elif _has_parameters(path):
            training = _judge_training(path, config)
            checkpoint = finished_checkpoint(training)
            if checkpoint is None:
                command = shlex.join([*command_of('train'), str(path)])
                raise ValueError(
                    f'the judge has not been trained: {training.work_dir} has no checkpoint of its '
                    f'last epoch. Run {command} first, or name its checkpoint, '
                    'judge=dict(config=..., checkpoint=...)'
                )
        evaluator = InversionEvaluator(
            str(path), plan.real, checkpoint or False, get_device(), identities=plan.identities
        )
    evaluator.refuse_same_weights(model)
    evaluator.reference.rows_of(torch.tensor(plan.identities))
    return evaluator


def _find_judge_config(judge: dict, config: Config) -> Path:
    if set(judge) - {'config', 'checkpoint'} or 'config' not in judge:
        raise ValueError(f'a judge is dict(config=..., checkpoint=...), got {judge}')
    name = judge['config']
    folders = Path(), Path(config.filename or '').parent, CONFIG_ROOT / 'configs' / 'inversion'
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    return found or Path(find_config(name))


def _has_parameters(path: Path) -> bool:
    with _same_randomness():
        return any(True for _ in get_model(str(path)).parameters())


def _judge_training(path: Path, config: Config) -> Config:
    """The config of a judge, ready to be trained."""
    if config.filename and path.samefile(config.filename):
        raise ValueError(f'{path} is the config of the model itself: name another as judge')
    # Without the options of the command line, which are for the model under test.
    arguments = argparse.Namespace(
        config=str(path),
        work_dir=None,
        cfg_options={},
        launcher=config.get('launcher', 'none'),
    )
    training = load_config(arguments)
    if not training.get('train_dataloader'):
        raise ValueError(f'{path} does not say how to train the judge: name its checkpoint')
    # Its log would hide that of the model.
    training.log_level = 'WARNING'
    return training


def _build(dataset: dict) -> BaseDataset:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(dataset)


def _first_images(dataset: BaseDataset) -> dict[int, int]:
    """The place of the first image of each label."""
    labels, places = np.unique(labels_of(dataset), return_index=True)
    return dict(zip(labels.tolist(), places.tolist(), strict=True))


def _spread(labels: list[int], number: int) -> list[int]:
    """At most ``number`` of the labels, spread evenly."""
    if number >= len(labels):
        return labels
    return [labels[i * len(labels) // number] for i in range(number)]


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Leave the random generators, which a Runner seeds, as they were."""
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])
