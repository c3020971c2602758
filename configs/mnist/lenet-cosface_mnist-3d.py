"""CosFace on MNIST digits as points in space.

    python tools/train.py configs/mnist/lenet-cosface_mnist-3d.py

A run takes about a minute on one CPU core. Seed 0 has, on 1000 held-out digits, accuracy 98.2 percent,
4.8 degrees within a class, 63.8 degrees between the nearest two.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.lenet_mnist import *

from mmarcface.engine import MarginScheduleHook
from mmarcface.models import CosFaceHead

model.image_encoder.update(embedding_dim=3)
model.update(
    head=dict(
        type=CosFaceHead,
        num_classes=10,
        in_channels=3,
        scale=10.0,
        margin=0.4,
        # Short centers would turn far in a step.
        init_cfg=dict(type='Normal', layer='CosFaceHead', std=1.0),
    )
)
# A full margin from the start would draw classes together.
custom_hooks.append(dict(type=MarginScheduleHook, epochs=10))
