"""IR and IR-SE nets, in the layout of AdaFace and CVLface, and in the older one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmarcface.functional.arguments import check_number, is_number
from mmarcface.registry import MODELS

from .embedding_backbone import EmbeddingBackbone, recompute

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    101: (3, 13, 30, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
STEM_CHANNELS = 64
# Nets from here on have blocks of three convolutions, in the newer layout.
BOTTLENECKS_FROM = 152


class ChannelAttention(nn.Module):
    """Squeeze and excitation without biases, see section 3 of https://arxiv.org/abs/1709.01507.

    Args:
        channels: channels of the input.
        reduction: channels of the input for each one in between.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh the channels of (N, channels, H, W)."""
        weights = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return x * weights.sigmoid()


class IRBlock(nn.Module):
    """BN - convolutions - BN, added to the (strided or projected) input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: stride of the last convolution; 2 halves height and width.
        with_se: weigh the channels (squeeze and excitation) before the addition.
        inner_norm: normalize after the first convolution, too.
        bottleneck: convolve 1 x 1, 3 x 3 and 1 x 1 with a quarter of the channels in between,
            instead of 3 x 3 twice.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        with_se: bool,
        inner_norm: bool,
        bottleneck: bool,
    ):
        super().__init__()
        if in_channels == out_channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        inside = out_channels // 4 if bottleneck else out_channels
        # Kernel and channels of each convolution but the last, and of that.
        convolutions = [(1, inside), (3, inside)] if bottleneck else [(3, inside)]
        kernel = 1 if bottleneck else 3
        layers, channels = [nn.BatchNorm2d(in_channels)], in_channels
        for size, width in convolutions:
            layers.append(nn.Conv2d(channels, width, size, padding=size // 2, bias=False))
            layers += [nn.BatchNorm2d(width)] * inner_norm + [nn.PReLU(width)]
            channels = width
        self.res_layer = nn.Sequential(
            *layers,
            nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        if with_se:
            # The two layouts name it differently.
            name = 'se_block' if inner_norm else str(len(self.res_layer))
            self.res_layer.add_module(name, ChannelAttention(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.res_layer(x) + self.shortcut_layer(x)


@MODELS.register_module()
class IRNet(EmbeddingBackbone):
    """Residual net of ArcFace's kind, as AdaFace and CVLface train it, and others before them.

    Parameter names, shapes and arithmetic are those of ``ir_18`` to ``ir_200`` and ``ir_se_50`` of
    `AdaFace <https://arxiv.org/abs/2204.00964>`_ and CVLface, with ``inner_norm=False`` those of
    InsightFace_Pytorch's and face.evoLVe's IR and IR-SE nets, and with ``affine=False`` too those
    of CurricularFace's, so that their weights load strictly. AdaFace gives an embedding as a unit
    vector and its length; this net gives it whole, the product of the two. AdaFace's own weights
    are for images in BGR.

    Args:
        depth: number of layers, 18, 34, 50, 101, 152 or 200; 50, 101 or 152 in the older layout.
            From 152 on, blocks of the newer layout have three convolutions.
        with_se: add squeeze-and-excitation to every block.
        inner_norm: normalize after each convolution inside of a block, as in the newer layout; the
            older one has no BN there.
        affine: train scale and shift of the embedding's BN; by default without ``inner_norm``
            only. CurricularFace's nets have neither.
        embedding_dim: dimension of the embedding.
        input_size: height and width of the images in pixels, or one number for both.
        dropout: share of the values that are zeroed before the embedding layer, in [0, 1).
        with_cp: recompute the blocks in the backward pass instead of keeping their activations.
        frozen_stages: number of frozen stages: -1 to train everything, 0 to freeze the first
            convolution with its BN and PReLU, k in [1, 4] to freeze the first k stages too. See
            :class:`IResNet`.
        norm_eval: keep all BN layers in evaluation mode, so that no BN statistics change; their
            weights and biases are trained all the same.
        init_cfg: config of the initialization, such as ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: if ``depth`` is unknown, a size is not a positive whole number, ``dropout`` is
            outside [0, 1), or ``frozen_stages`` is no whole number in [-1, 4].
    """

    def __init__(
        self,
        depth: int = 50,
        with_se: bool = False,
        inner_norm: bool = True,
        affine: bool | None = None,
        embedding_dim: int = 512,
        input_size: int | Sequence[int] = 112,
        dropout: float = 0.4,
        with_cp: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(embedding_dim, input_size, frozen_stages, norm_eval, init_cfg)
        depths = list(BLOCKS_PER_STAGE) if inner_norm else [50, 101, 152]
        if not is_number(depth, whole=True) or depth not in depths:
            raise ValueError(
                f'depth must be one of {depths} with inner_norm={inner_norm}, got {depth!r}'
            )
        check_number('dropout', dropout, minimum=0, below=1)
        self.with_cp = with_cp
        bottleneck = inner_norm and depth >= BOTTLENECKS_FROM

        self.input_layer = nn.Sequential(
            nn.Conv2d(3, STEM_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
            nn.PReLU(STEM_CHANNELS),
        )
        blocks, channels, self._ends = [], STEM_CHANNELS, []
        for stage, number in enumerate(BLOCKS_PER_STAGE[depth]):
            width = STEM_CHANNELS * 2**stage * (4 if bottleneck else 1)
            for index in range(number):
                stride = 1 if index else 2
                blocks.append(IRBlock(channels, width, stride, with_se, inner_norm, bottleneck))
                channels = width
            self._ends.append(len(blocks))
        self.body = nn.Sequential(*blocks)
        # Four stages of stride 2, each rounding up.
        height, width = self.input_size
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(channels * -(-height // 16) * -(-width // 16), embedding_dim),
            nn.BatchNorm1d(embedding_dim, affine=not inner_norm if affine is None else affine),
        )

        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        nn.init.zeros_(self.output_layer[3].bias)
        self.freeze()

    def stages(self) -> list[Sequence[nn.Module]]:
        """First convolution with its BN and PReLU; the four stages."""
        begins = [0, *self._ends[:-1]]
        stages = [self.body[a:b] for a, b in zip(begins, self._ends, strict=True)]
        return [[self.input_layer], *stages]

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
        x = self.input_layer(x)
        for block in self.body:
            x = recompute(block, x) if self.with_cp else block(x)
        # The sum over channels x height x width overflows half precision.
        with torch.autocast(x.device.type, enabled=False):
            return (self.output_layer(x.to(self.output_layer[3].weight.dtype)),)
