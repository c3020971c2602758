"""ArcFace on the ORL faces: 20 people to learn from, 20 others to be told apart.

    python tools/train.py configs/arcface/iresnet18-arcface_orl.py

About three minutes on 2 CPU cores. Median of three seeds, in percent: Recall@1 100.00, AUC 96.18,
TAR@FAR=0.01 79.44; the pixels themselves give 97.50, 91.18 and 49.22.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.orl_120e import *

from mmarcface.models import ArcFaceHead

model.update(head=dict(type=ArcFaceHead, num_classes=80, in_channels=128, scale=16.0, margin=0.2))
custom_hooks.append(results_table)
