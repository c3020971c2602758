"""How images are searched for in an inversion: weights, steps, and what keeps them plausible."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmarcface.functional.arguments import check_number
from mmarcface.functional.inversion import BN_PRIORS, TOTAL_VARIATIONS

SCHEDULES = ('constant', 'cosine')


@dataclass(frozen=True)
class InversionSettings:
    """How images are searched for. The defaults are ArcFace's, section 3.3 and 4.5.

    Attributes:
        steps: of Adam, for each batch and restart.
        lr: learning rate, in units of the normalized pixels; lowered for a while where a step makes
            the objective jump.
        schedule: 'constant', or 'cosine' for a rate that falls to 0.
        target_weight: of the target's term: the head's loss for a class, the distance for an
            embedding.
        center_weight: of the distance between the embedding and the center of its class, which
            still pulls where the loss is content.
        bn_weight: of the BN prior.
        bn_variant: see :func:`mmarcface.functional.inversion.bn_prior`.
        tv_weight: of the total variation.
        tv_variant: see :func:`mmarcface.functional.inversion.total_variation`.
        l2_weight: of the squared norm of the images.
        init_std: standard deviation of the noise that it starts from.
        halvings: how often the resolution is halved for the start; each coarse stage takes an
            equal share of the first half of the steps.
        jitter: each step moves the images by up to as many pixels, edges coming in on the other
            side; harmful for aligned faces.
        flip: mirror the images in every other step or so.
        clip: keep the pixels valid after each step.
        gray: search for gray images, one value a pixel.
        restarts: how many times to start from other noise; of each image the one with the least
            objective is kept.
        batch_size: images that are searched for together, and whose statistics the BN prior sees.

    Raises:
        ValueError: if a value is out of its range.
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
    # The paper does not say, but what comes out are 8-bit images: cut off only at the end, they had
    # several times the objective.
    'paper': InversionSettings(clip=True),
    # Layers that count alike let a high rate through, and that finds its way in few steps.
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
