"""IResNet-50 for aligned faces of 112 x 112 pixels, 512-d, flip test included; add a head."""

from mmarcface.models import EmbeddingRetriever, IResNet

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=IResNet, depth=50, embedding_dim=512, input_size=(112, 112)),
    test_cfg=dict(flip=True),
)
