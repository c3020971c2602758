"""What is exported: a module from images to embeddings, and what other files of it must equal."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from mmarcface.manifest import preprocessing_of
from mmarcface.models import EmbeddingRetriever
from mmarcface.models.embedding import pool_maps


class EmbeddingGraph(nn.Module):
    """A model as testing runs it, from images to embeddings, without head and gallery.

    Args:
        model: the model; its flip test is part of it.
        preprocessing: place of channel order, mean and std: 'outside', so that it takes what the
            model's data preprocessor gives, or 'inside', so that it takes RGB pixels in [0, 255].
        normalize: give vectors of unit length.

    Raises:
        TypeError: if the model is no EmbeddingRetriever.
        ValueError: if the model has no weights in torch, or takes gray images and is to take RGB.
    """

    def __init__(self, model: nn.Module, preprocessing: str = 'outside', normalize: bool = False):
        super().__init__()
        if not isinstance(model, EmbeddingRetriever):
            raise TypeError(
                f'only an EmbeddingRetriever can be exported, got {type(model).__name__}: make its '
                'backbone, with its pooling neck, the image_encoder of one'
            )
        for module in model.image_encoder.modules():
            if hasattr(module, 'file_sha256'):
                raise ValueError(f'{module.path} is a file for another runtime already: copy it')
        if next(model.image_encoder.parameters(), None) is None:
            raise ValueError(
                f'{type(model.image_encoder).__name__} has no weights, and nothing to export'
            )
        order, mean, std = preprocessing_of(model)
        if preprocessing == 'inside' and order == 'gray':
            raise ValueError(
                "preprocessing='inside' is for color images, and this model takes gray ones: "
                'export it with the preprocessing outside'
            )
        self.encoder = copy.deepcopy(model.image_encoder).cpu().float().eval().requires_grad_(False)
        self.flip = model.flip
        self.inside = preprocessing == 'inside'
        self.reverse = order == 'BGR'
        self.normalize = normalize
        self.register_buffer('mean', torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer('scale', 1 / torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images, (N, C, H, W), as (N, D)."""
        if self.inside:
            images = images.flip(1) if self.reverse else images
            images = (images - self.mean) * self.scale
        if self.flip:
            images = torch.cat([images, images.flip(-1)])
        feats = self.encoder(images)
        embeddings = pool_maps(feats[-1] if isinstance(feats, (tuple, list)) else feats)
        if self.flip:
            embeddings = embeddings.unflatten(0, (2, -1)).sum(0)
        return F.normalize(embeddings) if self.normalize else embeddings

    def inputs_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the exported file gets of images.

        Args:
            pixels: images as test pipelines give them, (N, C, H, W), uint8, BGR.
        """
        images = pixels.float()
        if self.inside:
            return images.flip(1)
        images = images if self.reverse or images.shape[1] == 1 else images.flip(1)
        return (images - self.mean) * self.scale
