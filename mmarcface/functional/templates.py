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
    """One unit vector a template: the mean of each media, and their sum.

    A video of a hundred frames so weighs as much as a photograph. This is the protocol of IJB-B
    and IJB-C as insightface's scripts follow it.

    Args:
        vectors: embeddings of the images, (N, D).
        template: of each image, (N,), int64, in [0, T), each there.
        media: of each image, (N,), int64; a media of one number in two templates is two.
        weights: of each image, (N,), such as its detection score; all 1 by default. They scale the
            vectors, and the mean still divides by the number of images.

    Returns:
        (T, D); a template whose vectors cancel out is 0.
    """
    if weights is not None:
        vectors = vectors * weights[:, None]
    own = torch.stack([template, media], 1)
    groups, group, counts = own.unique(dim=0, return_inverse=True, return_counts=True)
    means = vectors.new_zeros(len(groups), vectors.shape[1]).index_add_(0, group, vectors)
    means /= counts[:, None]
    pooled = vectors.new_zeros(int(template.max()) + 1, vectors.shape[1])
    return F.normalize(pooled.index_add_(0, groups[:, 0], means))
