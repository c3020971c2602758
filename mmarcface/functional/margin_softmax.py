"""Softmax cross-entropy over class cosines, with a margin on the target's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F


def class_cosines(
    embeddings: torch.Tensor, weight: torch.Tensor, num_subcenters: int = 1
) -> torch.Tensor:
    """Cosine between every embedding and every class.

    With sub-centers, the cosine of a class is that of its nearest centre (`Sub-center ArcFace
    <https://doi.org/10.1007/978-3-030-58621-8_43>`_, equation 4).

    Args:
        embeddings: (N, D), of any length.
        weight: centres, (C * K, D), of any length; the K centres of a class lie together.
        num_subcenters: K.

    Returns:
        (N, C), in [-1, 1] up to rounding.
    """
    cosines = F.linear(F.normalize(embeddings), F.normalize(weight))
    if num_subcenters > 1:
        cosines = cosines.unflatten(1, (-1, num_subcenters)).amax(2)
    return cosines


def margin_softmax(
    embeddings: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    target_logit: Callable[[torch.Tensor], torch.Tensor],
    scale: float = 64.0,
    num_subcenters: int = 1,
) -> torch.Tensor:
    """Mean margin-softmax loss of a batch.

    It equals, with c = class_cosines(embeddings, weight, num_subcenters)::

        c[n, labels[n]] = target_logit(c[n, labels[n]])
        cross_entropy(scale * c, labels)

    and is computed in fp32 (or the wider type of its inputs), under autocast too.

    Args:
        embeddings: (N, D).
        weight: centres, (C * K, D), the K centres of a class together.
        labels: (N,), int64, in [0, C).
        target_logit: maps the N target cosines, (N,), to phi, (N,): see
            :mod:`mmarcface.functional.margins`.
        scale: s.
        num_subcenters: K.

    Returns:
        A scalar; 0 for an empty batch.

    Raises:
        ValueError: if a label is outside [0, C).
    """
    num_classes = weight.shape[0] // num_subcenters
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        sample = int(outside.nonzero()[0])
        raise ValueError(
            f'labels must be in [0, {num_classes}), the classes of the head; '
            f'sample {sample} of the batch has {int(labels[sample])}'
        )
    with torch.autocast(embeddings.device.type, enabled=False):
        dtype = torch.promote_types(
            torch.promote_types(embeddings.dtype, weight.dtype), torch.float
        )
        cosines = class_cosines(embeddings.to(dtype), weight.to(dtype), num_subcenters)
        index = labels[:, None]
        phi = target_logit(cosines.gather(1, index).squeeze(1))
        logits = scale * cosines.scatter(1, index, phi[:, None])
        return F.cross_entropy(logits, labels, reduction='sum') / max(len(labels), 1)
