"""MagFace on CelebA by iterations, not epochs: 20,000 steps, tested on LFW's pairs every 1,000.

    python tools/train.py configs/magface/iresnet18-magface_celeba_20k-iter.py

Put the lists, landmarks and img_align_celeba in data/celeba, and lfw.bin in data/faces. The schedule is for one GPU.
It was not measured here, as it needs the data and the GPU.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.celeba_112 import *
    from .._base_.default_runtime import *
    from .._base_.models.iresnet50_112 import *

from mmengine.dataset import InfiniteSampler
from mmengine.optim import MultiStepLR
from torch.optim import SGD

from mmarcface.models import MagFaceHead

train_dataloader.update(batch_size=256, sampler=dict(type=InfiniteSampler, shuffle=True))
model.image_encoder.update(depth=18)
model.update(head=dict(type=MagFaceHead, num_classes=10177, in_channels=512))

optim_wrapper = dict(optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type=MultiStepLR, by_epoch=False, milestones=[10000, 15000, 18000], gamma=0.1)]
train_cfg = dict(by_epoch=False, max_iters=20000, val_interval=1000)
auto_scale_lr = dict(enable=False, base_batch_size=256)
log_processor = dict(by_epoch=False)
default_hooks.update(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=1000, save_best='verification/Accuracy', rule='greater'),
)
