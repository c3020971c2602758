"""insightface's ViT (vit_t) on the 6,000 pairs of LFW.

    python tools/convert.py weights backbone.pth vit.pth
    python tools/test.py configs/verification/face-vit-t_lfw.py vit.pth

backbone.pth is one of arcface_torch's vit_t; for vit_s, vit_b and vit_l conversion writes the config. lfw.bin is in
data/faces. It was not measured here, as it takes the weights and the data.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.lfw_112 import *
    from .._base_.default_runtime import *

from mmarcface.models import EmbeddingRetriever, FaceViT

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=FaceViT, arch='t', embedding_dim=512, input_size=112),
    test_cfg=dict(flip=True),
)
