"""Purification on the ORL faces: all but the noise, which a recipe adds to the data set."""

from mmengine.config import read_base

with read_base():
    from .datasets.orl_faces import *
    from .default_runtime import *
    from .models.iresnet18_56x48 import *
    from .schedules.sgd_1200i import *

from mmengine.dataset import InfiniteSampler

from mmarcface.datasets import VirtualIdentities
from mmarcface.engine import RecomputeStatisticsHook, SubCenterHook
from mmarcface.models import SubCenterArcFaceHead

# 20 people are few to learn from. Upside down, as negatives, and as both, they count as 60 more.
train_dataloader.dataset.pipeline.insert(-2, dict(type=VirtualIdentities, num_identities=20))
train_dataloader.update(sampler=dict(type=InfiniteSampler, shuffle=True))
model.update(
    head=dict(
        type=SubCenterArcFaceHead,
        num_classes=80,
        in_channels=128,
        scale=16.0,
        margin=0.2,
        gradient='detached',
    )
)
train_cfg.update(max_iters=240, val_interval=240)
param_scheduler[0].update(end=20)
param_scheduler[1].update(T_max=220, begin=20, end=240)
auto_scale_lr.update(base_batch_size=64)
custom_hooks.insert(0, dict(type=RecomputeStatisticsHook))
custom_hooks.append(dict(type=SubCenterHook, interval=60))
default_hooks.update(checkpoint=dict(by_epoch=False, interval=60, max_keep_ckpts=1))
randomness = dict(seed=0)
purification = dict(threshold='auto', min_per_class=2)
