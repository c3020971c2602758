"""Settings of a FaceViT, from its weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .shapes import count_numbered, grid_of_images, shape_of

# Width and number of blocks.
ARCHITECTURES = {(256, 12): 't', (512, 12): 's', (512, 24): 'b', (768, 24): 'l'}


def face_vit_settings(
    weights: Mapping[str, torch.Tensor], input_size: tuple[int, int] | None
) -> dict:
    """Arguments of the :class:`FaceViT` that weights are for.

    Args:
        weights: weights by name.
        input_size: height and width of the images; found where they are square by default.

    Raises:
        ValueError: if there is no such FaceViT, or the weights leave several sizes open.
    """
    _, patches, width = shape_of(weights, 'pos_embed', 3)
    blocks = count_numbered(weights, 'blocks.')
    arch = ARCHITECTURES.get((width, blocks))
    if arch is None:
        known = ', '.join(f'{w} with {b} blocks ({a})' for (w, b), a in ARCHITECTURES.items())
        raise ValueError(f'a FaceViT must be {known} wide, got {width} with {blocks} blocks')
    patch = shape_of(weights, 'patch_embed.proj.weight', 4)[2]
    return dict(
        arch=arch,
        embedding_dim=shape_of(weights, 'feature.2.weight', 2)[0],
        input_size=grid_of_images(patches, patch, input_size, rest_counts=False),
        patch_size=patch,
    )
