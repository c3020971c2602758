"""Settings of a MobileFaceNet, from its weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .shapes import count_numbered, shape_of

# Channels of the first convolution at scale 1, and pixels to a cell of the last map.
CHANNELS, STRIDE = 64, 16
# Places of the residual stages among the layers.
STAGES = 3, 5, 7


def mobilefacenet_settings(
    weights: Mapping[str, torch.Tensor], input_size: tuple[int, int] | None
) -> dict:
    """Arguments of the :class:`MobileFaceNet` that weights are for.

    Args:
        weights: weights by name.
        input_size: height and width of the images; those of the last convolution, which covers the
            whole map, by default.

    Raises:
        ValueError: if there is no such MobileFaceNet, or it is for images of another size.
    """
    channels = shape_of(weights, 'layers.0.layers.0.weight', 4)[0]
    scale, rest = divmod(channels, CHANNELS)
    if rest:
        raise ValueError(
            f'layers.0.layers.0.weight must have a multiple of {CHANNELS} channels, got {channels}'
        )
    # One block is a convolution, several are a residual stage.
    single = 'layers.1.layers.0.weight' in weights
    first = 1 if single else count_numbered(weights, 'layers.1.layers.')
    others = [count_numbered(weights, f'layers.{stage}.layers.') for stage in STAGES]
    kernel = shape_of(weights, 'features.layers.0.layers.0.weight', 4)[2:]
    size = tuple(STRIDE * cells for cells in kernel) if input_size is None else input_size
    cells = tuple(-(-side // STRIDE) for side in size)
    if cells != kernel:
        raise ValueError(
            f'images of {size[0]} x {size[1]} pixels give a map of {cells[0]} x {cells[1]} cells, '
            f'and the weights are for {kernel[0]} x {kernel[1]}: give another --input-size HEIGHT '
            'WIDTH'
        )
    return dict(
        embedding_dim=shape_of(weights, 'features.layers.2.weight', 2)[0],
        input_size=size[0] if size[0] == size[1] else size,
        scale=scale,
        blocks=(first, *others),
    )
