"""LeNet++ with points on a plane as embeddings, and class scores from the head; add a head."""

from mmarcface.models import EmbeddingRetriever, LeNetPlus

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=LeNetPlus, embedding_dim=2, base_channels=8),
    test_cfg=dict(classify=True),
)
