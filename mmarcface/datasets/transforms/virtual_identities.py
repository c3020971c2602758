"""Transformed images as further identities."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from mmarcface.functional.arguments import check_number
from mmarcface.registry import TRANSFORMS

NUM_VARIANTS = 4


@TRANSFORMS.register_module()
class VirtualIdentities(BaseTransform):
    """Count images as other identities when upside down, as a negative, or both.

    With few identities a net learns only what tells those apart. Transformed images as classes of
    their own ask more of it, as `Meta-Learning with Memory-Augmented Neural Networks
    <https://proceedings.mlr.press/v48/santoro16.html>`_ makes new characters by rotation. The four
    variants are equally likely. The head needs 4 * ``num_identities`` classes. For training only.

    Args:
        num_identities: number of identities of the data set; label y of variant v in [0, 3] becomes
            y + v * ``num_identities``.

    Raises:
        ValueError: if ``num_identities`` is below 1; in use if a label is not below it.
    """

    def __init__(self, num_identities: int):
        check_number('num_identities', num_identities, minimum=1, whole=True)
        self.num_identities = num_identities

    def transform(self, results: dict) -> dict:
        """Change ``img``, (H, W, C), uint8, and ``gt_label``, or leave both."""
        label = results['gt_label']
        if label >= self.num_identities:
            raise ValueError(
                f'num_identities is {self.num_identities} and {results.get("img_path")} has label '
                f'{label}: it must be the number of identities of the data set'
            )
        variant = np.random.randint(NUM_VARIANTS)
        image = results['img']
        if variant in (1, 3):
            image = np.ascontiguousarray(image[::-1])
        if variant in (2, 3):
            image = 255 - image
        return results | dict(img=image, gt_label=label + variant * self.num_identities)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_identities={self.num_identities})'
