"""Settings of an IResNet, from its weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mmarcface.models.backbones.iresnet import BLOCKS_PER_STAGE

from .shapes import count_numbered, grid_of_images, shape_of

# Each of four stages halves height and width, rounding up.
STRIDE = 16


def iresnet_settings(
    weights: Mapping[str, torch.Tensor], input_size: tuple[int, int] | None
) -> dict:
    """Arguments of the :class:`IResNet` that weights are for.

    Args:
        weights: weights by name.
        input_size: height and width of the images; found where they are square by default.

    Raises:
        ValueError: if there is no such IResNet, or the weights leave several sizes open.
    """
    stages = tuple(count_numbered(weights, f'layer{stage}.') for stage in range(1, 5))
    depth = next((depth for depth, blocks in BLOCKS_PER_STAGE.items() if blocks == stages), None)
    if depth is None:
        raise ValueError(
            f'an IResNet must have {list(BLOCKS_PER_STAGE.values())} blocks in its four stages, '
            f'got {stages}'
        )
    channels = shape_of(weights, 'conv1.weight', 4)[0]
    dim, inputs = shape_of(weights, 'fc.weight', 2)
    cells, rest = divmod(inputs, 8 * channels)
    if rest:
        raise ValueError(
            f'fc.weight must have a multiple of {8 * channels} columns, as the last stage has so '
            f'many channels; got {inputs}'
        )
    size = grid_of_images(cells, STRIDE, input_size)
    settings = dict(depth=depth, embedding_dim=dim, input_size=size, base_channels=channels)
    if any(key.startswith('layer1.0.se.') for key in weights):
        settings['with_se'] = True
    return settings
