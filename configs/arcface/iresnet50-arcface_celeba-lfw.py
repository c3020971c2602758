"""ArcFace on CelebA, 202,599 faces of 10,177 people, tested on the pairs of LFW after every epoch.

    python tools/train.py configs/arcface/iresnet50-arcface_celeba-lfw.py

Put the lists, landmarks and img_align_celeba in data/celeba, and lfw.bin in data/faces. The checkpoint of the best accuracy is
kept as best_*.pth, and training stops after five epochs without a better one. The schedule is for 4 GPUs, with batches of
512 in all, or for one with --cfg-options train_dataloader.batch_size=512. It was not measured here, as it needs the data
and the GPUs.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.celeba_112 import *
    from .._base_.default_runtime import *
    from .._base_.models.iresnet50_112 import *
    from .._base_.schedules.sgd_32e_faces import *

from mmengine.hooks import EarlyStoppingHook

from mmarcface.models import ArcFaceHead

model.update(head=dict(type=ArcFaceHead, num_classes=10177, in_channels=512))
default_hooks.update(checkpoint=dict(save_best='verification/Accuracy', rule='greater'))
custom_hooks.append(
    dict(type=EarlyStoppingHook, monitor='verification/Accuracy', rule='greater', min_delta=0.0, patience=5)
)
