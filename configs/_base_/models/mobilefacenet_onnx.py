"""The MobileFaceNet of the npm package faceplugin-face-recognition-js, an ONNX file, flip test included.

The package, under the MIT License, feeds it RGB and (x - 127) / 128 in lib/fr_feature.js. It takes one image of 112 x 112
pixels, and gives 512 numbers.
"""

from mmarcface.models import EmbeddingRetriever, OnnxBackbone

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=OnnxBackbone, path='data/models/fr_feature.onnx'),
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3, to_rgb=True),
    test_cfg=dict(flip=True),
)
