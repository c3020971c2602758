"""Softmax on the ORL faces in a short run: 20 people to learn from, 20 others to be told apart.

    python tools/train.py configs/softmax/iresnet18-softmax_orl-40e.py

A run takes a good minute on 2 CPU cores. The median of three seeds, in percent, is
Recall@1 99.50, AUC 95.52, TAR@FAR=0.01 73.00.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.orl_40e import *

from mmarcface.models import SoftmaxHead

model.update(head=dict(type=SoftmaxHead, num_classes=80, in_channels=128))
