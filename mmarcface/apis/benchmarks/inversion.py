"""Speed of inverting a net."""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mmarcface.functional.inversion import (
    batch_norm_layers,
    batch_statistics,
    bn_prior,
    squared_l2_norm,
    total_variation,
)
from mmarcface.models import ArcFaceHead, IResNet

from .timing import best_times


def measure_inversion(
    depth: int = 18, batch: int = 16, size: int = 112, device: str = 'cpu', rounds: int = 15
) -> list[dict]:
    """A step of an inversion, against the bare net and the hooks of DeepInversion.

    limit_ms: forward and backward to the images of the net and its loss, the weights frozen.
    ours_ms: the same with BN prior, total variation, norm and Adam. hooks_ms: the published code of
    DeepInversion, a hook on each BN layer that computes mean and variance separately, and a
    backward pass to all weights. hooks_frozen_ms: the same with frozen weights.

    Args:
        depth: depth of the IResNet.
        batch: number of images that are searched for together.
        size: width and height of the images in pixels.
        device: device of the net.
        rounds: number of rounds, of which the fastest counts.

    Returns:
        One row.
    """
    torch.manual_seed(0)
    net = IResNet(depth, input_size=size)
    head = ArcFaceHead(1000, 512)
    layers = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    for layer in layers:
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    model = torch.nn.ModuleDict(dict(net=net, head=head)).to(device).eval()
    images = torch.randn(batch, 3, size, size).to(device).requires_grad_()
    labels = torch.arange(batch, device=device)
    adam = torch.optim.Adam([images], lr=1e-3)
    named = batch_norm_layers(net)

    def loss() -> torch.Tensor:
        return head.class_loss(net(images)[0], labels)['loss']

    def limit() -> None:
        model.requires_grad_(False)
        torch.autograd.grad(loss(), images)

    def ours() -> None:
        model.requires_grad_(False)
        with batch_statistics(named) as statistics:
            total = loss()
        total = total + 0.05 * bn_prior(statistics) + 1e-3 * total_variation(images)
        total = total + 1e-4 * squared_l2_norm(images)
        (images.grad,) = torch.autograd.grad(total, images)
        adam.step()

    def hooks(frozen: bool) -> None:
        model.requires_grad_(not frozen)
        gaps = []

        def compare(layer, inputs, _):
            (x,) = inputs
            mean = x.mean([d for d in range(x.dim()) if d != 1])
            var = x.transpose(0, 1).contiguous().view(x.shape[1], -1).var(1, unbiased=False)
            gap = torch.norm(layer.running_var - var) + torch.norm(layer.running_mean - mean)
            gaps.append(gap)

        handles = [layer.register_forward_hook(compare) for layer in layers]
        total = loss() + 0.05 * sum(gaps) + 1e-4 * total_variation(images, 'deepinversion')
        total = total + 1e-5 * images.flatten(1).norm(dim=1).mean()
        adam.zero_grad()
        model.zero_grad()
        total.backward()
        adam.step()
        for handle in handles:
            handle.remove()

    candidates = dict(
        limit=limit, ours=ours, hooks=lambda: hooks(False), hooks_frozen=lambda: hooks(True)
    )
    for run in candidates.values():
        run()
    ms = {name: 1000 * value for name, value in best_times(candidates, rounds).items()}
    return [
        {f'{name}_ms': value for name, value in ms.items()}
        | {
            'ours / limit': ms['ours'] / ms['limit'],
            'hooks / ours': ms['hooks'] / ms['ours'],
            'hooks_frozen / ours': ms['hooks_frozen'] / ms['ours'],
        }
    ]
