"""AdamW over 40 epochs for vision transformers and millions of faces, as arcface_torch trains: 8 times 512 images a step."""

from mmengine.optim import LinearLR, PolyLR
from torch.optim import AdamW

optim_wrapper = dict(
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.1), clip_grad=dict(max_norm=5.0)
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-3, begin=0, end=4, convert_to_iter_based=True),
    dict(type=PolyLR, power=2, begin=4, end=40, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=4096)
