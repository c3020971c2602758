"""SGD over 20 epochs for very small data: batches of 64, two epochs of warm-up, then a cosine."""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import SGD

optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, begin=0, end=2, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, T_max=18, begin=2, end=20, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=20)
auto_scale_lr = dict(enable=False, base_batch_size=64)
