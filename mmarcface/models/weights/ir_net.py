"""Settings of an IRNet, from its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch

from mmarcface.models.backbones.ir_net import BLOCKS_PER_STAGE

from .shapes import count_numbered, grid_of_images, shape_of

# Each of four stages halves height and width, rounding up.
STRIDE = 16


def ir_net_settings(
    weights: Mapping[str, torch.Tensor], input_size: tuple[int, int] | None
) -> dict:
    """Arguments of the :class:`IRNet` that weights are for.

    Args:
        weights: weights by name.
        input_size: height and width of the images; found where they are square by default.

    Raises:
        ValueError: if there is no such IRNet, or the weights leave several sizes open.
    """
    number = count_numbered(weights, 'body.')
    widths = [shape_of(weights, f'body.{i}.res_layer.1.weight', 4)[0] for i in range(number)]
    stages = tuple(Counter(widths).values())
    depth = next((depth for depth, blocks in BLOCKS_PER_STAGE.items() if blocks == stages), None)
    if depth is None:
        raise ValueError(
            f'an IRNet must have {list(BLOCKS_PER_STAGE.values())} blocks in its four stages, got '
            f'{stages}'
        )
    dim, inputs = shape_of(weights, 'output_layer.3.weight', 2)
    channels = shape_of(weights, 'output_layer.0.weight', 1)[0]
    cells, rest = divmod(inputs, channels)
    if rest:
        raise ValueError(
            f'output_layer.3.weight must have a multiple of {channels} columns, as the last stage '
            f'has so many channels; got {inputs}'
        )
    # Without it the third module of a block is a PReLU.
    inner_norm = 'body.0.res_layer.2.running_mean' in weights
    affine = 'output_layer.4.weight' in weights
    return dict(
        depth=depth,
        with_se=any('.fc1.' in key for key in weights),
        inner_norm=inner_norm,
        **(dict(affine=affine) if affine == inner_norm else {}),
        embedding_dim=dim,
        input_size=grid_of_images(cells, STRIDE, input_size),
    )
