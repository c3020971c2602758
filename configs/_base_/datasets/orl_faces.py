"""ORL faces at 56 x 48 pixels: people s1..s20 for training, the unseen s21..s40 for testing."""

from mmcv.transforms import RandomFlip, Resize
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import ColorJitter, NumpyToPIL, PackInputs, PILToNumpy

from mmarcface.datasets import LoadImageFromFile
from mmarcface.engine import ResultsTableHook
from mmarcface.evaluation import RetrievalMetric, VerificationMetric
from mmarcface.models import RawPixels

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=RandomFlip, prob=0.5),
    dict(type=NumpyToPIL),
    # Mirrored edges, so that a moved face seldom brings a black border along.
    dict(type='torchvision/Pad', padding=24, padding_mode='reflect'),
    dict(type='torchvision/RandomAffine', degrees=20, translate=(0.1, 0.1), scale=(0.8, 1.2)),
    dict(type='torchvision/CenterCrop', size=(112, 92)),
    dict(type=PILToNumpy),
    dict(type=ColorJitter, brightness=0.3, contrast=0.3),
    dict(type=Resize, scale=(48, 56), interpolation='area'),
    dict(type=PackInputs),
]
test_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=Resize, scale=(48, 56), interpolation='area'),
    dict(type=PackInputs),
]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    dataset=dict(type='mmarcface.ORLFaces', people=list(range(1, 21)), pipeline=train_pipeline),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    dataset=dict(type='mmarcface.ORLFaces', people=list(range(21, 41)), pipeline=test_pipeline),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type=RetrievalMetric, recall_at=(1,), map_at=(10,)),
    dict(type=VerificationMetric, far=(1e-3, 1e-2)),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
results_table = dict(
    type=ResultsTableHook,
    title='People s21..s40, never seen in training',
    figures=[
        'retrieval/Recall@1',
        'retrieval/MAP@R',
        'verification/AUC',
        'verification/EER',
        'verification/TAR@FAR=0.01',
    ],
    baseline=dict(type=RawPixels),
)
