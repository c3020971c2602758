"""A released MobileFaceNet, an ONNX file of an npm package, tells ORL people s21..s40 apart.

    python tools/test.py configs/verification/mobilefacenet-onnx_orl.py

README.md beside this file says how to get the model. The test takes 10 seconds on 2 CPU cores. In percent, it gives
Recall@1 99.50, MAP@R 91.22, AUC 99.27, TAR@FAR=0.01 91.33.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.orl_112 import *
    from .._base_.default_runtime import *
    from .._base_.models.mobilefacenet_onnx import *
