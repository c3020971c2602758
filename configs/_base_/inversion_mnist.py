"""ArcFace on MNIST digits, to be inverted: a net of IResNet-18, and how digits are searched for."""

from mmengine.config import read_base

with read_base():
    from .datasets.mnist import *
    from .default_runtime import *
    from .schedules.sgd_6e import *

from mmarcface.engine import RecomputeStatisticsHook
from mmarcface.models import ArcFaceHead, EmbeddingRetriever, IResNet

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=IResNet, depth=18, embedding_dim=128, input_size=28, base_channels=32),
    head=dict(type=ArcFaceHead, num_classes=10, in_channels=128, scale=16.0, margin=0.3),
    test_cfg=dict(classify=True),
)
# Digits are gray, and may stand a pixel further to the left.
inversion = dict(
    targets='classes',
    per_target=10,
    preset='small',
    jitter=1,
    gray=True,
    judge=dict(config='judge_mnist.py'),
)
custom_hooks.insert(0, dict(type=RecomputeStatisticsHook, mirrored=False))
default_hooks.update(checkpoint=dict(interval=6, max_keep_ckpts=1))
randomness = dict(seed=0)
