"""SGD over 1200 iterations, whatever the size of the training set: 200 of warm-up, then a cosine."""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import SGD

optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, by_epoch=False, begin=0, end=200),
    dict(type=CosineAnnealingLR, T_max=1000, by_epoch=False, begin=200, end=1200),
]
train_cfg = dict(by_epoch=False, max_iters=1200, val_interval=1200)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=100)
