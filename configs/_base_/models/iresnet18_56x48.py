"""A slim IResNet-18 for faces of 56 x 48 pixels (height x width), flip test included; add a head."""

from mmarcface.models import EmbeddingRetriever, IResNet

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(
        type=IResNet, depth=18, embedding_dim=128, input_size=(56, 48), base_channels=32
    ),
    test_cfg=dict(flip=True),
)
