"""ArcFace on CASIA-WebFace: half a million faces of 10,572 people, records in data/casia.

    python tools/train.py configs/arcface/iresnet50-arcface_casia.py

The schedule is for 4 GPUs (tools/dist_train.sh CONFIG 4), with batches of 512 in all, or for one with --cfg-options
train_dataloader.batch_size=512. It was not measured here, as it needs the data and the GPUs. LFW, CFP-FP and AgeDB-30 are
tested after every epoch; the ArcFace paper publishes 99.53, 95.56 and 95.15 for this schedule.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.faces_112 import *
    from .._base_.default_runtime import *
    from .._base_.models.iresnet50_112 import *
    from .._base_.schedules.sgd_32e_faces import *

from mmarcface.models import ArcFaceHead

train_dataloader.dataset.update(path='data/casia/train.rec')
val_dataloader.dataset.update(
    sets={
        name: dict(type='mmarcface.VerificationBin', path=f'data/casia/{name}.bin')
        for name in ('lfw', 'cfp_fp', 'agedb_30')
    }
)
test_dataloader = val_dataloader
model.update(head=dict(type=ArcFaceHead, num_classes=10572, in_channels=512))
default_hooks.update(checkpoint=dict(save_best='verification/Accuracy', rule='greater'))
