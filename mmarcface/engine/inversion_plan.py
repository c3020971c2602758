"""From a config to an inversion: whom to invert, and who judges."""

from __future__ import annotations

import argparse
import math
import random
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
from mmengine.dist import barrier
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

from mmarcface.apis import InversionEvaluator, get_model
from mmarcface.checkpoint import open_checkpoint
from mmarcface.datasets import LoadImageFromFile, labels_of
from mmarcface.datasets.wrappers import REPEATING, with_pipeline
from mmarcface.plugin import CONFIG_ROOT
from mmarcface.registry import DATASETS

from .launch import load_config, train_unless_done
from .resuming import latest_checkpoint

KINDS = ('classes', 'identities')
# Of so many classes a batch is taken to have the statistics of all.
COMPANY = 64


@dataclass(frozen=True)
class InversionPlan:
    """Whom an inversion is to show; all lists are of the same length.

    Attributes:
        targets: as :func:`mmarcface.apis.invert` takes them.
        names: of the targets.
        identities: labels in ``real``, or None where they are not known.
        real: config of the data set that knows them, or None.
        companions: other classes, as :func:`mmarcface.apis.invert` takes them.
        dataset: ``real``, where the targets are its labels; None where they are not.
    """

    targets: list[Any] | np.ndarray
    names: list[str]
    identities: list[int] | None
    real: dict | None
    companions: list[int] = field(default_factory=list)
    dataset: BaseDataset | None = None

    def times(self, number: int) -> InversionPlan:
        """So many images of each target; all targets once, then all once more, and so on.

        Raises:
            ValueError: if the number is below 1.
        """
        if number < 1:
            raise ValueError(f'per_target must be at least 1, got {number}')
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
    """The targets that a config speaks of.

    Args:
        config: with the data sets that the model is trained and tested on.
        targets: class numbers, which are given other classes as companions; or 'classes', all that
            the training set has images of; or 'identities', one image of each identity of the test
            set, to be embedded.
        max_targets: of classes or identities take no more than so many, spread evenly.

    Raises:
        ValueError: if it is none of these, the data set has no labels, or ``max_targets`` is below
            1.
    """
    if max_targets < 1:
        raise ValueError(f'max_targets must be at least 1, got {max_targets}')
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
                # Images that came later may be of classes that the head does not have.
                num_classes = (config.get('model', {}).get('head') or {}).get(
                    'num_classes', math.inf
                )
                others = sorted(
                    n for n in _first_images(dataset).keys() - set(labels) if n < num_classes
                )
        except FileNotFoundError as error:
            print_log(
                f'Without the training images ({error}) it is not known which other classes to '
                'search for beside these, which the BN prior of few classes needs',
                'current',
            )
        others = _spread(others, max(0, COMPANY - len(labels)))
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


def find_judge(
    judge: dict, config: Config, wanted: InversionPlan, model: nn.Module
) -> InversionEvaluator:
    """The judge that a config names, trained first where there is no checkpoint of it.

    Args:
        judge: ``config``, its path, from here or from the folder of ``config``, or the name of one
            of ours in ``configs/inversion``; ``checkpoint``, by default the latest in
            ``./work_dirs`` in the folder named after its config. A model without parameters needs
            none.
        config: of the model under test.
        wanted: whom it will be asked about.
        model: the model under test.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if it is the model under test, ``judge`` has other keys, its config trains
            nothing and there is no checkpoint, that is no checkpoint, or there are no real images
            of those who are wanted.
    """
    unknown = set(judge) - {'config', 'checkpoint'}
    if unknown or 'config' not in judge:
        raise ValueError(f'a judge is dict(config=..., checkpoint=...), got {judge}')
    if wanted.real is None:
        raise ValueError('the config has no data set of real images for the judge to compare with')
    name = judge['config']
    folders = Path(), Path(config.filename or '').parent, CONFIG_ROOT / 'configs' / 'inversion'
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f'there is no config {name} of a judge')
    checkpoint = judge.get('checkpoint') or None
    with _same_randomness():
        if checkpoint is not None:
            open_checkpoint(checkpoint)
        elif any(True for _ in get_model(str(path)).parameters()):
            if config.filename and path.samefile(config.filename):
                raise ValueError(f'{name} is the config of the model itself: a judge is another')
            # With options of its own: those of the command line are for the model under test.
            arguments = argparse.Namespace(
                config=str(path),
                work_dir=None,
                cfg_options={},
                launcher=config.get('launcher', 'none'),
            )
            settings = load_config(arguments)
            if not settings.get('train_dataloader'):
                raise ValueError(f'{path} does not say how to train the judge: name its checkpoint')
            # Its log would hide that of the model.
            settings.log_level = 'WARNING'
            print_log(f'The judge is trained in {settings.work_dir}, if it is not there', 'current')
            runner = train_unless_done(settings)
            barrier()
            checkpoint = latest_checkpoint(runner.work_dir)
        found = InversionEvaluator(
            str(path), wanted.real, checkpoint or False, get_device(), identities=wanted.identities
        )
    found.refuse_same_weights(model)
    found.reference.places(torch.tensor(wanted.identities))
    return found


def _build(dataset: dict) -> BaseDataset:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(dataset)


def _first_images(dataset: BaseDataset) -> dict[int, int]:
    """The place of the first image of each label."""
    labels, places = np.unique(labels_of(dataset), return_index=True)
    return dict(zip(labels.tolist(), places.tolist(), strict=True))


def _spread(labels: list[int], number: int) -> list[int]:
    """At most so many of them, evenly."""
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
