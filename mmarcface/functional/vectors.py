"""Vectors and their Euclidean norms."""

from __future__ import annotations

import torch

# Below this length a vector counts as zero: it has no direction, and gets no gradient.
EPS = 1e-12


def norms(vectors: torch.Tensor) -> torch.Tensor:
    """Euclidean lengths, in fp32 or the wider type; the gradient of a zero vector's is 0.

    Args:
        vectors: (..., D).

    Returns:
        (...).
    """
    dtype = torch.promote_types(vectors.dtype, torch.float)
    return torch.linalg.vector_norm(vectors.to(dtype), dim=-1)


def normalize(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors divided by their lengths; zero vectors stay zero, with zero gradient.

    Args:
        vectors: (..., D).

    Returns:
        The same shape.
    """
    norms = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    scaled = vectors / norms.clamp(min=EPS)
    return torch.where(norms <= EPS, torch.zeros_like(scaled), scaled)
