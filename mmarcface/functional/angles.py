"""How compact classes are, and how far apart: angles between embeddings, in degrees."""

from __future__ import annotations

import math

import torch

from .arguments import check_number
from .vectors import EPS, normalize, norms


def mean_directions(
    embeddings: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """Mean direction of each class: the mean of its unit vectors, normalized.

    It equals ``normalize(normalize(embeddings[labels == c]).mean(0))`` for each class c that has
    embeddings.

    Args:
        embeddings: embeddings of any length, (N, D); zero vectors do not count.
        labels: class of each embedding, (N,), int64, in [0, num_classes).
        num_classes: number of classes C, at least 1.

    Returns:
        Unit vectors, (C, D), fp64; a zero vector for a class that is empty or whose unit vectors
        cancel out.

    Raises:
        ValueError: if ``num_classes`` is not a whole number of at least 1.

    Example:
        >>> vectors = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, -1.0]])
        >>> mean_directions(vectors, torch.tensor([0, 1, 1]), 2).tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    check_number('num_classes', num_classes, minimum=1, whole=True)
    vectors = normalize(embeddings.double())
    sums = vectors.new_zeros(num_classes, vectors.shape[1]).index_add_(0, labels, vectors)
    counts = torch.bincount(labels, minlength=num_classes).clamp(min=1)
    return normalize(sums / counts[:, None])


def intra_class_angle(embeddings: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean angle between an embedding and the mean direction of its class, in degrees.

    It is a mean over embeddings, so that large classes weigh more. Embeddings and classes without a
    direction do not count.

    Args:
        embeddings: embeddings of any length, (N, D).
        labels: class of each embedding, (N,), int64, at least 0.

    Returns:
        Degrees in [0, 180]; NaN where nothing counts.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> round(intra_class_angle(vectors, torch.tensor([0, 0, 1])), 2)
        30.0
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
    """Smallest angle between the directions of two classes, in degrees.

    Ten classes on a plane can be at most 36 degrees apart.

    Args:
        directions: class centers or :func:`mean_directions`, of any length, (C, D). Zero vectors do
            not count.

    Returns:
        Degrees in [0, 180]; NaN for fewer than two directions.

    Example:
        >>> round(min_inter_class_angle(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])), 2)
        90.0
    """
    directions = directions.double()
    directions = normalize(directions[norms(directions) > EPS])
    if len(directions) < 2:
        return math.nan
    cosines = (directions @ directions.T).fill_diagonal_(-1)
    return float(cosines.max().clamp(-1, 1).acos().rad2deg())
