"""A released face model, an ONNX file, on the 6,000 pairs of LFW.

    python tools/test.py configs/verification/onnx_lfw.py

The file brings its weights, so there is no checkpoint. Put insightface's w600k_r50.onnx in data/models and the lfw.bin of
its data sets in data/faces. It was not measured here, as it needs the model and the data. For another model of
112 x 112 pixels add --cfg-options model.image_encoder.path=FILE, and if it normalizes inside the graph also
model.data_preprocessor.mean=[0,0,0] model.data_preprocessor.std=[1,1,1].
"""

from mmengine.config import read_base

with read_base():
    from .._base_.default_runtime import *

from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs

from mmarcface.datasets import LoadImageFromFile
from mmarcface.evaluation import VerificationMetric
from mmarcface.models import EmbeddingRetriever, OnnxBackbone

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=OnnxBackbone, path='data/models/w600k_r50.onnx'),
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
    test_cfg=dict(flip=True),
)

test_pipeline = [dict(type=LoadImageFromFile), dict(type=PackInputs)]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(
        type='mmarcface.VerificationBin', path='data/faces/lfw.bin', pipeline=test_pipeline
    ),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_evaluator = dict(type=VerificationMetric)
test_cfg = dict()
