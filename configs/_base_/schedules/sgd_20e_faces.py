"""SGD over 20 epochs for millions of faces, as arcface_torch trains: 8 times 128 images a step."""

from mmengine.optim import PolyLR
from torch.optim import SGD

optim_wrapper = dict(optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type=PolyLR, power=2, end=20, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=1024)
