"""ArcFace on your own faces: a folder of images for each person.

    python tools/train.py configs/arcface/iresnet18-arcface_folder.py \
        --cfg-options model.head.num_classes=20

The net learns from data/faces/train/PERSON/*.jpg for 120 epochs, and is tested on data/faces/test/PERSON/*.jpg, other people
with at least two images each. For hundreds of people or more raise model.head.scale to 64 and model.head.margin to 0.5; for
tens see VirtualIdentities in iresnet18-arcface_orl.py. With the ORL people s1..s20 and s21..s40 as folders it has, in
percent, Recall@1 99.50, AUC 95.89, TAR@FAR=0.01 63.00.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.orl_faces import *
    from .._base_.default_runtime import *
    from .._base_.models.iresnet18_56x48 import *
    from .._base_.schedules.sgd_120e import *

from mmcv.transforms import Resize

from mmarcface.models import ArcFaceHead

train_pipeline.insert(1, dict(type=Resize, scale=(92, 112)))
train_dataloader.dataset = dict(
    type='mmarcface.IdentityFolder', data_root='data/faces/train', pipeline=train_pipeline
)
val_dataloader.dataset = dict(
    type='mmarcface.IdentityFolder', data_root='data/faces/test', pipeline=test_pipeline
)
test_dataloader = val_dataloader

model.update(head=dict(type=ArcFaceHead, num_classes=20, in_channels=128, scale=16.0, margin=0.2))
custom_hooks.append(results_table)
results_table.update(title='People never seen in training')
default_hooks.update(checkpoint=dict(interval=120, max_keep_ckpts=1))
