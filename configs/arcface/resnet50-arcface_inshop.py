"""ArcFace on In-Shop clothes with a ResNet-50 at 448 pixels: mmpretrain's recipe.

    python tools/train.py configs/arcface/resnet50-arcface_inshop.py
    bash tools/dist_train.sh configs/arcface/resnet50-arcface_inshop.py 8

The learning rate is for 8 GPUs x 32 images and is scaled to the batch in use. Published for
these settings by mmpretrain, not measured here: Recall@1 90.18, mAP@10 69.30. 31,693,888 parameters.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.inshop_448 import *
    from .._base_.default_runtime import *

from mmengine.optim import CosineAnnealingLR, LinearLR
from mmpretrain.models import GlobalAveragePooling, ResNet
from torch.optim import SGD

from mmarcface.models import ArcFaceHead, EmbeddingRetriever

pretrained = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_3rdparty-mill_in21k_20220331-faac000b.pth'
model = dict(
    type=EmbeddingRetriever,
    image_encoder=[
        dict(
            type=ResNet,
            depth=50,
            init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone'),
        ),
        dict(type=GlobalAveragePooling),
    ],
    head=dict(type=ArcFaceHead, num_classes=3997, in_channels=2048),
)

optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, begin=0, end=5, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, T_max=45, begin=5, end=50),
]
train_cfg = dict(by_epoch=True, max_epochs=50, val_interval=1)
auto_scale_lr = dict(enable=True, base_batch_size=256)

default_hooks.update(
    checkpoint=dict(interval=1, max_keep_ckpts=3, save_best='retrieval/Recall@1', rule='greater')
)
