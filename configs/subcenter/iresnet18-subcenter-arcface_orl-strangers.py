"""Purification on the ORL faces: 20 people to learn from, a fifth of their photographs of strangers.

    python tools/purify.py run configs/subcenter/iresnet18-subcenter-arcface_orl-strangers.py --ceiling

was not measured yet.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.purification_orl import *

# Strangers are neither among those to learn from nor among those to be told apart.
train_dataloader.dataset.update(
    type='mmarcface.NoisyLabels',
    dataset=dict(type='mmarcface.ORLFaces', people=train_dataloader.dataset.pop('people')),
    open_set=0.2,
    strangers=dict(type='mmarcface.ORLFaces', people=list(range(31, 41))),
)
val_dataloader.dataset.update(people=list(range(21, 31)))
test_dataloader = val_dataloader
