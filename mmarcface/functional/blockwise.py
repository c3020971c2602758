"""Sums over the nontarget classes, block by block: the expensive part of every loss here.

A loss over C classes compares each of N embeddings with one target, which is cheap, and with C - 1
other classes, which is a matrix of N x C. Only the second part is done here, so that a margin on
the target costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

from .nontarget import Modulation
from .vectors import EPS, normalize

# Products of embeddings and classes in a block. On a CPU, 2^18 products and their centers stay in
# the cache from step to step; a GPU needs more work at a time.
PRODUCTS_PER_BLOCK = {'cpu': 1 << 18, 'cuda': 1 << 23}
MIN_CLASSES_PER_BLOCK = 256
REDUCTIONS = ('logsumexp', 'softplus')


def class_products(
    embeddings: torch.Tensor,
    weight: torch.Tensor,
    num_subcenters: int = 1,
    normalize_weight: bool = True,
) -> torch.Tensor:
    """Inner product of every embedding with every class, the naive way.

    With sub-centers, the product of a class is the largest product of its centers (`Sub-center
    ArcFace <https://doi.org/10.1007/978-3-030-58621-8_43>`_, equation 4).

    Args:
        embeddings: embeddings, (N, D).
        weight: class centers, (C * K, D); the K centers of a class lie together.
        num_subcenters: number of centers per class, K.
        normalize_weight: whether to normalize the centers first.

    Returns:
        Products, (N, C).

    Example:
        >>> centers = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> class_products(torch.tensor([[3.0, 4.0]]), centers).tolist()
        [[3.0, 4.0, -3.0, -4.0]]
        >>> class_products(torch.tensor([[3.0, 4.0]]), centers, num_subcenters=2).tolist()
        [[4.0, -3.0]]
    """
    products = embeddings @ (normalize(weight) if normalize_weight else weight).T
    if num_subcenters > 1:
        products = products.unflatten(1, (-1, num_subcenters)).amax(2)
    return products


# torch.compile would unroll the loop over blocks.
@torch.compiler.disable
def nontarget_sums(
    embeddings: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    bias: torch.Tensor | None = None,
    function: Modulation | None = None,
    scale: float = 1.0,
    reduction: str = 'logsumexp',
    num_subcenters: int = 1,
    normalize_weight: bool = True,
    keep: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Product with the target class, and a sum over the logits of the nontarget classes.

    It equals, with p = class_products(embeddings, weight, num_subcenters, normalize_weight)::

        z = scale * function(p) + bias
        z[n, labels[n]] = -inf
        target = p[n, labels[n]]
        total = logsumexp(z, 1)  # or softplus(z).sum(1)

    but is computed block by block over the classes. The gradient needs the products again:
    ``keep=True`` stores them (N * C * K numbers), ``keep=False`` recomputes them (a fourth matrix
    product). Apart from the weight and its gradient, one number per center is all the memory that
    grows with C.

    Args:
        embeddings: embeddings, (N, D).
        weight: class centers, (C * K, D); the K centers of a class lie together.
        labels: target class of each embedding, (N,), int64, in [0, C).
        bias: bias that is added to the logits, (C,).
        function: function of the nontarget products, (N, n) for any n of them; the identity by
            default. Tensors that it closes over get no gradient.
        scale: factor on the values of ``function``.
        reduction: 'logsumexp' or 'softplus'.
        num_subcenters: number of centers per class, K.
        normalize_weight: whether to normalize the centers first.
        keep: whether to store the products for the gradient.

    Returns:
        ``target`` and ``total``, each (N,). The total over no classes is -inf for 'logsumexp' and 0
        for 'softplus'.

    Raises:
        ValueError: if ``reduction`` is unknown.
        RuntimeError: in a backward pass with ``create_graph``: there is no second derivative.

    Example:
        >>> target, total = nontarget_sums(torch.ones(1, 2), torch.eye(2), torch.tensor([0]))
        >>> target.tolist(), total.tolist()
        ([1.0], [1.0])
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction must be one of {REDUCTIONS}, got {reduction!r}')
    options = _Options(
        function,
        scale,
        reduction,
        num_subcenters,
        normalize_weight,
        keep and torch.is_grad_enabled(),
    )
    return _NontargetSums.apply(embeddings, weight, bias, labels, options)


@dataclass(frozen=True)
class _Options:
    """Arguments of :func:`nontarget_sums` that are not tensors."""

    function: Modulation | None
    scale: float
    reduction: str
    num_subcenters: int
    normalize_weight: bool
    keep: bool


class _Block:
    """A run of classes: their centers, and the samples whose target is one of them."""

    def __init__(self, centers: torch.Tensor, first: int, rows: torch.Tensor, labels: torch.Tensor):
        self.centers = centers  # (n, K, D)
        self.classes = slice(first, first + len(centers))
        self.targets = rows, labels[rows] - first

    def inverse_norms(self) -> torch.Tensor:
        """Inverse norms of the centers, (n, K); 0 for a zero vector."""
        norms = torch.linalg.vector_norm(self.centers, dim=2)
        return norms.reciprocal().masked_fill_(norms <= EPS, 0)

    def shape(self, x: torch.Tensor) -> tuple[int, int, int]:
        """Shape of the products with embeddings x, (K, N, n)."""
        n, num_subcenters, _ = self.centers.shape
        return num_subcenters, len(x), n

    def multiply(
        self, x: torch.Tensor, inverse_norms: torch.Tensor | None, out: torch.Tensor
    ) -> None:
        """Fill ``out``, (K, N, n), with the products of embeddings and centers."""
        for k, products in enumerate(out):
            torch.mm(x, self.centers[:, k].T, out=products)
            if inverse_norms is not None:
                products *= inverse_norms[self.classes, k]


def _blocks(centers: torch.Tensor, labels: torch.Tensor) -> Iterator[_Block]:
    """Blocks of all classes of the centers, (C, K, D), in order."""
    size = _block_size(centers, labels)
    firsts = range(0, len(centers), size)
    order = labels.argsort()
    edges = torch.tensor([*firsts, len(centers)], device=labels.device)
    edges = torch.searchsorted(labels[order], edges).tolist()
    for first, (start, end) in zip(firsts, pairwise(edges), strict=True):
        yield _Block(centers[first : first + size], first, order[start:end], labels)


def _block_size(centers: torch.Tensor, labels: torch.Tensor) -> int:
    products = PRODUCTS_PER_BLOCK.get(labels.device.type, PRODUCTS_PER_BLOCK['cuda'])
    return max(MIN_CLASSES_PER_BLOCK, products // max(len(labels) * centers.shape[1], 1))


def _shaped(buffer: torch.Tensor, *shape: int) -> torch.Tensor:
    """A view of the first elements of a buffer: allocation would cost more than the arithmetic."""
    return buffer[: math.prod(shape)].view(shape)


def _affine(
    values: torch.Tensor,
    scale: float,
    bias: torch.Tensor | None,
    block: _Block,
    scratch: torch.Tensor,
) -> torch.Tensor:
    """Scale * values + bias in the memory of ``scratch``; the values where nothing changes."""
    if bias is not None:
        out = _shaped(scratch, *values.shape)
        return torch.add(bias[block.classes], values, alpha=scale, out=out)
    return values if scale == 1 else torch.mul(values, scale, out=_shaped(scratch, *values.shape))


def _sum_of_softplus(logits: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
    """log(1 + exp(z)) summed over the columns, without the slow logarithm of every element.

    It is max(z, 0) + log(1 + e) with e = exp(-|z|), and (1 + a)(1 + b) = 1 + (a + b + ab).
    """
    positive = logits.clamp(min=0).sum(1)
    # This may overwrite the logits, which often lie in the same memory.
    folded = torch.abs(logits, out=scratch).neg_().exp_()
    # After six folds a factor is at most 2^64, far from overflow.
    for _ in range(6):
        half = (folded.shape[1] + 1) // 2
        folded, others = folded[:, :half], folded[:, half:]
        partners = folded[:, : others.shape[1]]
        partners.addcmul_(others, partners + 1)
    return positive + folded.log1p().sum(1)


def _nearest(products: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
    """Maximum over the centers, (K, N, n) to (N, n); with one center the products themselves."""
    nearest = products[0]
    for other in products[1:]:
        nearest = torch.maximum(nearest, other, out=_shaped(scratch, *other.shape))
    return nearest


def _to_nearest(
    gradient: torch.Tensor, nearest: torch.Tensor, products: torch.Tensor
) -> Iterator[torch.Tensor]:
    """Gradient of :func:`_nearest` to each center; of equally near ones the first gets it."""
    for own in products[:-1]:
        share = gradient * (own == nearest)
        gradient = gradient - share
        yield share
    yield gradient


class _NontargetSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, labels, options: _Options):
        number, centers = len(x), weight.unflatten(0, (-1, options.num_subcenters))
        inverse_norms = x.new_empty(centers.shape[:2]) if options.normalize_weight else None
        target = x.new_empty(number)
        total = x.new_zeros(number)
        highest = x.new_full((number,), torch.finfo(x.dtype).min)
        in_block = number * min(_block_size(centers, labels), len(centers))
        scratch, scratch_nearest = x.new_empty(in_block), x.new_empty(in_block)
        buffer = None if options.keep else x.new_empty(options.num_subcenters * in_block)
        kept = []
        for block in _blocks(centers, labels):
            if inverse_norms is not None:
                inverse_norms[block.classes] = block.inverse_norms()
            # Allocated block by block: the allocator keeps such memory from step to step.
            shape = block.shape(x)
            products = x.new_empty(shape) if options.keep else _shaped(buffer, *shape)
            block.multiply(x, inverse_norms, out=products)
            if options.keep:
                kept.append(products)
            nearest = _nearest(products, scratch_nearest)
            target[block.targets[0]] = nearest[block.targets]
            values = nearest if options.function is None else options.function.value(nearest)
            logits = _affine(values, options.scale, bias, block, scratch)
            # Restored below, since the logits may be the kept products themselves.
            own = logits[block.targets]
            logits[block.targets] = -torch.inf
            if options.reduction == 'logsumexp':
                higher = torch.maximum(highest, logits.amax(1))
                terms = torch.sub(logits, higher[:, None], out=_shaped(scratch, *logits.shape))
                terms.exp_()
                total = total * (highest - higher).exp_() + terms.sum(1)
                highest = higher
            else:
                total += _sum_of_softplus(logits, _shaped(scratch, *logits.shape))
            logits[block.targets] = own
        if options.reduction == 'logsumexp':
            total = highest + total.log()
        ctx.save_for_backward(x, weight, bias, labels, inverse_norms, total, *kept)
        ctx.options = options
        return target, total

    @staticmethod
    def backward(ctx, of_target, of_total):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "impl='fused' and 'chunked' have no second derivative (create_graph=True): "
                "use impl='reference'"
            )
        x, weight, bias, labels, inverse_norms, total, *kept = ctx.saved_tensors
        options = ctx.options
        number, centers = len(x), weight.unflatten(0, (-1, options.num_subcenters))
        for_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        for_centers = torch.empty_like(centers) if ctx.needs_input_grad[1] else None
        for_bias = torch.empty_like(bias) if ctx.needs_input_grad[2] else None
        total = total.clamp(min=torch.finfo(total.dtype).min)
        in_block = number * min(_block_size(centers, labels), len(centers))
        scratch, scratch_along = x.new_empty(in_block), x.new_empty(in_block)
        scratch_nearest = x.new_empty(in_block)
        buffer = None if kept else x.new_empty(options.num_subcenters * in_block)
        for i, block in enumerate(_blocks(centers, labels)):
            products = kept[i] if kept else _shaped(buffer, *block.shape(x))
            if not kept:
                block.multiply(x, inverse_norms, out=products)
            nearest = _nearest(products, scratch_nearest)
            values = nearest if options.function is None else options.function.value(nearest)
            logits = _affine(values, options.scale, bias, block, scratch)
            gradient = _shaped(scratch, *nearest.shape)
            if options.reduction == 'logsumexp':
                torch.sub(logits, total[:, None], out=gradient).exp_()
            else:
                torch.sigmoid(logits, out=gradient)
            gradient *= of_total[:, None]
            if for_bias is not None:
                gradient[block.targets] = 0
                for_bias[block.classes] = gradient.sum(0)
            if options.function is not None:
                gradient *= options.function.slope(nearest, values)
            if options.scale != 1:
                gradient *= options.scale
            gradient[block.targets] = of_target[block.targets[0]]
            for k, share in enumerate(_to_nearest(gradient, nearest, products)):
                own = block.centers[:, k]
                if inverse_norms is not None:
                    inverse = inverse_norms[block.classes, k]
                    along = torch.mul(share, products[k], out=_shaped(scratch_along, *share.shape))
                    along = along.sum(0) * inverse.square()
                    share = share.mul_(inverse)
                if for_x is not None:
                    for_x.addmm_(share, own)
                if for_centers is not None:
                    of_own = for_centers[block.classes, k]
                    torch.mm(share.T, x, out=of_own)
                    if inverse_norms is not None:
                        # A center gains nothing along its own direction.
                        of_own.addcmul_(own, along[:, None], value=-1)
        if for_centers is not None:
            for_centers = for_centers.view_as(weight)
        return for_x, for_centers, for_bias, None, None
