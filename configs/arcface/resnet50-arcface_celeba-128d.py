"""ArcFace with easy margin and 128-d embeddings of a ResNet-50 on CelebA, tested on LFW's images and pairs.txt.

    python tools/train.py configs/arcface/resnet50-arcface_celeba-128d.py

This is a public recipe for those without landmarks. It takes the middle of the images of CelebA and LFW, and m=1.2 as long
as the angle is below 90 degrees. Put CelebA in data/celeba, and lfw/ and pairs.txt in data/lfw. The schedule is for 4 GPUs, or
for one with --cfg-options train_dataloader.batch_size=512. It was not measured here, as it needs the data and the GPUs.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.celeba_112 import *
    from .._base_.default_runtime import *
    from .._base_.schedules.sgd_32e_faces import *

from mmcv.transforms import CenterCrop, Resize
from mmpretrain.models import GlobalAveragePooling, LinearNeck, ResNet

from mmarcface.models import ArcFaceHead, EmbeddingRetriever

# The face takes as much of the middle of a CelebA image as of that of an LFW image.
middle = [dict(type=CenterCrop, crop_size=144), dict(type=Resize, scale=(112, 112))]
train_dataloader.dataset.update(
    landmarks=None,
    pipeline=[dict(type=LoadImageFromFile), *middle, dict(type=RandomFlip, prob=0.5), dict(type=PackInputs)],
)
val_dataloader.dataset = dict(
    type='mmarcface.LFW', data_root='data/lfw', pipeline=[dict(type=LoadImageFromFile), *middle, dict(type=PackInputs)]
)
test_dataloader = val_dataloader
model = dict(
    type=EmbeddingRetriever,
    image_encoder=[
        dict(type=ResNet, depth=50, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
        dict(type=GlobalAveragePooling),
        dict(type=LinearNeck, in_channels=2048, out_channels=128, gap_dim=0, norm_cfg=dict(type='BN1d'), act_cfg=None),
    ],
    head=dict(type=ArcFaceHead, num_classes=10177, in_channels=128, margin=1.2, easy_margin=True),
    test_cfg=dict(flip=True),
)
default_hooks.update(checkpoint=dict(save_best='verification/Accuracy', rule='greater'))
