"""In-Shop with a ResNet-50 at 448 pixels as mmpretrain trains it, all but the head."""

from mmengine.config import read_base

with read_base():
    from .datasets.inshop_448 import *
    from .default_runtime import *

from mmengine.optim import CosineAnnealingLR, LinearLR
from mmpretrain.models import GlobalAveragePooling, ResNet
from torch.optim import SGD

from mmarcface.models import EmbeddingRetriever

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
