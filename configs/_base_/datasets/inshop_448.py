"""In-Shop at 448 pixels, as mmpretrain trains it; query and gallery in one evaluation."""

from mmcv.transforms import CenterCrop, RandomFlip, Resize
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs, RandomCrop

from mmarcface.datasets import LoadImageFromFile
from mmarcface.evaluation import RetrievalMetric

data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=Resize, scale=512),
    dict(type=RandomCrop, crop_size=448),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PackInputs),
]
test_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=Resize, scale=512),
    dict(type=CenterCrop, crop_size=448),
    dict(type=PackInputs, meta_keys=('sample_idx', 'img_path', 'role')),
]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    dataset=dict(
        type='mmarcface.InShop', data_root='data/inshop', split='train', pipeline=train_pipeline
    ),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    dataset=dict(
        type='mmarcface.InShop', data_root='data/inshop', split='test', pipeline=test_pipeline
    ),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=RetrievalMetric, recall_at=(1, 10, 20, 30, 40, 50), map_at=(10,))
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
