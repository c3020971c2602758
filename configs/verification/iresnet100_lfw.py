"""insightface's IResNet-100 on the 6,000 pairs of LFW.

    python tools/convert.py weights backbone.pth r100.pth
    python tools/test.py configs/verification/iresnet100_lfw.py r100.pth

backbone.pth is one of arcface_torch's models; conversion also writes r100.py, a config like this one for the net that it
found. lfw.bin is in data/faces. It was not measured here, as it takes the weights and the data.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.lfw_112 import *
    from .._base_.default_runtime import *

from mmarcface.models import EmbeddingRetriever, IResNet

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=IResNet, depth=100, embedding_dim=512, input_size=112),
    test_cfg=dict(flip=True),
)
