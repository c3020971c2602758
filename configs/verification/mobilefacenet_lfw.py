"""insightface's MobileFaceNet (mbf) on the 6,000 pairs of LFW.

    python tools/convert.py weights backbone.pth mbf.pth
    python tools/test.py configs/verification/mobilefacenet_lfw.py mbf.pth

backbone.pth is one of arcface_torch's mbf; mbf_large is MobileFaceNet(scale=4, blocks=(2, 8, 12, 4)), and conversion writes
the config of either. lfw.bin is in data/faces. It was not measured here, as it takes the weights and the data.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.lfw_112 import *
    from .._base_.default_runtime import *

from mmarcface.models import EmbeddingRetriever, MobileFaceNet

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=MobileFaceNet, embedding_dim=512, input_size=112, scale=2, blocks=(1, 4, 6, 2)),
    test_cfg=dict(flip=True),
)
