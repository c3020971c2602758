"""The 6,000 pairs of LFW, aligned faces of 112 x 112 pixels, as insightface hands them out: lfw.bin in data/faces."""

from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs

from mmarcface.datasets import LoadImageFromFile
from mmarcface.evaluation import VerificationMetric

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
test_pipeline = [dict(type=LoadImageFromFile), dict(type=PackInputs)]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(type='mmarcface.VerificationBin', path='data/faces/lfw.bin', pipeline=test_pipeline),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_evaluator = dict(type=VerificationMetric)
test_cfg = dict()
