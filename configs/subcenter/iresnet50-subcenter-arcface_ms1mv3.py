"""Sub-center ArcFace on MS1MV3: 5.2 million faces of 93,431 people, records in data/ms1mv3.

    python tools/train.py configs/subcenter/iresnet50-subcenter-arcface_ms1mv3.py

The schedule is for 8 GPUs (tools/dist_train.sh CONFIG 8). It was not measured here, as it needs the data and the GPUs.
LFW, CFP-FP and AgeDB-30 are tested after every epoch.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.ms1mv3_20e import *

from mmarcface.models import SubCenterArcFaceHead

model.update(head=dict(type=SubCenterArcFaceHead, num_classes=93431, in_channels=512))
