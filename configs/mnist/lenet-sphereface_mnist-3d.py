"""SphereFace on MNIST digits as points in space.

    python tools/train.py configs/mnist/lenet-sphereface_mnist-3d.py

A run takes about a minute on one CPU core. Seed 0 has, on 1000 held-out digits, accuracy 98.5 percent,
7.5 degrees within a class, 60.0 degrees between the nearest two.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.lenet_mnist import *

from mmarcface.models import SphereFaceHead

model.image_encoder.update(embedding_dim=3)
model.update(
    head=dict(
        type=SphereFaceHead,
        num_classes=10,
        in_channels=3,
        scale=None,
        margin=4.0,
        # Short centers would turn far in a step.
        init_cfg=dict(type='Normal', layer='SphereFaceHead', std=1.0),
    )
)
