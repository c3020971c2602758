"""ORL people s21..s40 for models of 112 x 112 pixels: the middle 92 rows of a photograph, a square, enlarged."""

from mmcv.transforms import CenterCrop, Resize
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs

from mmarcface.datasets import LoadImageFromFile
from mmarcface.evaluation import RetrievalMetric, VerificationMetric

# Rows 10..102 of 112, and all 92 columns.
test_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=CenterCrop, crop_size=92),
    dict(type=Resize, scale=(112, 112)),
    dict(type=PackInputs),
]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    dataset=dict(type='mmarcface.ORLFaces', people=list(range(21, 41)), pipeline=test_pipeline),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_evaluator = [
    dict(type=RetrievalMetric, recall_at=(1,), map_at=(10,)),
    dict(type=VerificationMetric, far=(1e-3, 1e-2)),
]
test_cfg = dict()
