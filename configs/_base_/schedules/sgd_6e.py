"""SGD over 6 epochs for data that is learned in minutes: batches of 64, one epoch of warm-up."""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import SGD

optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, begin=0, end=1, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, T_max=5, begin=1, end=6, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=6, val_interval=6)
auto_scale_lr = dict(enable=False, base_batch_size=64)
