"""A trained IResNet-50 on IJB-C: pairs of templates (1:1) and templates among a gallery (1:N).

    python tools/test.py configs/verification/iresnet50_ijbc.py CHECKPOINT

data/IJBC has 469,375 faces, as insightface hands it out, in loose_crop/ and meta/. It was not measured here, as it needs
the data and a GPU. For IJB-B add --cfg-options test_dataloader.dataset.data_root=data/IJBB
test_dataloader.dataset.benchmark=ijbb. To test insightface's backbone.pth, make it a checkpoint with
python tools/convert.py weights backbone.pth CHECKPOINT.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.default_runtime import *
    from .._base_.models.iresnet50_112 import *

from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs

from mmarcface.datasets import AlignFace, LoadImageFromFile
from mmarcface.evaluation import TemplateVerificationMetric

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
test_pipeline = [dict(type=LoadImageFromFile), dict(type=AlignFace, size=112), dict(type=PackInputs)]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(type='mmarcface.IJB', data_root='data/IJBC', benchmark='ijbc', pipeline=test_pipeline),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
# Embeddings weigh by their length and by the score of their detection, as in insightface's script.
test_evaluator = dict(type=TemplateVerificationMetric, weighting=('quality', 'detection'))
test_cfg = dict()
