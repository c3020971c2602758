"""ArcFace on In-Shop clothes with a ResNet-50 at 448 pixels: mmpretrain's recipe.

    python tools/train.py configs/arcface/resnet50-arcface_inshop.py
    bash tools/dist_train.sh configs/arcface/resnet50-arcface_inshop.py 8

The learning rate is for 8 GPUs x 32 images, and is scaled to the batch in use. mmpretrain publishes for these settings
Recall@1 90.18, mAP@10 69.30; it was not measured here. The model has 31,693,888 parameters.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.resnet50_inshop import *

from mmarcface.models import ArcFaceHead

model.update(head=dict(type=ArcFaceHead, num_classes=3997, in_channels=2048))
