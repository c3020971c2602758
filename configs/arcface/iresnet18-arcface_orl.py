"""ArcFace on the ORL faces: 20 people to learn from, 20 others to be told apart.

    python tools/train.py configs/arcface/iresnet18-arcface_orl.py
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.orl_faces import *
    from .._base_.default_runtime import *

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import SGD

from mmarcface.engine import ResultsTableHook
from mmarcface.models import ArcFaceHead, EmbeddingRetriever, IResNet, Pixels

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(
        type=IResNet, depth=18, embedding_dim=128, input_size=(56, 48), base_channels=32
    ),
    head=dict(type=ArcFaceHead, num_classes=20, in_channels=128, scale=16.0, margin=0.2),
    test_cfg=dict(flip=True),
)

optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
max_epochs = 40
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, begin=0, end=2, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, T_max=38, begin=2, end=40, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(enable=False, base_batch_size=32)
randomness = dict(seed=0)

default_hooks.update(checkpoint=dict(interval=20, max_keep_ckpts=1))
custom_hooks.append(
    dict(
        type=ResultsTableHook,
        title='People s21..s40, never seen in training',
        figures=[
            'retrieval/Recall@1',
            'retrieval/MAP@R',
            'verification/AUC',
            'verification/EER',
            'verification/TAR@FAR=0.01',
        ],
        baseline=dict(type=Pixels),
    )
)
