"""CVLface's IR-101 on the 6,000 pairs of LFW.

    python tools/convert.py weights model.safetensors cvlface.safetensors
    python tools/test.py configs/verification/ir101-cvlface_lfw.py cvlface.safetensors

Where CVLface's yaml lies beside model.safetensors, conversion takes the order of the color channels from it, and writes
cvlface.py accordingly; else give --channel-order RGB. lfw.bin is in data/faces. It was not measured here, as it takes the
weights and the data.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.lfw_112 import *
    from .._base_.default_runtime import *

from mmarcface.models import EmbeddingRetriever, IRNet

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=IRNet, depth=101, embedding_dim=512, input_size=112),
    test_cfg=dict(flip=True),
)
