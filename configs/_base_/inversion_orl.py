"""ArcFace on the ORL faces, to be inverted, and how faces are searched for."""

from mmengine.config import read_base

with read_base():
    from .orl_120e import *

from mmarcface.models import ArcFaceHead

model.update(head=dict(type=ArcFaceHead, num_classes=80, in_channels=128, scale=16.0, margin=0.2))
# The photographs are gray; mirrored people are the same people.
inversion = dict(
    per_target=2,
    preset='small',
    flip=True,
    gray=True,
    judge=dict(config='judge_orl.py'),
)
custom_hooks.append(results_table)
