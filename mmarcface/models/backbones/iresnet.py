"""IResNet, the residual network of the ArcFace papers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmpretrain.models.utils import SELayer
from torch import nn

from mmarcface.functional.arguments import check_number, is_number
from mmarcface.registry import MODELS

from .embedding_backbone import EmbeddingBackbone, recompute

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}


class IBasicBlock(nn.Module):
    """BN - conv - BN - PReLU - conv - BN, added to the (projected) input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: stride of the second convolution; 2 halves height and width.
        with_se: recalibrate the channels (squeeze and excitation) before the addition.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, with_se: bool = False):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.se = SELayer(out_channels) if with_se else None
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        out = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        out = self.bn3(self.conv2(out))
        if self.se is not None:
            out = self.se(out)
        return out + (x if self.downsample is None else self.downsample(x))


@MODELS.register_module()
class IResNet(EmbeddingBackbone):
    """Improved residual network with a BN - dropout - FC - BN embedding layer.

    The "LResNet-E-IR" of `ArcFace <https://arxiv.org/abs/1801.07698>`_, section 3.1. Parameter
    names, shapes and arithmetic are those of insightface's ``arcface_torch``, so that its
    ``backbone.pth`` loads strictly into depth 18 to 200 with the default width and input size.

    Args:
        depth: number of layers, 18, 34, 50, 100 or 200.
        embedding_dim: dimension of the embedding.
        input_size: height and width of the images in pixels, or one number for both.
        base_channels: channels of the first stage; each stage doubles them.
        with_se: add squeeze-and-excitation to every block.
        dropout: share of the values that are zeroed before the embedding layer, in [0, 1).
        with_cp: recompute the stages in the backward pass instead of keeping their activations.
        frozen_stages: number of frozen stages: -1 to train everything, 0 to freeze the stem (the
            first convolution with its BN and PReLU), k in [1, 4] to freeze the stem and the first k
            stages, as in mmpretrain's ResNet. What is frozen gets no gradient and stays in
            evaluation mode, so that its BN statistics do not change. The embedding layer after the
            stages always trains.
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
        embedding_dim: int = 512,
        input_size: int | Sequence[int] = 112,
        base_channels: int = 64,
        with_se: bool = False,
        dropout: float = 0.0,
        with_cp: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(embedding_dim, input_size, frozen_stages, norm_eval, init_cfg)
        if not is_number(depth, whole=True) or depth not in BLOCKS_PER_STAGE:
            raise ValueError(f'depth must be one of {sorted(BLOCKS_PER_STAGE)}, got {depth!r}')
        check_number('dropout', dropout, minimum=0, below=1)
        check_number('base_channels', base_channels, minimum=1, whole=True)
        height, width = self.input_size
        self.with_cp = with_cp

        self.conv1 = nn.Conv2d(3, base_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(base_channels)
        self.prelu = nn.PReLU(base_channels)
        channels = base_channels
        for stage, num_blocks in enumerate(BLOCKS_PER_STAGE[depth]):
            blocks = []
            for index in range(num_blocks):
                out_channels = base_channels * 2**stage
                blocks.append(IBasicBlock(channels, out_channels, 1 if index else 2, with_se))
                channels = out_channels
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        # Four stages of stride 2, each rounding up.
        self.fc = nn.Linear(channels * -(-height // 16) * -(-width // 16), embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim)
        self.features.weight.requires_grad = False

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)
        self.freeze()

    def stages(self) -> list[Sequence[nn.Module]]:
        """First convolution with its BN and PReLU; the four stages."""
        stages = [[getattr(self, f'layer{k}')] for k in range(1, 5)]
        return [[self.conv1, self.bn1, self.prelu], *stages]

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
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = recompute(block, x) if self.with_cp else block(x)
        x = self.dropout(self.bn2(x).flatten(1))
        # The sum over channels x height x width overflows half precision.
        with torch.autocast(x.device.type, enabled=False):
            return (self.features(self.fc(x.to(self.fc.weight.dtype))),)
