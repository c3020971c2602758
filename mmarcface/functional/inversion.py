"""Inversion of a trained network: the terms of its objective, and checks of its BN layers."""

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
    """Statistics of one BN layer, of a batch and of the training set; four vectors (C,).

    Attributes:
        name: name of the layer in the model.
        mean: mean of the batch over images and positions, with a gradient to the images.
        var: population variance of the batch (not Bessel's), with a gradient; a single value has 0.
        running_mean: mean of the training set.
        running_var: variance of the training set.

    Example:
        >>> with batch_statistics(dict(bn=nn.BatchNorm2d(1))) as found:
        ...     pass
        >>> found
        []
    """

    name: str
    mean: torch.Tensor
    var: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor


class _Moments(torch.autograd.Function):
    """Identity that also gives mean and variance; its gradient takes one pass over the input."""

    @staticmethod
    def forward(ctx, inputs: torch.Tensor, own_gradient: bool) -> tuple[torch.Tensor, ...]:
        # Sums of half-precision numbers need fp32.
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
    """The layers of a model that store the mean and variance of its training set.

    Args:
        model: any module.

    Returns:
        By name, every layer with ``running_mean`` and ``running_var``: BatchNorm1d to 3d,
        SyncBatchNorm, torchvision's frozen ones; not InstanceNorm, whose statistics are per image.

    Raises:
        ValueError: if there is none.

    Example:
        >>> list(batch_norm_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))))
        ['1']
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
            f'{type(model).__name__} has no batch normalization with running statistics, which the '
            'BN prior needs. If the model was built without (LayerNorm, '
            'track_running_stats=False), set the weight of the BN term to 0; if BN was folded into '
            'the convolutions for deployment, use the checkpoint from before'
        )
    return layers


def check_trained(layers: dict[str, nn.Module]) -> None:
    """Raise an error if all BN layers are as they were created: the model has not been trained.

    Args:
        layers: BN layers by name, from :func:`batch_norm_layers`.

    Raises:
        ValueError: if there are layers, and all have mean 0 and variance 1.

    Example:
        >>> layer = nn.BatchNorm2d(8)
        >>> _ = layer(torch.randn(4, 8, 5, 5))
        >>> check_trained(dict(bn=layer))  # no error
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
    """Record the batch statistics of BN layers, in one pass over their inputs.

    Args:
        layers: BN layers by name, from :func:`batch_norm_layers`.

    Yields:
        A list of :class:`BatchStatistics`, to which each call of a layer appends one, in order.

    Example:
        >>> layer = nn.BatchNorm1d(1)
        >>> with batch_statistics(dict(bn=layer)) as found:
        ...     _ = layer(torch.tensor([[1.0], [3.0]]))
        >>> found[0].name, found[0].mean.item(), found[0].var.item()
        ('bn', 2.0, 1.0)
    """
    collected: list[BatchStatistics] = []

    def watch(name: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]):
            # torch's layers allocate their gradient, so it may be added to in place: another
            # allocation would take longer than the sum where maps are large.
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
    """Distance of a batch from the training set, by the statistics of the BN layers.

    Args:
        statistics: statistics from :func:`batch_statistics`.
        variant: 'arcface', the sum over layers of ||mean - running mean||^2 + ||std - running
            std||^2 (`ArcFace <https://arxiv.org/abs/1801.07698>`_, section 3.3); 'standardized',
            the same in units of each channel's running std, so that layers with large activations
            do not dominate (channels below a tenth of their layer's std count less); or
            'deepinversion', the sum of ||mean - running mean|| + ||var - running var||, of norms
            that are not squared and of variances, ten times for the first layer (`DeepInversion
            <https://arxiv.org/abs/1912.08795>`_, equation 4).

    Returns:
        A scalar, in fp32 or wider.

    Raises:
        ValueError: if the variant is unknown, or there are no statistics.

    Example:
        >>> zero, one, three, four = torch.tensor([0.0, 1.0, 3.0, 4.0]).split(1)
        >>> bn_prior([BatchStatistics('bn', three, four, zero, one)]).item()
        10.0
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
            # Without the floor, channels that hardly vary drown all others. 1e-5 is BN's epsilon.
            floor = 0.01 * layer.running_var.mean() + 1e-5
            gaps = gaps / (layer.running_var + floor)
        total = total + gaps.sum()
    return total


def _root(var: torch.Tensor) -> torch.Tensor:
    """Square root whose gradient is 0 instead of infinity where a channel is constant."""
    positive = var > 0
    return torch.where(positive, torch.where(positive, var, 1).sqrt(), 0)


def total_variation(images: torch.Tensor, variant: str = 'squared') -> torch.Tensor:
    """Roughness of images: differences of neighboring pixels.

    Args:
        images: images, (N, C, H, W).
        variant: 'squared', the sum of the squared differences of vertical and horizontal neighbors,
            averaged over the images (`Mahendran and Vedaldi <https://arxiv.org/abs/1412.0035>`_,
            equation 5 with beta = 2); or 'deepinversion', the L2 norms of the differences in four
            directions, diagonals included, each over the whole batch (its published code).

    Returns:
        A scalar.

    Raises:
        ValueError: if the variant is unknown.

    Example:
        >>> total_variation(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])).item()
        10.0
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
    """Squared L2 norm of an image, averaged over the images.

    Args:
        images: images, (N, C, H, W).

    Returns:
        A scalar; 0 for no images.

    Example:
        >>> squared_l2_norm(torch.ones(2, 3, 4, 4)).item()
        48.0
    """
    return images.square().sum() / max(len(images), 1)


def squared_l2_distances(embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Squared L2 distance between normalized embeddings and targets, 2 - 2 cos.

    This is the term of ArcFace, section 3.3, for identities without a class. Both vectors are
    normalized, as embeddings are wherever they are compared.

    Args:
        embeddings: embeddings of any length, (N, D).
        targets: target embeddings of any length, (N, D).

    Returns:
        Distances, (N,), in [0, 4].

    Example:
        >>> squared_l2_distances(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])).tolist()
        [2.0]
    """
    unit = [nn.functional.normalize(vectors, dim=1) for vectors in (embeddings, targets)]
    return (unit[0] - unit[1]).square().sum(1)
