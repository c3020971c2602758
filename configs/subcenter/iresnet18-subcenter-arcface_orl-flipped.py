"""Purification on the ORL faces: 20 people to learn from, a fifth of their photographs under a wrong name.

    python tools/purify.py run configs/subcenter/iresnet18-subcenter-arcface_orl-flipped.py --ceiling

was not measured yet.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.purification_orl import *

train_dataloader.dataset.update(
    type='mmarcface.NoisyLabels',
    dataset=dict(type='mmarcface.ORLFaces', people=train_dataloader.dataset.pop('people')),
    symmetric=0.2,
)
