"""The setting of the article: MS1MV0, about 10 million faces of 100,000 people, half of them wrong, in data/ms1mv0.

    python tools/purify.py run configs/subcenter/iresnet50-subcenter-arcface_ms1mv0.py --format parquet

The article publishes these TAR@FAR=1e-4 on IJB-C, in percent: K=1 90.27, K=3 93.72, purified 95.92. The schedule is for
8 GPUs (torchrun, --launcher pytorch). It was not measured here, as it needs the data and the GPUs. Set
model.head.num_classes to the number of people in your file, and purification.threshold to 75 for the threshold of the
article.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.ms1mv3_20e import *

from mmarcface.engine import SubCenterHook
from mmarcface.models import SubCenterArcFaceHead

train_dataloader.dataset.update(path='data/ms1mv0/train.rec')
model.update(head=dict(type=SubCenterArcFaceHead, num_classes=100000, in_channels=512))
custom_hooks.append(dict(type=SubCenterHook, interval=5000))
purification = dict(threshold='auto')
