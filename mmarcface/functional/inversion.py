"""What makes an image out of a trained network: the terms of the objective, and a guard for BN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.function import once_differentiable

BN_PRIORS = ('arcface', 'deepinversion', 'standardized')
TOTAL_VARIATIONS = ('squared', 'deepinversion')


@dataclass(frozen=True)
class BatchStatistics:
    """What one BN layer saw in a batch, and what it had seen in training; four vectors (C,).

    Attributes:
        name: of the layer in the model.
        mean: over batch and positions, with a gradient to the images.
        var: the same; not Bessel's but the population variance, so that one value has 0.
        running_mean: of training.
        running_var: of training.
    """

    name: str
    mean: torch.Tensor
    var: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor


class _Moments(torch.autograd.Function):
    """The input as it is, with its mean and variance, for one pass over the gradient."""

    @staticmethod
    def forward(ctx, inputs: torch.Tensor, own_gradient: bool) -> tuple[torch.Tensor, ...]:
        # The sums of half precision numbers need fp32.
        wide = inputs.to(torch.promote_types(inputs.dtype, torch.float))
        mean, var = torch.batch_norm_update_stats(wide, None, None, 0.0)
        ctx.save_for_backward(inputs, mean)
        ctx.own_gradient = own_gradient
        return inputs.view_as(inputs), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx, of_output, of_mean, of_var) -> tuple[torch.Tensor, None]:
        inputs, mean = ctx.saved_tensors
        shape = (1, -1, *[1] * (inputs.dim() - 2))
        count = inputs.numel() / inputs.shape[1]
        factor = 2 / count * of_var
        constant = of_mean / count - factor * mean
        factor, constant = (v.view(shape).to(inputs.dtype) for v in (factor, constant))
        if not ctx.own_gradient:
            of_output = of_output.clone()
        return of_output.addcmul_(inputs, factor).add_(constant), None


def batch_norm_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of a model that carry the means and variances of what it was trained on.

    Args:
        model: any module.

    Returns:
        By name, every layer with ``running_mean`` and ``running_var``: BatchNorm1d to 3d,
        SyncBatchNorm, frozen ones of torchvision; not InstanceNorm, which has them per image.

    Raises:
        ValueError: if there is none.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if getattr(module, 'running_mean', None) is not None
        and getattr(module, 'running_var', None) is not None
        and not isinstance(module, nn.modules.instancenorm._InstanceNorm)
    }
    if not layers:
        raise ValueError(
            f'{type(model).__name__} has no batch normalization with running statistics, of which '
            'the BN prior reads what the training images looked like. Either it was built without '
            '(LayerNorm, track_running_stats=False), or BN was folded into the convolutions for '
            'deployment: take the checkpoint from before, or set the weight of the BN term to 0'
        )
    return layers


def check_trained(layers: dict[str, nn.Module]) -> None:
    """Refuse layers that have seen nothing yet.

    Args:
        layers: see :func:`batch_norm_layers`.

    Raises:
        ValueError: if there are some, and all are as they were created.
    """
    if layers and all(
        not layer.running_mean.any() and bool((layer.running_var == 1).all())
        for layer in layers.values()
    ):
        raise ValueError(
            f'all {len(layers)} batch normalizations have mean 0 and variance 1, as before any '
            'training: load a trained checkpoint, or set the weight of the BN term to 0'
        )


@contextmanager
def batch_statistics(layers: dict[str, nn.Module]) -> Iterator[list[BatchStatistics]]:
    """Collect the statistics of all that passes through BN layers, in one pass over the inputs.

    Args:
        layers: see :func:`batch_norm_layers`.

    Yields:
        A list that every forward pass appends to, one entry for each call of a layer, in order.
    """
    collected: list[BatchStatistics] = []

    def watch(name: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]):
            # torch's layers make the gradient anew: adding to it in place saves an allocation,
            # which for large maps takes longer than the sum.
            own_gradient = isinstance(module, nn.modules.batchnorm._BatchNorm)
            output, mean, var = _Moments.apply(inputs[0], own_gradient)
            running = module.running_mean, module.running_var
            collected.append(BatchStatistics(name, mean, var, *running))
            return (output, *inputs[1:])

        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()


def bn_prior(statistics: Sequence[BatchStatistics], variant: str = 'arcface') -> torch.Tensor:
    """How far a batch is from what the network was trained on, by its BN layers.

    Args:
        statistics: of :func:`batch_statistics`.
        variant: 'arcface', the sum over layers of ||mean - running mean||^2 +
            ||std - running std||^2 (`ArcFace <https://arxiv.org/abs/1801.07698>`_, section 3.3);
            'standardized', the same in units of each channel's running std, so that layers of
            large activations do not decide alone (channels of less than a tenth of their layer's
            std count less); or 'deepinversion', the sum of ||mean - running mean|| +
            ||var - running var||, not squared and of variances, ten times for the first layer
            (`DeepInversion <https://arxiv.org/abs/1912.08795>`_, equation 4).

    Returns:
        A scalar, in fp32 or wider.

    Raises:
        ValueError: if the variant is unknown, or there are no statistics.
    """
    if variant not in BN_PRIORS:
        raise ValueError(f'the variant of the BN prior must be one of {BN_PRIORS}, got {variant!r}')
    if not statistics:
        raise ValueError(
            'no batch passed through a BN layer: the model was not run, or not in full'
        )
    total = 0.0
    for index, layer in enumerate(statistics):
        mean_gap = layer.mean - layer.running_mean
        if variant == 'deepinversion':
            var_gap = layer.var - layer.running_var
            norms = torch.linalg.vector_norm(mean_gap) + torch.linalg.vector_norm(var_gap)
            total = total + norms * (1 if index else 10)
            continue
        gaps = mean_gap.square() + (_root(layer.var) - _root(layer.running_var)).square()
        if variant == 'standardized':
            # A channel that hardly ever moved would drown all others; and BN's own epsilon.
            floor = 0.01 * layer.running_var.mean() + 1e-5
            gaps = gaps / (layer.running_var + floor)
        total = total + gaps.sum()
    return total


def _root(var: torch.Tensor) -> torch.Tensor:
    """Square root with the gradient 0, in place of infinity, where a channel is constant."""
    positive = var > 0
    return torch.where(positive, torch.where(positive, var, 1).sqrt(), 0)


def total_variation(images: torch.Tensor, variant: str = 'squared') -> torch.Tensor:
    """How rough images are.

    Args:
        images: (N, C, H, W).
        variant: 'squared', the sum of the squared differences of vertical and horizontal
            neighbors, mean over the images (`Mahendran and Vedaldi
            <https://arxiv.org/abs/1412.0035>`_, equation 5 with beta = 2); or 'deepinversion', the
            L2 norms of the differences in four directions, diagonals included, each over the whole
            batch (its published code).

    Returns:
        A scalar.

    Raises:
        ValueError: if the variant is unknown.
    """
    if variant not in TOTAL_VARIATIONS:
        raise ValueError(
            f'the variant of the total variation must be one of {TOTAL_VARIATIONS}, got {variant!r}'
        )
    down = images[..., 1:, :] - images[..., :-1, :]
    right = images[..., 1:] - images[..., :-1]
    if variant == 'squared':
        return (down.square().sum() + right.square().sum()) / max(len(images), 1)
    falling = images[..., 1:, 1:] - images[..., :-1, :-1]
    rising = images[..., 1:, :-1] - images[..., :-1, 1:]
    return sum(torch.linalg.vector_norm(gap) for gap in (down, right, falling, rising))


def squared_l2_norm(images: torch.Tensor) -> torch.Tensor:
    """Squared L2 norm of an image, (N, C, H, W), mean over the images."""
    return images.square().sum() / max(len(images), 1)


def squared_l2_distances(embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Squared distance between unit embeddings and targets, 2 - 2 cos.

    The term of ArcFace, section 3.3, for identities without a class. Both are brought to length 1,
    as all comparisons of embeddings do: the length of a target, which may come from a gallery of
    unit vectors, plays no part.

    Args:
        embeddings: (N, D), of any length.
        targets: (N, D), of any length.

    Returns:
        (N,), in [0, 4].
    """
    unit = [nn.functional.normalize(vectors, dim=1) for vectors in (embeddings, targets)]
    return (unit[0] - unit[1]).square().sum(1)
