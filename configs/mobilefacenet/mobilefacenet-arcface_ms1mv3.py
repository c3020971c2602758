"""ArcFace with MobileFaceNet on MS1MV3: 5.2 million faces of 93,431 people, records in data/ms1mv3.

    python tools/train.py configs/mobilefacenet/mobilefacenet-arcface_ms1mv3.py --amp

The schedule is arcface_torch's for 8 GPUs (tools/dist_train.sh CONFIG 8). It was not measured here, as it needs the data and
the GPUs. arcface_torch publishes 94.23 on IJB-C at FAR=1e-4 for it. LFW, CFP-FP and AgeDB-30 are tested after every epoch.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.faces_112 import *
    from .._base_.default_runtime import *
    from .._base_.schedules.sgd_20e_faces import *

from mmarcface.models import ArcFaceHead, EmbeddingRetriever, MobileFaceNet

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=MobileFaceNet, embedding_dim=512, input_size=112),
    head=dict(type=ArcFaceHead, num_classes=93431, in_channels=512),
    test_cfg=dict(flip=True),
)

optim_wrapper.optimizer.update(weight_decay=1e-4)
param_scheduler[0].update(end=40)
train_cfg.update(max_epochs=40)
