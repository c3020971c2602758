"""Who is it? ORL people s21..s40, of whom fifteen are enrolled with two photographs each, and five are strangers.

    python tools/test.py configs/verification/iresnet18_orl-1n.py CHECKPOINT

The checkpoint is one of configs/arcface/iresnet18-arcface_orl.py, and the test takes seconds on 2 CPU cores.
The median of three seeds, in percent, is Rank-1 96.67, Rank-5 100.00, TPIR@FPIR=0.01 79.17, TPIR@FPIR=0.1 93.33.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.orl_1n import *
    from .._base_.default_runtime import *
    from .._base_.models.iresnet18_56x48 import *

from mmcv.transforms import Resize
from mmpretrain.datasets import PackInputs

from mmarcface.datasets import LoadImageFromFile

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
test_dataloader.dataset.update(
    pipeline=[
        dict(type=LoadImageFromFile),
        dict(type=Resize, scale=(48, 56), interpolation='area'),
        dict(type=PackInputs, meta_keys=('sample_idx', 'img_path', 'role')),
    ]
)
