"""One binary decision a class instead of one softmax: the sum of sigmoid cross-entropies."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .arguments import check_number
from .class_sums import class_products, other_classes, unit
from .margin_softmax import checked, chosen
from .margins import Elementwise


def margin_sigmoid(
    embeddings: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    bias: torch.Tensor,
    target_logit: Callable[[torch.Tensor], torch.Tensor],
    other_cosine: Elementwise | None = None,
    scale: float = 64.0,
    other_margin: float = 0.0,
    target_weight: float = 1.0,
    other_weight: float = 1.0,
    num_subcenters: int = 1,
    impl: str = 'auto',
) -> torch.Tensor:
    """Mean over a batch of the weighted sum of one sigmoid cross-entropy a class.

    It equals, with c = class_cosines(embeddings, weight, num_subcenters)::

        own = softplus(-(target_logit(c[n, labels[n]]) + bias))
        others = softplus(scale * (other_cosine(c) + other_margin) + bias)
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
        other_cosine: function of the other classes' cosines, (N, n) for any n of them; they
            themselves by default.
        scale: s of the other classes, positive.
        other_margin: in units of what ``other_cosine`` gives.
        target_weight: factor on the target's part, at least 0.
        other_weight: factor on the other classes' part, at least 0.
        num_subcenters: K.
        impl: 'auto', 'reference', 'fused' or 'chunked'.

    Returns:
        A scalar; 0 for an empty batch.

    Raises:
        ValueError: if shapes do not fit, a label is outside [0, C), an embedding is not finite, a
            number is out of its range, or ``impl`` is unknown.
    """
    check_number('scale', scale, above=0)
    check_number('other_margin', other_margin)
    check_number('target_weight', target_weight, least=0)
    check_number('other_weight', other_weight, least=0)
    embeddings, weight, labels = checked(embeddings, weight, labels, num_subcenters)
    implementation = chosen(impl, len(labels), weight)
    with torch.autocast(embeddings.device.type, enabled=False):
        directions, bias = unit(embeddings), bias.to(weight.dtype)
        of_others = bias + scale * other_margin
        if implementation == 'reference':
            cosines = class_products(directions, weight, num_subcenters)
            index = labels[:, None]
            target = cosines.gather(1, index).squeeze(1)
            if other_cosine is not None:
                cosines = other_cosine(cosines)
            total = _softplus(scale * cosines + of_others).scatter(1, index, 0).sum(1)
        else:
            target, total = other_classes(
                directions,
                weight,
                labels,
                bias=of_others.expand(len(weight) // num_subcenters),
                function=other_cosine,
                scale=scale,
                reduction='softplus',
                num_subcenters=num_subcenters,
                keep=implementation == 'fused',
            )
        losses = target_weight * _softplus(-target_logit(target) - bias) + other_weight * total
        return losses.sum() / max(len(labels), 1)


def _softplus(logits: torch.Tensor) -> torch.Tensor:
    """log(1 + exp(z)), exact in fp64 too."""
    return F.softplus(logits, threshold=40)
