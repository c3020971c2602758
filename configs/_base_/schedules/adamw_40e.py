"""AdamW over 40 epochs for vision transformers and small data: four epochs of warm-up, then a cosine."""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import AdamW

optim_wrapper = dict(
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.1),
    # Decay is for the matrices alone.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(pos_embed=dict(decay_mult=0.0), mask_token=dict(decay_mult=0.0)),
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, begin=0, end=4, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, T_max=36, begin=4, end=40, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=40)
auto_scale_lr = dict(enable=False, base_batch_size=64)
