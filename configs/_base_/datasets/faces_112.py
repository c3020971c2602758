"""Aligned faces of 112 x 112 pixels as insightface hands them out, here MS1MV3.

``train.rec`` and ``train.idx`` to train on; ``lfw.bin``, ``cfp_fp.bin`` and ``agedb_30.bin``, in the same
archive, to test on.
"""

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

# Data sets are named, not imported: mmpretrain.get_model looks them up by their names.
train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    drop_last=True,
    dataset=dict(
        type='mmarcface.IdentityRecords', path='data/ms1mv3/train.rec', pipeline=train_pipeline
    ),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(
        type='mmarcface.VerificationSets',
        sets=dict(
            lfw=dict(type='mmarcface.VerificationBin', path='data/ms1mv3/lfw.bin'),
            cfp_fp=dict(type='mmarcface.VerificationBin', path='data/ms1mv3/cfp_fp.bin'),
            agedb_30=dict(type='mmarcface.VerificationBin', path='data/ms1mv3/agedb_30.bin'),
        ),
        pipeline=test_pipeline,
    ),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=VerificationMetric)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
