"""Sub-center ArcFace with adaptive margins on In-Shop: noisy items, and items with few images.

    python tools/train.py configs/subcenter/resnet50-subcenter-arcface_inshop.py

Margins lie between 0.05 for the items with most images and 0.5 for those with fewest, and rise over
the first two epochs. Everything else is as in configs/arcface/resnet50-arcface_inshop.py.
It was not measured here, as it needs the data and GPUs.
"""
from mmengine.config import read_base

with read_base():
    from .._base_.resnet50_inshop import *

from mmarcface.engine import AdaptiveMarginsHook, MarginScheduleHook
from mmarcface.models import SubCenterArcFaceHead

model.update(head=dict(type=SubCenterArcFaceHead, num_classes=3997, in_channels=2048))
custom_hooks.extend([dict(type=AdaptiveMarginsHook), dict(type=MarginScheduleHook, epochs=2)])
