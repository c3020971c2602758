"""MobileFaceNet, the small net for faces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmarcface.functional.arguments import are_numbers, check_number
from mmarcface.registry import MODELS

from .embedding_backbone import EmbeddingBackbone

# Channels of depthwise convolutions, which arcface_torch does not scale.
EXPANSIONS = 128, 128, 256, 256, 512, 256
LAST_CHANNELS = 512


class ConvBlock(nn.Module):
    """Convolution - BN - PReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: height and width of the kernel, or one number for both.
        stride: stride of the convolution.
        padding: padding of the convolution.
        groups: number of groups of channels.
        activation: whether a PReLU comes last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        activation: bool = True,
    ):
        super().__init__()
        shape = dict(kernel_size=kernel, stride=stride, padding=padding, groups=groups)
        layers = [
            nn.Conv2d(in_channels, out_channels, **shape, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        if activation:
            layers.append(nn.PReLU(out_channels))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self.layers(x)


class InvertedBottleneck(nn.Module):
    """Pointwise, depthwise and linear pointwise convolution; with stride 1 added to the input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        channels: channels of the depthwise convolution.
        stride: stride of the depthwise convolution; 2 halves height and width.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int, stride: int):
        super().__init__()
        self.adds_input = stride == 1
        self.layers = nn.Sequential(
            ConvBlock(in_channels, channels),
            ConvBlock(channels, channels, 3, stride, 1, groups=channels),
            ConvBlock(channels, out_channels, activation=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        return x + self.layers(x) if self.adds_input else self.layers(x)


class Residuals(nn.Module):
    """Inverted bottlenecks of stride 1, one after the other.

    Args:
        number: number of blocks.
        num_channels: channels of input and output.
        channels: channels of the depthwise convolutions.
    """

    def __init__(self, number: int, num_channels: int, channels: int):
        super().__init__()
        blocks = [
            InvertedBottleneck(num_channels, num_channels, channels, 1) for _ in range(number)
        ]
        self.layers = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, num_channels, H, W) to the same shape."""
        return self.layers(x)


class DepthwisePooling(nn.Module):
    """Global depthwise convolution - FC - BN, section 3.2 of MobileFaceNets.

    Args:
        cells: height and width of the feature maps.
        embedding_dim: dimension of the embedding.
    """

    def __init__(self, cells: tuple[int, int], embedding_dim: int):
        super().__init__()
        self.layers = nn.Sequential(
            ConvBlock(LAST_CHANNELS, LAST_CHANNELS, cells, groups=LAST_CHANNELS, activation=False),
            nn.Flatten(),
            nn.Linear(LAST_CHANNELS, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, 512, *cells) to (N, embedding_dim)."""
        return self.layers(x)


@MODELS.register_module()
class MobileFaceNet(EmbeddingBackbone):
    """Net of a few million parameters and depthwise convolutions.

    `MobileFaceNets <https://arxiv.org/abs/1804.07573>`_, table 1, with the changes of insightface's
    ``arcface_torch``, whose parameter names, shapes and arithmetic it has: ``backbone.pth`` of
    ``mbf`` (the defaults) and of ``mbf_large`` (``scale=4, blocks=(2, 8, 12, 4)``) load strictly.

    Args:
        embedding_dim: dimension of the embedding.
        input_size: height and width of the images in pixels, or one number for both.
        scale: width of the net, as a multiple of 64 channels in the first stage.
        blocks: number of blocks of each of the four stages; a first stage of one block is a single
            convolution.
        frozen_stages: number of frozen stages: -1 to train everything, 0 to freeze the first
            convolution with its BN and PReLU, k in [1, 4] to freeze the first k stages too, each
            with the strided block before its residual blocks. See :class:`IResNet`.
        norm_eval: keep all BN layers in evaluation mode, so that no BN statistics change; their
            weights and biases are trained all the same.
        init_cfg: config of the initialization, such as ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: if a size or number is not a positive whole number, ``blocks`` are not four, or
            ``frozen_stages`` is no whole number in [-1, 4].
    """

    def __init__(
        self,
        embedding_dim: int = 512,
        input_size: int | Sequence[int] = 112,
        scale: int = 2,
        blocks: Sequence[int] = (1, 4, 6, 2),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(embedding_dim, input_size, frozen_stages, norm_eval, init_cfg)
        check_number('scale', scale, minimum=1, whole=True)
        if not are_numbers(blocks, 4, whole=True) or min(blocks) < 1:
            raise ValueError(f'blocks must be four numbers of at least 1, got {blocks!r}')
        narrow, wide = 64 * scale, 128 * scale
        expansions = iter(EXPANSIONS)
        if blocks[0] == 1:
            first = ConvBlock(narrow, narrow, 3, padding=1, groups=64)
        else:
            first = Residuals(blocks[0], narrow, 128)
        layers = [ConvBlock(3, narrow, 3, 2, 1), first]
        channels = narrow
        for out_channels, number in zip((narrow, wide, wide), blocks[1:], strict=True):
            layers += [
                InvertedBottleneck(channels, out_channels, next(expansions), 2),
                Residuals(number, out_channels, next(expansions)),
            ]
            channels = out_channels
        self.layers = nn.ModuleList(layers)
        self.conv_sep = ConvBlock(channels, LAST_CHANNELS)
        # Four convolutions of stride 2, each rounding up.
        height, width = self.input_size
        self.features = DepthwisePooling((-(-height // 16), -(-width // 16)), embedding_dim)

        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        self.freeze()

    def stages(self) -> list[Sequence[nn.Module]]:
        """First convolution; the four stages."""
        return [self.layers[:1], self.layers[1:2], *(self.layers[k : k + 2] for k in (2, 4, 6))]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """Embed a batch of images.

        Args:
            x: images, (N, 3, H, W) with (H, W) = ``input_size``.

        Returns:
            One tensor of shape (N, embedding_dim), fp32 under autocast too.

        Raises:
            ValueError: if the images are not of ``input_size``, or one alone is to be trained on
                and a BN layer needs the statistics of its batch.
        """
        self.check_images(x)
        for layer in self.layers:
            x = layer(x)
        # Global depthwise sums overflow half precision.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.conv_sep.layers[0].weight.dtype)
            return (self.features(self.conv_sep(x)),)
