"""How compact classes are, and how far apart: angles of embeddings, in degrees."""

from __future__ import annotations

import math

import torch

from .arguments import check_number
from .vectors import EPS, normalize, norms


def mean_directions(
    embeddings: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """The direction of each class: its mean unit vector, brought to length one.

    It equals ``normalize(normalize(embeddings[labels == c]).mean(0))`` for each class c that has
    embeddings.

    Args:
        embeddings: (N, D), of any length; zero vectors have no direction and do not count.
        labels: (N,), int64, in [0, num_classes).
        num_classes: C, at least 1.

    Returns:
        (C, D), fp64; zero for a class without a direction, which is empty or whose unit vectors
        cancel out.

    Raises:
        ValueError: if ``num_classes`` is no whole number of at least 1.
    """
    check_number('num_classes', num_classes, minimum=1, whole=True)
    vectors = normalize(embeddings.double())
    sums = vectors.new_zeros(num_classes, vectors.shape[1]).index_add_(0, labels, vectors)
    counts = torch.bincount(labels, minlength=num_classes).clamp(min=1)
    return normalize(sums / counts[:, None])


def intra_class_angle(embeddings: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean angle between an embedding and the direction of its class, in degrees.

    The mean is over all embeddings, so that large classes weigh more, and wrongly classified ones
    count with their large angles. Embeddings or classes without a direction do not count.

    Args:
        embeddings: (N, D), of any length.
        labels: (N,), int64, at least 0.

    Returns:
        Degrees in [0, 180]; NaN where nothing counts.
    """
    if not len(labels):
        return math.nan
    _, labels = labels.unique(return_inverse=True)
    own = mean_directions(embeddings, labels, int(labels.max()) + 1)[labels]
    embeddings = embeddings.double()
    counts = (norms(embeddings) > EPS) & (norms(own) > EPS)
    cosines = (normalize(embeddings) * own).sum(1)[counts]
    return float(cosines.clamp(-1, 1).acos().rad2deg().mean())


def min_inter_class_angle(directions: torch.Tensor) -> float:
    """The smallest angle between two of some directions, in degrees.

    Ten classes on a plane can be at most 36 degrees apart.

    Args:
        directions: (C, D), of any length, such as centers or :func:`mean_directions`; zero
            vectors do not count.

    Returns:
        Degrees in [0, 180]; NaN for fewer than two directions.
    """
    directions = directions.double()
    directions = normalize(directions[norms(directions) > EPS])
    if len(directions) < 2:
        return math.nan
    cosines = (directions @ directions.T).fill_diagonal_(-1)
    return float(cosines.max().clamp(-1, 1).acos().rad2deg())
