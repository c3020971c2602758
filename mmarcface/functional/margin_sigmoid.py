"""One binary decision a class instead of one softmax: the sum of sigmoid cross-entropies."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .class_sums import class_products, other_classes, unit
from .margin_softmax import checked, chosen


def margin_sigmoid(
    embeddings: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    bias: torch.Tensor,
    target_logit: Callable[[torch.Tensor], torch.Tensor],
    other_logit: Callable[[torch.Tensor], torch.Tensor],
    target_weight: float = 1.0,
    other_weight: float = 1.0,
    num_subcenters: int = 1,
    impl: str = 'auto',
) -> torch.Tensor:
    """Mean over a batch of the weighted sum of one sigmoid cross-entropy a class.

    It equals, with c = class_cosines(embeddings, weight, num_subcenters)::

        own = softplus(-(target_logit(c[n, labels[n]]) + bias))
        others = softplus(other_logit(c) + bias)
        others[n, labels[n]] = 0
        mean(target_weight * own + other_weight * others.sum(1))

    and is computed as :func:`mmarcface.functional.margin_softmax.margin_softmax` is, in the type
    and by the implementations that are said there.

    Args:
        embeddings: (N, D), finite.
        weight: centres, (C * K, D), the K centres of a class together.
        labels: (N,), integers in [0, C).
        bias: one number, (1,), the negative of the threshold that all classes share.
        target_logit: maps the N target cosines, (N,), to logits, (N,).
        other_logit: elementwise function from the other classes' cosines, (N, n) for any n of
            them, to logits.
        target_weight: factor on the target's part.
        other_weight: factor on the other classes' part.
        num_subcenters: K.
        impl: 'auto', 'reference', 'fused' or 'chunked'.

    Returns:
        A scalar; 0 for an empty batch.

    Raises:
        ValueError: if shapes do not fit, a label is outside [0, C), an embedding is not finite, or
            ``impl`` is unknown.
    """
    embeddings, weight, labels = checked(embeddings, weight, labels, num_subcenters)
    implementation = chosen(impl, len(labels), weight)
    with torch.autocast(embeddings.device.type, enabled=False):
        directions, bias = unit(embeddings), bias.to(weight.dtype)
        if implementation == 'reference':
            cosines = class_products(directions, weight, num_subcenters)
            index = labels[:, None]
            target = cosines.gather(1, index).squeeze(1)
            total = _softplus(other_logit(cosines) + bias).scatter(1, index, 0).sum(1)
        else:
            target, total = other_classes(
                directions,
                weight,
                labels,
                bias=bias.expand(len(weight) // num_subcenters),
                logit=other_logit,
                reduction='softplus',
                num_subcenters=num_subcenters,
                keep=implementation == 'fused',
            )
        losses = target_weight * _softplus(-target_logit(target) - bias) + other_weight * total
        return losses.sum() / max(len(labels), 1)


def _softplus(logits: torch.Tensor) -> torch.Tensor:
    """log(1 + exp(z)), exact in fp64 too."""
    return F.softplus(logits, threshold=40)
