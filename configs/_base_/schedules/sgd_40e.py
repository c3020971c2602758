"""SGD over 40 epochs for small data: batches of 64, two epochs of warm-up, then a cosine."""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import SGD

optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, begin=0, end=2, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, T_max=38, begin=2, end=40, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=40)
auto_scale_lr = dict(enable=False, base_batch_size=64)
