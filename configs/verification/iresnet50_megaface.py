"""A trained IResNet-50 on MegaFace: each face of FaceScrub hidden among a million distractors.

    python tools/test.py configs/verification/iresnet50_megaface.py CHECKPOINT

Aligned faces of 112 x 112 pixels are in data/megaface/facescrub, a folder for each person, and the distractors are in folders
in data/megaface/distractors. It was not measured here, as it needs the data and a GPU.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.default_runtime import *
    from .._base_.models.iresnet50_112 import *

from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs

from mmarcface.datasets import LoadImageFromFile
from mmarcface.evaluation import IdentificationMetric

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

# Data sets are named, not imported: mmpretrain.get_model looks them up by their names.
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(
        type='mmarcface.ProbesAndGallery',
        probes=dict(type='mmarcface.IdentityFolder', data_root='data/megaface/facescrub'),
        distractors=dict(type='mmarcface.IdentityFolder', data_root='data/megaface/distractors'),
        pipeline=[dict(type=LoadImageFromFile), dict(type=PackInputs, meta_keys=('sample_idx', 'img_path', 'role'))],
    ),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_evaluator = dict(type=IdentificationMetric, rank_at=(1, 10, 100), mates='probes')
test_cfg = dict()
