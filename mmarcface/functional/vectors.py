"""Vectors and their Euclidean norms."""

from __future__ import annotations

import torch

# Below this length a vector counts as zero: it has no direction, and gets no gradient.
EPS = 1e-12


def norms(vectors: torch.Tensor) -> torch.Tensor:
    """Euclidean norm of each vector, in fp32 or a wider type; a zero vector gets a zero gradient.

    Args:
        vectors: vectors, (..., D).

    Returns:
        Norms, (...).

    Example:
        >>> norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [5.0, 0.0]
    """
    dtype = torch.promote_types(vectors.dtype, torch.float)
    return torch.linalg.vector_norm(vectors.to(dtype), dim=-1)


def normalize(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors divided by their norms; zero vectors stay zero, with a zero gradient.

    Args:
        vectors: vectors, (..., D).

    Returns:
        Unit vectors, (..., D).

    Example:
        >>> normalize(torch.tensor([[6.0, 8.0], [0.0, 0.0]])).round(decimals=2)
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    norms = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    scaled = vectors / norms.clamp(min=EPS)
    return torch.where(norms <= EPS, torch.zeros_like(scaled), scaled)
