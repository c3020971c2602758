"""ArcFace with MobileFaceNet on the ORL faces: 20 people to learn from, 20 others to be told apart.

    python tools/train.py configs/mobilefacenet/mobilefacenet-arcface_orl-40e.py

A run takes less than two minutes on one CPU core. The median of three seeds, in percent, is
Recall@1 99.50, AUC 96.94, TAR@FAR=0.01 67.33.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.orl_40e import *

from mmarcface.models import ArcFaceHead, EmbeddingRetriever, MobileFaceNet

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=MobileFaceNet, embedding_dim=128, input_size=(56, 48), scale=1),
    head=dict(type=ArcFaceHead, num_classes=80, in_channels=128, scale=16.0, margin=0.2),
    test_cfg=dict(flip=True),
)
