"""CurricularFace on the ORL faces in a short run: 20 people to learn from, 20 others to be told apart.

    python tools/train.py configs/curricularface/iresnet18-curricularface_orl-40e.py

A run takes a good minute on 2 CPU cores. The median of three seeds, in percent, is
Recall@1 100.00, AUC 96.37, TAR@FAR=0.01 67.44.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.orl_40e import *

from mmarcface.models import CurricularFaceHead

model.update(
    head=dict(type=CurricularFaceHead, num_classes=80, in_channels=128, scale=16.0, margin=0.2, momentum=0.1)
)
