"""Aligned faces of 112 x 112 pixels in one folder a person: MS1MV3 to train on, LFW to test on."""

from mmcv.transforms import RandomFlip
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs

from mmarcface.datasets import LoadImageFromFile
from mmarcface.evaluation import VerificationMetric

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PackInputs),
]
test_pipeline = [dict(type=LoadImageFromFile), dict(type=PackInputs)]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    drop_last=True,
    dataset=dict(
        type='mmarcface.IdentityFolder', data_root='data/ms1mv3', pipeline=train_pipeline
    ),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(type='mmarcface.IdentityFolder', data_root='data/lfw', pipeline=test_pipeline),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=VerificationMetric)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
