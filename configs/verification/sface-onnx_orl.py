"""SFace, the face recognition model of OpenCV's model zoo, an ONNX file, tells ORL people s21..s40 apart.

    python tools/test.py configs/verification/sface-onnx_orl.py

README.md beside this file says how to get the model. It normalizes inside the graph, so it takes RGB pixels in [0, 255]. The
test takes 20 seconds on 2 CPU cores. In percent, it gives Recall@1 100.00, MAP@R 92.99, AUC 99.62, TAR@FAR=0.01 93.89.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.orl_112 import *
    from .._base_.default_runtime import *

from mmarcface.models import EmbeddingRetriever, OnnxBackbone

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=OnnxBackbone, path='data/models/face_recognition_sface_2021dec.onnx'),
    data_preprocessor=dict(mean=[0] * 3, std=[1] * 3, to_rgb=True),
    test_cfg=dict(flip=True),
)
