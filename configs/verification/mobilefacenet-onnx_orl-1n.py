"""A released MobileFaceNet: who is it? ORL people s21..s40, of whom fifteen are enrolled, and five are strangers.

    python tools/test.py configs/verification/mobilefacenet-onnx_orl-1n.py

README.md beside this file says how to get the model. The test takes 10 seconds on 2 CPU cores. In percent, it gives
Rank-1 96.67, Rank-5 100.00, TPIR@FPIR=0.01 87.50, TPIR@FPIR=0.1 91.67.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.orl_112 import test_pipeline
    from .._base_.datasets.orl_1n import *
    from .._base_.default_runtime import *
    from .._base_.models.mobilefacenet_onnx import *

test_pipeline[-1].update(meta_keys=('sample_idx', 'img_path', 'role'))
test_dataloader.dataset.update(pipeline=test_pipeline)
