"""The encoder that learns nothing: what any other has to beat."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule

from mmarcface.registry import MODELS


@MODELS.register_module()
class RawPixels(BaseModule):
    """The preprocessed pixels themselves as embedding, less their mean over the image.

    Without the mean the cosine of two images is the correlation of their pixels, blind to
    brightness and contrast.
    """

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """Flatten (N, C, H, W) into one tensor of shape (N, C * H * W)."""
        pixels = x.flatten(1)
        return (pixels - pixels.mean(1, keepdim=True),)
