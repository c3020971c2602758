"""ArcFace on drawn Han characters, no download: 200 to learn from, the same ones in unseen renderings to test on.

    python tools/train.py configs/arcface/iresnet18-arcface_glyphs.py

The fonts are Debian's: see HanGlyphs. A run takes about three minutes on 2 CPU cores. The median of three seeds, in percent, is
Recall@1 99.35, MAP@R 98.39; the pixels themselves give 48.77 and 7.04. The characters are those of training, which makes
this easy: it checks that a head learns, and is a pattern for up to 18,366 classes. On 200 characters never seen in
training seed 0 gets 81.17 and 23.72.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.han_glyphs import *
    from .._base_.default_runtime import *
    from .._base_.schedules.sgd_40e import *

from mmarcface.models import ArcFaceHead, EmbeddingRetriever, IResNet

train_dataloader.dataset.update(renderings=50)
model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type=IResNet, depth=18, embedding_dim=128, input_size=32, base_channels=16),
    head=dict(type=ArcFaceHead, num_classes=200, in_channels=128, scale=32.0, margin=0.3),
)

train_cfg.update(max_epochs=10, val_interval=10)
param_scheduler[1].update(T_max=8, end=10)
auto_scale_lr.update(base_batch_size=100)
default_hooks.update(checkpoint=dict(interval=10, max_keep_ckpts=1))
randomness = dict(seed=0)
