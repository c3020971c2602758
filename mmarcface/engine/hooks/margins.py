"""Hooks that set margins: by the number of images of a class, or by the progress of training."""

from __future__ import annotations

import logging

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmarcface.datasets import labels_of
from mmarcface.engine.saved_weights import trained_model
from mmarcface.functional.arguments import check_number
from mmarcface.functional.margins import adaptive_margins
from mmarcface.models.heads.class_margins import ClassMargins
from mmarcface.registry import HOOKS


@HOOKS.register_module()
class AdaptiveMarginsHook(Hook):
    """Give rare classes the larger margins.

    Counts the images of each class before training: see
    :func:`mmarcface.functional.margins.adaptive_margins`. For every head with one margin a class.

    Args:
        margin_min: margin of the most frequent class.
        margin_max: margin of the rarest class.
        power: exponent of the count, negative.

    Raises:
        ValueError: if a number is out of its range; before training if the head has no margins, or
            a label is outside its classes or no integer.
    """

    def __init__(self, margin_min: float = 0.05, margin_max: float = 0.5, power: float = -0.25):
        adaptive_margins([1], margin_min, margin_max, power)  # Refuses wrong numbers.
        self.margin_min = margin_min
        self.margin_max = margin_max
        self.power = power

    def before_train(self, runner: Runner) -> None:
        """Set the margins."""
        margins = _margins_of(runner, self)
        labels = labels_of(runner.train_dataloader.dataset)
        if (labels < 0).any():
            raise ValueError(f'gt_label must be at least 0, got {labels.min()}')
        counts = np.bincount(labels, minlength=len(margins.values))
        if len(counts) > len(margins.values):
            raise ValueError(
                f'the head has {len(margins.values)} classes and the data label {labels.max()}: '
                f'set model.head.num_classes to {len(counts)}'
            )
        missing = int((counts == 0).sum())
        if missing:
            print_log(
                f'{missing} of {len(counts)} classes have no image in the data set and get the '
                f'largest margin, {self.margin_max}; transforms that change labels are not counted',
                logger='current',
                level=logging.WARNING,
            )
        margins.set(adaptive_margins(counts, self.margin_min, self.margin_max, self.power))


@HOOKS.register_module()
class MarginScheduleHook(Hook):
    """Raise the margins over the first epochs, linearly from a share of them.

    A full margin on random embeddings can keep a net from learning at all. For every head with one
    margin a class; goes on where it was after a resume.

    Args:
        epochs: number of epochs, positive, whole or not.
        start: share of the margins at the first iteration, in [0, 1].

    Raises:
        ValueError: if a number is out of its range; before training if the head has no margins.
    """

    def __init__(self, epochs: float, start: float = 0.0):
        check_number('epochs', epochs, above=0)
        check_number('start', start, minimum=0, maximum=1)
        self.epochs = epochs
        self.start = start

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Set the share of the margins that counts in this iteration."""
        done = runner.iter / (self.epochs * len(runner.train_dataloader))
        _margins_of(runner, self).strength = min(1.0, self.start + (1 - self.start) * done)


def _margins_of(runner: Runner, hook: Hook) -> ClassMargins:
    head = getattr(trained_model(runner), 'head', None)
    margins = getattr(head, 'margins', None)
    if not isinstance(margins, ClassMargins):
        raise ValueError(
            f'{type(hook).__name__} needs a head with one margin a class, such as ArcFaceHead; '
            f'this model has {type(head).__name__}'
        )
    return margins
