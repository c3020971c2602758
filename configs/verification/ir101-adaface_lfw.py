"""AdaFace's IR-101 on the 6,000 pairs of LFW; its images are BGR.

    python tools/convert.py weights adaface_ir101_webface12m.ckpt adaface.pth
    python tools/test.py configs/verification/ir101-adaface_lfw.py adaface.pth

Conversion also writes adaface.py, a config like this one with the head, whose classes tools/invert.py draws. lfw.bin is in
data/faces. It was not measured here, as it takes the weights and the data.
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
# Images are loaded as BGR, and stay so.
data_preprocessor.update(to_rgb=False)
