"""ArcFace on MNIST digits, and digits back from its weights: ten of each.

    python tools/train.py configs/inversion/iresnet18-arcface_mnist.py
    python tools/invert.py configs/inversion/iresnet18-arcface_mnist.py CHECKPOINT --out DIR

All of it, training of net and judge included, takes five minutes on one CPU core. The net has
accuracy 98.3 percent on the 1000 held-out digits; the judge names 99 of the 100 images right (98 on another machine).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.inversion_mnist import *

from mmarcface.engine import BNPriorInversionHook

custom_hooks.append(dict(type=BNPriorInversionHook, **inversion))
