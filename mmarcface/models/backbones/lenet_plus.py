"""LeNet++, the small net on which margins can be seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import nn

from mmarcface.functional.arguments import as_height_width, check_number
from mmarcface.registry import MODELS


@MODELS.register_module()
class LeNetPlus(BaseModule):
    """Three stages of two 5 x 5 convolutions and max pooling, and a linear layer.

    The "LeNets++" of the `center loss <https://doi.org/10.1007/978-3-319-46478-7_31>`_, table 1,
    whose two outputs are points on a plane. The paper has no batch normalization; here it follows
    each convolution, which makes training faster and keeps statistics of the training images.

    Args:
        embedding_dim: dimension of the embedding.
        in_channels: channels of the images.
        input_size: height and width of the images in pixels, or one number for both; at least 8.
        base_channels: channels of the first stage; each stage doubles them.
        with_bn: put batch normalization after each convolution.
        init_cfg: config of the initialization, such as ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: if a size is not a positive whole number, or ``input_size`` below 8.
    """

    def __init__(
        self,
        embedding_dim: int = 2,
        in_channels: int = 3,
        input_size: int | Sequence[int] = 28,
        base_channels: int = 32,
        with_bn: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg=init_cfg)
        for name, value in dict(
            embedding_dim=embedding_dim, in_channels=in_channels, base_channels=base_channels
        ).items():
            check_number(name, value, minimum=1, whole=True)
        height, width = as_height_width('input_size', input_size, minimum=8)
        self.in_channels = in_channels
        self.input_size = (height, width)
        self.embedding_dim = embedding_dim

        layers, channels = [], in_channels
        for stage in range(3):
            for _ in range(2):
                out_channels = base_channels * 2**stage
                layers.append(nn.Conv2d(channels, out_channels, 5, padding=2, bias=not with_bn))
                if with_bn:
                    layers.append(nn.BatchNorm2d(out_channels))
                layers.append(nn.PReLU(out_channels))
                channels = out_channels
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(channels * (height // 8) * (width // 8), embedding_dim)

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.25)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """Embed a batch of images.

        Args:
            x: images, (N, in_channels, H, W) with (H, W) = ``input_size``.

        Returns:
            One tensor of shape (N, embedding_dim), fp32 under autocast too.

        Raises:
            ValueError: if the images are not of ``in_channels`` and ``input_size``.
        """
        expected = (self.in_channels, *self.input_size)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f'images must be {expected} (channels, height, width), the in_channels and '
                f'input_size that this LeNetPlus was built with; got {tuple(x.shape[1:])}'
            )
        x = self.layers(x).flatten(1)
        # The sum over channels x height x width may overflow half precision.
        with torch.autocast(x.device.type, enabled=False):
            return (self.fc(x.to(self.fc.weight.dtype)),)
