"""Templates: one vector for a set of photographs and video frames of a person."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def pool_templates(
    vectors: torch.Tensor,
    template: torch.Tensor,
    media: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """One unit vector per template: the normalized sum of the means over each media.

    So a video of a hundred frames weighs as much as a photograph. This is the protocol of IJB-B and
    IJB-C as insightface's scripts follow it.

    Args:
        vectors: embeddings of the images, (N, D).
        template: template of each image, (N,), int64, in [0, T); each template has an image.
        media: media of each image, (N,), int64. The same number in two templates means two media.
        weights: weight of each image, (N,), such as its detection score; all 1 by default. Weights
            scale the vectors; the mean still divides by the number of images.

    Returns:
        Unit vectors, (T, D); a template whose vectors cancel out is 0.

    Example:
        >>> vectors = torch.tensor([[4.0, 0.0], [2.0, 0.0], [0.0, 4.0]])
        >>> template, media = torch.tensor([0, 0, 0]), torch.tensor([0, 0, 1])
        >>> pool_templates(vectors, template, media).mul(5).round(decimals=2)
        tensor([[3., 4.]])
    """
    if weights is not None:
        vectors = vectors * weights[:, None]
    own = torch.stack([template, media], 1)
    groups, group, counts = own.unique(dim=0, return_inverse=True, return_counts=True)
    means = vectors.new_zeros(len(groups), vectors.shape[1]).index_add_(0, group, vectors)
    means /= counts[:, None]
    pooled = vectors.new_zeros(int(template.max()) + 1, vectors.shape[1])
    return F.normalize(pooled.index_add_(0, groups[:, 0], means))
