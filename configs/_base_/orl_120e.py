"""The run on the ORL faces that tells people apart best: all but the head, which has 80 classes."""

from mmengine.config import read_base

with read_base():
    from .datasets.orl_faces import *
    from .default_runtime import *
    from .models.iresnet18_56x48 import *
    from .schedules.sgd_120e import *

from mmarcface.datasets import VirtualIdentities
from mmarcface.engine import RecomputeStatisticsHook

# 20 people are few to learn from. Upside down, as negatives, and as both, they count as 60 more.
train_dataloader.dataset.pipeline.insert(-2, dict(type=VirtualIdentities, num_identities=20))
custom_hooks.insert(0, dict(type=RecomputeStatisticsHook))
default_hooks.update(checkpoint=dict(interval=120, max_keep_ckpts=1))
randomness = dict(seed=0)
