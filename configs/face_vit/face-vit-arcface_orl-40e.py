"""ArcFace with a small FaceViT on the ORL faces: 20 people to learn from, 20 others to be told apart.

    python tools/train.py configs/face_vit/face-vit-arcface_orl-40e.py

A run takes a minute on one CPU core. The median of three seeds, in percent, is
Recall@1 99.50, AUC 94.76, TAR@FAR=0.01 60.78.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.orl_40e import *
    from .._base_.schedules.adamw_40e import *

from mmarcface.models import ArcFaceHead, EmbeddingRetriever, FaceViT

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(
        type=FaceViT,
        arch=dict(embed_dims=128, num_layers=6, num_heads=4),
        embedding_dim=128,
        input_size=(56, 48),
        patch_size=8,
    ),
    head=dict(type=ArcFaceHead, num_classes=80, in_channels=128, scale=16.0, margin=0.2),
    test_cfg=dict(flip=True),
)
