"""MNIST digits as points on a plane, to see what a loss does: all but the head, which has 10 classes."""

from mmengine.config import read_base

with read_base():
    from .datasets.mnist import *
    from .default_runtime import *
    from .models.lenet_plus import *
    from .schedules.sgd_20e import *

from mmarcface.engine import EmbeddingPlotHook

custom_hooks.append(dict(type=EmbeddingPlotHook))
default_hooks.update(checkpoint=dict(interval=1, max_keep_ckpts=1))
randomness = dict(seed=0)
