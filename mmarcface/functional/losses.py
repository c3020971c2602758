"""The losses: softmax or sigmoid cross-entropies over class cosines, with a margin on the target's.

Each docstring states the naive formula that the loss equals; the fast path is in
:mod:`.blockwise`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from .arguments import check_number
from .blockwise import class_products, nontarget_sums
from .margins import Margin, arcface, cosface, sphereface, sphereface_r
from .nontarget import Modulation
from .vectors import normalize

# Target logits with one margin, which can be given by name.
MARGINS = {
    'arcface': arcface,
    'cosface': cosface,
    'sphereface': sphereface,
    'sphereface_r': sphereface_r,
}
IMPLEMENTATIONS = ('auto', 'reference', 'fused', 'chunked')
# Beyond this size of its one batch x classes buffer, 'fused' gives way to 'chunked'.
MAX_BUFFER_BYTES = 1 << 30


def class_cosines(
    embeddings: torch.Tensor, weight: torch.Tensor, num_subcenters: int = 1
) -> torch.Tensor:
    """Cosine between every embedding and every class.

    With sub-centers, the cosine of a class is that of its nearest center (`Sub-center ArcFace
    <https://doi.org/10.1007/978-3-030-58621-8_43>`_, equation 4).

    Args:
        embeddings: embeddings of any length, (N, D); the cosines of a zero vector are 0.
        weight: class centers of any length, (C * K, D); the K centers of a class lie together.
        num_subcenters: number of centers per class, K.

    Returns:
        Cosines, (N, C), in [-1, 1] up to rounding.

    Example:
        >>> cosines = class_cosines(torch.tensor([[3.0, 4.0]]), torch.eye(2))
        >>> [round(cosine, 4) for cosine in cosines[0].tolist()]
        [0.6, 0.8]
    """
    return class_products(normalize(embeddings), weight, num_subcenters)


def margin_softmax(
    embeddings: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    target_logit: str | Callable[[torch.Tensor], torch.Tensor],
    scale: float | torch.Tensor = 64.0,
    num_subcenters: int = 1,
    nontarget_cosine: Modulation | None = None,
    impl: str = 'auto',
    margin: Margin | None = None,
) -> torch.Tensor:
    """Mean margin-softmax loss of a batch.

    It equals, with c = class_cosines(embeddings, weight, num_subcenters)::

        phi = target_logit(c[n, labels[n]])
        c = nontarget_cosine(c)
        c[n, labels[n]] = phi
        cross_entropy(scale * c, labels)

    and is computed in fp32, or the wider type of its inputs, under autocast too. (The first of
    equally near sub-centers gets the gradient; as written they would share it.) ``impl`` is one of

    - ``'reference'``: as written; several N x C matrices.
    - ``'fused'``: block by block over the classes, with one N x (C * K) matrix of products.
    - ``'chunked'``: the same without that matrix, at the cost of a fourth matrix product.
    - ``'auto'``: fused, or chunked where the matrix would exceed 1 GiB.

    Args:
        embeddings: embeddings, (N, D), finite.
        weight: class centers, (C * K, D); the K centers of a class lie together.
        labels: target classes, (N,), integers in [0, C).
        target_logit: function of the N target cosines, (N,) to (N,), which gives phi; see
            :mod:`mmarcface.functional.margins`. Or the name of one with a single margin: 'arcface',
            'cosface', 'sphereface' or 'sphereface_r'.
        scale: s, positive; one number, or one per sample, (N,), which excludes
            ``nontarget_cosine``.
        num_subcenters: number of centers per class, K.
        nontarget_cosine: function of the nontarget cosines, (N, n) for any n of them; the identity
            by default.
        impl: implementation, see above.
        margin: margin for a ``target_logit`` that is given by name, one number or one per sample,
            (N,).

    Returns:
        A scalar; 0 for an empty batch.

    Raises:
        ValueError: if shapes do not fit, a label is outside [0, C), an embedding is not finite,
            ``target_logit`` or ``impl`` is unknown, a number is out of its range, or the scale or
            margin does not go with the other arguments.

    Example:
        >>> embeddings, labels = torch.tensor([[0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> loss = margin_softmax(embeddings, torch.eye(2), labels, 'arcface', scale=8, margin=0.5)
        >>> round(loss.item(), 3)
        0.845
    """
    target_logit = _target_logit(target_logit, margin)
    if not isinstance(scale, torch.Tensor):
        check_number('scale', scale, above=0)
    embeddings, weight, labels = as_loss_inputs(embeddings, weight, labels, num_subcenters)
    implementation = _select_impl(impl, len(labels), weight)
    with torch.autocast(embeddings.device.type, enabled=False):
        directions = normalize(embeddings)
        scale = torch.as_tensor(scale, dtype=weight.dtype, device=weight.device)
        if scale.ndim > 1 or scale.numel() not in (1, len(labels)):
            raise ValueError(
                f'scale must be one number or one per sample, got {tuple(scale.shape)}'
            )
        if nontarget_cosine is not None and (scale.ndim or scale.requires_grad):
            raise ValueError('nontarget_cosine needs a scale that is one constant number')
        rows = scale.expand(len(labels))[:, None]
        if implementation == 'reference':
            cosines = class_products(directions, weight, num_subcenters)
            index = labels[:, None]
            phi = target_logit(cosines.gather(1, index).squeeze(1))[:, None]
            if nontarget_cosine is not None:
                cosines = nontarget_cosine(cosines)
            logits = rows * cosines.scatter(1, index, phi)
            return F.cross_entropy(logits, labels, reduction='sum') / max(len(labels), 1)

        if nontarget_cosine is None:
            # Scaled embeddings save a pass over all products.
            inputs, factor = rows * directions, 1.0
        else:
            inputs, factor = directions, scale.item()
        target, total = nontarget_sums(
            inputs,
            weight,
            labels,
            function=nontarget_cosine,
            scale=factor,
            num_subcenters=num_subcenters,
            keep=implementation == 'fused',
        )
        cosines = target / rows.squeeze(1) if nontarget_cosine is None else target
        # -log(exp(a) / (exp(a) + exp(b))) with a = scale * phi and b = total.
        losses = -F.logsigmoid(rows.squeeze(1) * target_logit(cosines) - total)
        return losses.sum() / max(len(labels), 1)


def linear_softmax(
    embeddings: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    labels: torch.Tensor,
    impl: str = 'auto',
) -> torch.Tensor:
    """Mean softmax cross-entropy of a linear layer, without cosines and margin.

    It equals ``cross_entropy(linear(embeddings, weight, bias), labels)``, and is computed as
    :func:`margin_softmax` is.

    Args:
        embeddings: embeddings, (N, D), finite.
        weight: weight of the layer, (C, D).
        bias: bias of the layer, (C,).
        labels: target classes, (N,), integers in [0, C).
        impl: 'auto', 'reference', 'fused' or 'chunked', as in :func:`margin_softmax`.

    Returns:
        A scalar; 0 for an empty batch.

    Raises:
        ValueError: as :func:`margin_softmax`.

    Example:
        >>> loss = linear_softmax(torch.ones(1, 2), torch.eye(2), torch.zeros(2), torch.tensor([0]))
        >>> round(loss.item(), 4)  # log(2)
        0.6931
    """
    embeddings, weight, labels = as_loss_inputs(embeddings, weight, labels)
    implementation = _select_impl(impl, len(labels), weight)
    with torch.autocast(embeddings.device.type, enabled=False):
        bias = bias.to(weight.dtype)
        if implementation == 'reference':
            logits = F.linear(embeddings, weight, bias)
            return F.cross_entropy(logits, labels, reduction='sum') / max(len(labels), 1)
        target, total = nontarget_sums(
            embeddings,
            weight,
            labels,
            bias=bias,
            normalize_weight=False,
            keep=implementation == 'fused',
        )
        losses = -F.logsigmoid(target + bias[labels] - total)
        return losses.sum() / max(len(labels), 1)


def margin_sigmoid(
    embeddings: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    bias: torch.Tensor,
    target_logit: Callable[[torch.Tensor], torch.Tensor],
    nontarget_cosine: Modulation | None = None,
    scale: float = 64.0,
    nontarget_margin: float = 0.0,
    target_weight: float = 1.0,
    nontarget_weight: float = 1.0,
    num_subcenters: int = 1,
    impl: str = 'auto',
) -> torch.Tensor:
    """Mean over a batch of the weighted sum of one sigmoid cross-entropy per class.

    It equals, with c = class_cosines(embeddings, weight, num_subcenters)::

        own = softplus(-(target_logit(c[n, labels[n]]) + bias))
        others = softplus(scale * (nontarget_cosine(c) + nontarget_margin) + bias)
        others[n, labels[n]] = 0
        mean(target_weight * own + nontarget_weight * others.sum(1))

    and is computed as :func:`margin_softmax` is, in the same types and by the same implementations.

    Args:
        embeddings: embeddings, (N, D), finite.
        weight: class centers, (C * K, D); the K centers of a class lie together.
        labels: target classes, (N,), integers in [0, C).
        bias: one number, (1,), the negative of the threshold that all classes share.
        target_logit: function of the N target cosines, (N,) to (N,), which gives scaled logits.
        nontarget_cosine: function of the nontarget cosines, (N, n) for any n of them; the identity
            by default.
        scale: s of the nontarget classes, positive.
        nontarget_margin: margin that is added to the values of ``nontarget_cosine``.
        target_weight: weight of the target's term, at least 0.
        nontarget_weight: weight of the nontarget terms, at least 0.
        num_subcenters: number of centers per class, K.
        impl: 'auto', 'reference', 'fused' or 'chunked', as in :func:`margin_softmax`.

    Returns:
        A scalar; 0 for an empty batch.

    Raises:
        ValueError: if shapes do not fit, a label is outside [0, C), an embedding is not finite, a
            number is out of its range, or ``impl`` is unknown.

    Example:
        >>> embeddings, labels, bias = torch.tensor([[0.8, 0.6]]), torch.tensor([0]), torch.zeros(1)
        >>> loss = margin_sigmoid(embeddings, torch.eye(2), labels, bias, lambda c: 8 * c, scale=8)
        >>> round(loss.item(), 3)
        4.81
    """
    check_number('scale', scale, above=0)
    check_number('nontarget_margin', nontarget_margin)
    check_number('target_weight', target_weight, minimum=0)
    check_number('nontarget_weight', nontarget_weight, minimum=0)
    embeddings, weight, labels = as_loss_inputs(embeddings, weight, labels, num_subcenters)
    implementation = _select_impl(impl, len(labels), weight)
    with torch.autocast(embeddings.device.type, enabled=False):
        directions, bias = normalize(embeddings), bias.to(weight.dtype)
        of_others = bias + scale * nontarget_margin
        if implementation == 'reference':
            cosines = class_products(directions, weight, num_subcenters)
            index = labels[:, None]
            target = cosines.gather(1, index).squeeze(1)
            if nontarget_cosine is not None:
                cosines = nontarget_cosine(cosines)
            total = _softplus(scale * cosines + of_others).scatter(1, index, 0).sum(1)
        else:
            target, total = nontarget_sums(
                directions,
                weight,
                labels,
                bias=of_others.expand(len(weight) // num_subcenters),
                function=nontarget_cosine,
                scale=scale,
                reduction='softplus',
                num_subcenters=num_subcenters,
                keep=implementation == 'fused',
            )
        losses = target_weight * _softplus(-target_logit(target) - bias) + nontarget_weight * total
        return losses.sum() / max(len(labels), 1)


@torch.no_grad()
def target_cosines(
    embeddings: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, num_subcenters: int = 1
) -> torch.Tensor:
    """Cosine between every embedding and its own class, without gradient.

    Args:
        embeddings: embeddings, (N, D).
        weight: class centers, (C * K, D); the K centers of a class lie together.
        labels: target classes, (N,), integers in [0, C).
        num_subcenters: number of centers per class, K.

    Returns:
        Cosines, (N,): what ``target_logit`` of :func:`margin_softmax` gets, up to rounding.

    Raises:
        ValueError: as :func:`margin_softmax`.

    Example:
        >>> cosines = target_cosines(torch.tensor([[3.0, 4.0]]), torch.eye(2), torch.tensor([1]))
        >>> [round(cosine, 4) for cosine in cosines.tolist()]
        [0.8]
    """
    embeddings, weight, labels = as_loss_inputs(embeddings, weight, labels, num_subcenters)
    centers = weight.unflatten(0, (-1, num_subcenters))[labels]
    return (normalize(embeddings)[:, None] * normalize(centers)).sum(2).amax(1)


def as_loss_inputs(
    embeddings: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, num_subcenters: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Check the inputs of a loss, and cast them to the type it is computed in.

    Args:
        embeddings: embeddings, (N, D).
        weight: class centers, (C * K, D).
        labels: target classes, (N,).
        num_subcenters: number of centers per class, K.

    Returns:
        Embeddings and weight in fp32 or the wider type of the two, and labels in int64.

    Raises:
        ValueError: as :func:`margin_softmax`.

    Example:
        >>> inputs = as_loss_inputs(torch.ones(1, 2).half(), torch.eye(2).half(), torch.tensor([0]))
        >>> [value.dtype for value in inputs]
        [torch.float32, torch.float32, torch.int64]
    """
    if embeddings.ndim != 2 or embeddings.shape[1:] != weight.shape[1:]:
        raise ValueError(
            f'embeddings must be (N, {weight.shape[-1]}), the width of the centers, '
            f'got {tuple(embeddings.shape)}'
        )
    check_number('num_subcenters', num_subcenters, minimum=1, whole=True)
    if len(weight) % num_subcenters:
        raise ValueError(
            f'num_subcenters must divide the {len(weight)} centers, got {num_subcenters}'
        )
    if labels.shape != embeddings.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f'labels must be {len(embeddings)} integers, one per embedding, '
            f'got {tuple(labels.shape)} {labels.dtype}'
        )
    num_classes = len(weight) // num_subcenters
    labels = labels.long()
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, weight.dtype), torch.float)
    with torch.autocast(embeddings.device.type, enabled=False):
        embeddings, weight = embeddings.to(dtype), weight.to(dtype)
        outside = (labels < 0) | (labels >= num_classes)
        broken = ~torch.linalg.vector_norm(embeddings.detach(), dim=1).isfinite()
    # One synchronization with the device for both checks.
    if not (outside | broken).any():
        return embeddings, weight, labels
    if outside.any():
        sample = int(outside.nonzero()[0])
        raise ValueError(
            f'labels must be in [0, {num_classes}), the classes of the head; '
            f'sample {sample} of the batch has {int(labels[sample])}'
        )
    samples = broken.nonzero().squeeze(1).tolist()
    raise ValueError(
        f'embeddings must have a finite length; {len(samples)} samples of the batch have none: '
        f'{", ".join(map(str, samples[:10]))}{", ..." if len(samples) > 10 else ""}'
    )


def _select_impl(impl: str, number: int, weight: torch.Tensor) -> str:
    """The implementation for a size: see :func:`margin_softmax`."""
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f'impl must be one of {IMPLEMENTATIONS}, got {impl!r}')
    if impl != 'auto':
        return impl
    buffer = number * len(weight) * weight.element_size()
    return 'fused' if buffer <= MAX_BUFFER_BYTES else 'chunked'


def _target_logit(
    target_logit: str | Callable[[torch.Tensor], torch.Tensor], margin: Margin | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    if callable(target_logit):
        if margin is not None:
            raise ValueError(
                'margin must be None where target_logit is a function, which has its own; '
                f'got {margin!r}'
            )
        return target_logit
    if not isinstance(target_logit, str) or target_logit not in MARGINS:
        raise ValueError(
            f'target_logit must be a function or one of {list(MARGINS)}, got {target_logit!r}'
        )
    if margin is None:
        raise ValueError(f'margin must be given for target_logit={target_logit!r}, got None')
    return partial(MARGINS[target_logit], margin=margin)


def _softplus(logits: torch.Tensor) -> torch.Tensor:
    """log(1 + exp(z)), exact in fp64 too."""
    return F.softplus(logits, threshold=40)
