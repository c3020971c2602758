"""What names and shapes of weights tell of a net."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

# Side of the aligned faces that most nets are trained on, in pixels.
USUAL = 112


def shape_of(weights: Mapping[str, torch.Tensor], key: str, ndim: int) -> tuple[int, ...]:
    """Shape of a tensor.

    Args:
        weights: weights by name.
        key: name of the tensor.
        ndim: number of its dimensions.

    Raises:
        ValueError: if there is no such tensor, or it has another number of dimensions.
    """
    if key not in weights:
        raise ValueError(f'{key} is missing: the whole state dict of the net is needed')
    shape = tuple(weights[key].shape)
    if len(shape) != ndim or 0 in shape:
        raise ValueError(f'{key} must have {ndim} dimensions, none of them 0, got shape {shape}')
    return shape


def count_numbered(weights: Mapping[str, torch.Tensor], prefix: str) -> int:
    """Number of different words that follow a prefix, such as the blocks of a stage.

    Args:
        weights: weights by name.
        prefix: beginning of the names, with a dot at its end.
    """
    return len({k[len(prefix) :].split('.')[0] for k in weights if k.startswith(prefix)})


def grid_of_images(
    cells: int, stride: int, input_size: tuple[int, int] | None, rest_counts: bool = True
) -> int | tuple[int, int]:
    """Size of the images for which a net ends in a number of cells.

    Args:
        cells: height times width of the last map.
        stride: pixels to a cell, in both directions.
        input_size: height and width that are said; None to take square images, of 112 x 112 pixels
            if the number of cells allows.
        rest_counts: whether pixels beyond a multiple of the stride make another cell.

    Returns:
        Side of square images in pixels, or height and width.

    Raises:
        ValueError: if the size does not fit, or is not given and the images are not square.
    """

    def cells_of(height: int, width: int) -> int:
        grid = (-(-side // stride) if rest_counts else side // stride for side in (height, width))
        return math.prod(grid)

    if input_size is not None:
        height, width = input_size
        if cells_of(height, width) != cells:
            raise ValueError(
                f'images of {height} x {width} pixels give a map of {cells_of(height, width)} '
                f'cells, and the weights are for {cells}: give another --input-size HEIGHT WIDTH'
            )
        return height if height == width else (height, width)
    side = math.isqrt(cells)
    if side * side != cells:
        grids = [(cells // w, w) for w in range(1, side + 1) if cells % w == 0]
        shown = ' or '.join(f'{h * stride} x {w * stride}' for h, w in reversed(grids[-3:]))
        raise ValueError(
            f'the images are not square: the last map has {cells} cells of {stride} x {stride} '
            f'pixels, as of images of about {shown}; give --input-size HEIGHT WIDTH'
        )
    return USUAL if cells_of(USUAL, USUAL) == cells else stride * side
