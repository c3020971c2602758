"""CelebA, aligned by its landmarks to 112 x 112 pixels, to train on; LFW's pairs to test on.

data/celeba as the homepage of CelebA gives it; data/faces/lfw.bin, aligned in the same way, is in every
archive of faces that insightface hands out.
"""

from mmcv.transforms import RandomFlip
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs

from mmarcface.datasets import AlignFace, LoadImageFromFile
from mmarcface.evaluation import VerificationMetric

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=AlignFace, size=112),
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
        type='mmarcface.CelebA',
        data_root='data/celeba',
        landmarks='list_landmarks_align_celeba.txt',
        pipeline=train_pipeline,
    ),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(
        type='mmarcface.VerificationBin', path='data/faces/lfw.bin', pipeline=test_pipeline
    ),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=VerificationMetric)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
