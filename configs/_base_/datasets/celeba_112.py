"""CelebA, aligned by its landmarks to 112 x 112 pixels, to train on; LFW's pairs to test on.

data/celeba as the homepage of CelebA gives it; data/faces/lfw.bin, aligned in the same way, is in every
archive of faces that insightface hands out.
"""

from mmengine.config import read_base

with read_base():
    from .faces_112 import *

from mmarcface.datasets import AlignFace

train_pipeline.insert(1, dict(type=AlignFace, size=112))
train_dataloader.dataset = dict(
    type='mmarcface.CelebA',
    data_root='data/celeba',
    landmarks='list_landmarks_align_celeba.txt',
    pipeline=train_pipeline,
)
val_dataloader.dataset = dict(
    type='mmarcface.VerificationBin', path='data/faces/lfw.bin', pipeline=test_pipeline
)
test_dataloader = val_dataloader
