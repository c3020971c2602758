"""SGD over 32 epochs in batches of 512, as the ArcFace paper trains on CASIA."""

from mmengine.optim import MultiStepLR
from torch.optim import SGD

optim_wrapper = dict(optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type=MultiStepLR, milestones=[20, 28], gamma=0.1)]
train_cfg = dict(by_epoch=True, max_epochs=32, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=512)
