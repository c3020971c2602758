"""CosFace with FaceViT-T on MS1MV3: 5.2 million faces of 93,431 people, records in data/ms1mv3.

    python tools/train.py configs/face_vit/face-vit-t-cosface_ms1mv3.py --amp --auto-scale-lr

The schedule is the one of arcface_torch for WebFace42M and 8 GPUs (tools/dist_train.sh CONFIG 8), without Partial FC.
It was not measured here, as it needs the data and the GPUs. With fewer GPUs or smaller batches --auto-scale-lr lowers the learning
rate, which decides whether a ViT converges. LFW, CFP-FP and AgeDB-30 are tested after every epoch.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.faces_112 import *
    from .._base_.default_runtime import *
    from .._base_.schedules.adamw_40e_faces import *

from mmarcface.models import CosFaceHead, EmbeddingRetriever, FaceViT

train_dataloader.update(batch_size=512)
model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=FaceViT, arch='t', embedding_dim=512, input_size=112),
    head=dict(type=CosFaceHead, num_classes=93431, in_channels=512, margin=0.4),
    test_cfg=dict(flip=True),
)
