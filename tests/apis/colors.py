"""Images of one color each, and a net that embeds them as it, so that all is known by hand."""

from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmarcface.datasets import IdentityFolder
from mmarcface.models import EmbeddingRetriever, SubCenterArcFaceHead

PIPELINE = [dict(type='mmarcface.LoadImageFromFile'), dict(type='mmpretrain.PackInputs')]
PREPROCESSOR = dict(mean=[128.0] * 3, std=[1.0] * 3, to_rgb=True)


class Means(nn.Module):
    """Of red, green and blue; counts the images."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        assert not self.training
        assert not torch.is_grad_enabled()
        return (self.scale * x.mean((2, 3)),)


class Told(IdentityFolder):
    """With true labels, by the names of the samples."""

    def __init__(self, data_root, truth=None, turned=False, **kwargs):
        self.truth = truth
        self.turned = turned
        kwargs.setdefault('pipeline', PIPELINE)
        super().__init__(data_root, **kwargs)

    def load_data_list(self):
        samples = super().load_data_list()
        for sample in samples if self.truth else []:
            sample['true_label'] = self.truth[self.sample_id(sample)]
        return samples[::-1] if self.turned else samples


def write_colors(root: Path, colors: list[list[tuple]]) -> None:
    """An image of 4 x 4 pixels for each color (red, green, blue) of each class."""
    for label, own in enumerate(colors):
        (root / f'c{label}').mkdir(parents=True)
        for i, color in enumerate(own):
            image = np.full((4, 4, 3), color[::-1], np.uint8)
            cv2.imwrite(str(root / f'c{label}' / f'{i:03}.png'), image)


def random_colors(sizes, seed=0) -> list[list[tuple]]:
    rng = np.random.default_rng(seed)
    return [[tuple(map(int, row)) for row in rng.integers(0, 256, (n, 3))] for n in sizes]


def known_model(centers=None, head=None) -> EmbeddingRetriever:
    """Embeds an image as its color less gray; centers are (C, K, 3)."""
    if centers is not None:
        centers = torch.tensor(centers, dtype=torch.float)
        head = SubCenterArcFaceHead(len(centers), 3, centers.shape[1])
        with torch.no_grad():
            head.weight.copy_(centers.flatten(0, 1))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return EmbeddingRetriever(Means(), head=head, data_preprocessor=PREPROCESSOR)
