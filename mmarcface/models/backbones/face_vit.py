"""FaceViT, the vision transformer for faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import nn

from mmarcface.functional.arguments import as_height_width, check_number
from mmarcface.registry import MODELS

from .embedding_backbone import EmbeddingBackbone, Part, recompute

# Keys as in mmpretrain's VisionTransformer.
ARCHITECTURES = {
    't': dict(embed_dims=256, num_layers=12, num_heads=8),
    's': dict(embed_dims=512, num_layers=12, num_heads=8),
    'b': dict(embed_dims=512, num_layers=24, num_heads=8),
    'l': dict(embed_dims=768, num_layers=24, num_heads=8),
}


class PatchEmbedding(nn.Module):
    """Linear map of each patch; pixels beyond the last whole patch are left out.

    Args:
        patch_size: height and width of a patch in pixels.
        embed_dims: width of a token.
    """

    def __init__(self, patch_size: tuple[int, int], embed_dims: int):
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dims, patch_size, patch_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images, (N, 3, H, W), to tokens, (N, L, embed_dims)."""
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention, its softmax in fp32.

    Args:
        embed_dims: width of a token.
        num_heads: number of heads.
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=False)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def extra_repr(self) -> str:
        """The number of heads, which no weight tells."""
        return f'num_heads={self.num_heads}'

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens, (N, L, embed_dims), to the same shape."""
        number, length, width = x.shape
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, width // self.num_heads))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        # Products of long vectors overflow half precision.
        with torch.autocast(x.device.type, enabled=False):
            mixed = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
        mixed = mixed.transpose(1, 2).reshape(number, length, width)
        return self.proj(mixed.to(qkv.dtype))


class Perceptron(nn.Module):
    """FC - ReLU6 - FC, four times as wide inside.

    Args:
        embed_dims: width of a token.
    """

    def __init__(self, embed_dims: int):
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, 4 * embed_dims)
        self.fc2 = nn.Linear(4 * embed_dims, embed_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens, (N, L, embed_dims), to the same shape."""
        return self.fc2(F.relu6(self.fc1(x)))


