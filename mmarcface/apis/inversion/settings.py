"""Settings of an inversion: weights and variants of the terms, steps, and the form of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmarcface.functional.arguments import check_number
from mmarcface.functional.inversion import BN_PRIORS, TOTAL_VARIATIONS

SCHEDULES = ('constant', 'cosine')


@dataclass(frozen=True)
class InversionSettings:
    """Settings of an inversion. The defaults are those of ArcFace, sections 3.3 and 4.5.

    Attributes:
        steps: number of steps of Adam, for each batch and restart.
        lr: learning rate, in units of the normalized pixels; lowered for a while after a step that
            makes the objective jump.
        schedule: 'constant', or 'cosine' for a rate that falls to 0.
        target_weight: weight of the target's term: the head's loss for a class, the distance for
            an embedding.
        center_weight: weight of the distance between the embedding and the center of its class,
            which still has a gradient when the loss is near 0.
        bn_weight: weight of the BN prior.
        bn_variant: see :func:`mmarcface.functional.inversion.bn_prior`.
        tv_weight: weight of the total variation.
        tv_variant: see :func:`mmarcface.functional.inversion.total_variation`.
        l2_weight: weight of the squared norm of the images.
        init_std: standard deviation of the noise that the search starts from.
        halvings: number of times that the resolution is halved for the start; the coarse stages
            share the first half of the steps equally.
        jitter: largest shift of the images in pixels, drawn anew in each step; what leaves on one
            side comes in on the other. It harms aligned faces.
        flip: whether the images are mirrored in half of the steps, at random.
        clip: whether pixels are kept in their valid range after each step.
        gray: whether images are gray, with one value a pixel.
        restarts: number of searches, each from other noise; of each image the one with the lowest
            objective is kept.
        batch_size: largest number of images that are searched for together, and whose statistics
            the BN prior sees.

    Raises:
        ValueError: if a value is out of its range, or all weights are 0.
    """

    steps: int = 20_000
    lr: float = 0.25
    schedule: str = 'constant'
    target_weight: float = 1.0
    center_weight: float = 0.0
    bn_weight: float = 0.05
    bn_variant: str = 'arcface'
    tv_weight: float = 1e-3
    tv_variant: str = 'squared'
    l2_weight: float = 1e-4
    init_std: float = 1.0
    halvings: int = 0
    jitter: int = 0
    flip: bool = False
    clip: bool = False
    gray: bool = False
    restarts: int = 1
    batch_size: int = 256

    def __post_init__(self):
        for name in ('steps', 'restarts', 'batch_size'):
            check_number(name, getattr(self, name), minimum=1, whole=True)
        for name in ('halvings', 'jitter'):
            check_number(name, getattr(self, name), minimum=0, whole=True)
        for name in ('lr', 'init_std', *(n for n in vars(self) if n.endswith('_weight'))):
            check_number(name, getattr(self, name), minimum=0)
        for name in ('flip', 'clip', 'gray'):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f'{name} must be True or False, got {getattr(self, name)!r}')
        for name, options in dict(
            schedule=SCHEDULES, bn_variant=BN_PRIORS, tv_variant=TOTAL_VARIATIONS
        ).items():
            if getattr(self, name) not in options:
                raise ValueError(f'{name} must be one of {options}, got {getattr(self, name)!r}')

        if not any(self.weights.values()):
            raise ValueError('one of the weights must be above 0, got 0 for each')

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term of the objective, by the name of the term."""
        return dict(
            target=self.target_weight,
            center=self.center_weight,
            bn=self.bn_weight,
            total_variation=self.tv_weight,
            l2=self.l2_weight,
        )

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step.

        Args:
            step: number of the step, from 0 on.
        """
        if self.schedule == 'constant':
            return self.lr
        return self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2

    def scale(self, step: int) -> int:
        """Factor by which the images are smaller at a step; 1 for full resolution.

        Args:
            step: number of the step, from 0 on.
        """
        half = self.steps // 2
        if not self.halvings or step >= half:
            return 1
        return 2 ** (self.halvings - step * self.halvings // half)


PRESETS = {
    # The paper does not clip. 8-bit images that were clipped only at the end had several times the
    # objective.
    'paper': InversionSettings(clip=True),
    # Normalizing each layer's BN term permits lr=1, which converges in 400 steps.
    'small': InversionSettings(
        steps=400,
        lr=1.0,
        schedule='cosine',
        center_weight=20.0,
        bn_weight=0.1,
        bn_variant='standardized',
        tv_weight=4e-3,
        halvings=2,
        clip=True,
    ),
}
