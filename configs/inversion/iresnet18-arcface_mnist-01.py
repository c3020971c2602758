"""ArcFace on MNIST digits, and zeros and ones back from its weights: eight of each.

    python tools/train.py configs/inversion/iresnet18-arcface_mnist-01.py

X
"""

from mmengine.config import read_base

with read_base():
    from .._base_.inversion_mnist import *

from mmarcface.engine import BNPriorInversionHook

inversion.update(targets=[0, 1], per_target=8)
custom_hooks.append(dict(type=BNPriorInversionHook, **inversion))