class Block(nn.Module):
    """Attention and perceptron, each after LayerNorm and added to its input.

    Args:
        embed_dims: width of a token.
        num_heads: number of heads.
        drop_path: probability that attention or perceptron is left out for a sample in training.
    """

    def __init__(self, embed_dims: int, num_heads: int, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.attn = Attention(embed_dims, num_heads)
        self.mlp = Perceptron(embed_dims)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens, (N, L, embed_dims), to the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


@MODELS.register_module()
class FaceViT(EmbeddingBackbone):
    """Vision transformer whose embedding is computed from all of its tokens.

    It has no class token; the tokens together go through FC - BN - FC - BN. In training, patches
    are left out at random and come back after the last block as one learned token. Parameter
    names, shapes and arithmetic are those of ``vit_t``, ``vit_s``, ``vit_b`` and ``vit_l`` of
    insightface's ``arcface_torch``, which the paper of
    `Partial FC <https://arxiv.org/abs/2203.15565>`_ uses, so that their ``backbone.pth`` loads
    strictly.

    Args:
        arch: architecture, 't', 's', 'b' or 'l', or a dict of ``embed_dims``, ``num_layers`` and
            ``num_heads``, as mmpretrain's ``VisionTransformer`` takes it.
        embedding_dim: dimension of the embedding.
        input_size: height and width of the images in pixels, or one number for both.
        patch_size: height and width of a patch in pixels, or one number for both.
        mask_ratio: share of the patches that are left out in training, in [0, 1). arcface_torch
            leaves out a tenth, whatever its ``mask_ratio`` above 0 is.
        drop_path_rate: probability of stochastic depth in the last block, in [0, 1); it rises
            linearly from 0 in the first one.
        with_cp: recompute the blocks in the backward pass instead of keeping their activations.
        frozen_stages: number of frozen stages: -1 to train everything, 0 to freeze the patch and
            position embeddings, k to freeze the first k blocks too, as in mmpretrain's
            ``VisionTransformer``. See :class:`IResNet`.
        norm_eval: keep the two BN layers of the embedding in evaluation mode, so that no BN
            statistics change; their weights and biases are trained all the same.
        init_cfg: config of the initialization, such as ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: if ``arch`` is unknown or its heads do not divide its width, a size is not a
            positive whole number, images are smaller than a patch, a rate is outside [0, 1), or
            ``frozen_stages`` is no whole number from -1 to the number of blocks.
    """

    def __init__(
        self,
        arch: str | Mapping[str, int] = 't',
        embedding_dim: int = 512,
        input_size: int | Sequence[int] = 112,
        patch_size: int | Sequence[int] = 9,
        mask_ratio: float = 0.1,
        drop_path_rate: float = 0.1,
        with_cp: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(embedding_dim, input_size, frozen_stages, norm_eval, init_cfg)
        width, num_layers, num_heads = _read_architecture(arch)
        patch = as_height_width('patch_size', patch_size)
        cells = [size // side for size, side in zip(self.input_size, patch, strict=True)]
        if min(cells) < 1:
            raise ValueError(
                f'patch_size must be at most input_size, {self.input_size}, got {patch_size!r}'
            )
        check_number('mask_ratio', mask_ratio, minimum=0, below=1)
        check_number('drop_path_rate', drop_path_rate, minimum=0, below=1)
        self.with_cp = with_cp
        num_patches = cells[0] * cells[1]
        self.num_kept = int(num_patches * (1 - mask_ratio))
        if self.num_kept < 1:
            raise ValueError(
                f'mask_ratio must leave at least one of {num_patches} patches, got {mask_ratio}'
            )

        self.pos_embed = nn.Parameter(torch.zeros(1, num_patches, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = PatchEmbedding(patch, width)
        rates = torch.linspace(0, drop_path_rate, num_layers, device='cpu').tolist()
        self.blocks = nn.ModuleList(Block(width, num_heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(num_patches * width, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim, eps=2e-5),
        )

        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        # Processes would wait for the gradient of a parameter that nothing uses.
        self.mask_token.requires_grad_(self.num_kept < num_patches)
        self.freeze()

    def stages(self) -> list[Sequence[Part]]:
        """Patch and position embeddings; each block."""
        return [[self.patch_embed, self.pos_embed], *([block] for block in self.blocks)]

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
        x = self.patch_embed(x) + self.pos_embed
        masks = self.training and self.num_kept < x.shape[1]
        if masks:
            x, kept = self._leave_out_patches(x)
        for block in self.blocks:
            x = recompute(block, x) if self.with_cp else block(x)
        # The sum over all tokens overflows half precision.
        with torch.autocast(x.device.type, enabled=False):
            x = self.norm(x.to(self.norm.weight.dtype))
            if masks:
                tokens = self.mask_token.expand(len(x), self.pos_embed.shape[1], -1)
                x = tokens.scatter(1, kept, x)
            return (self.feature(x.flatten(1)),)

    def _leave_out_patches(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Some patches of each image, and their places, both (N, num_kept, width)."""
        order = torch.rand(x.shape[:2], device=x.device).argsort(dim=1)
        kept = order[:, : self.num_kept, None].expand(-1, -1, x.shape[2])
        return x.gather(1, kept), kept


def _read_architecture(arch: str | Mapping[str, int]) -> tuple[int, int, int]:
    """Width, number of layers and number of heads."""
    if isinstance(arch, str) and arch in ARCHITECTURES:
        arch = ARCHITECTURES[arch]
    names = tuple(ARCHITECTURES['t'])
    if not isinstance(arch, Mapping) or set(arch) != set(names):
        raise ValueError(
            f'arch must be one of {list(ARCHITECTURES)} or a dict of {", ".join(names)}, got '
            f'{arch!r}'
        )
    for name in names:
        check_number(name, arch[name], minimum=1, whole=True)
    width, num_layers, num_heads = (arch[name] for name in names)
    if width % num_heads:
        raise ValueError(f'num_heads must divide embed_dims, {width}, got {num_heads}')
    return width, num_layers, num_heads
