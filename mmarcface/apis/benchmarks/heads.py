"""Speed and memory of heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmpretrain.models.heads import ArcFaceClsHead
from mmpretrain.structures import DataSample

from mmarcface.registry import MODELS

from .timing import best_times, peak_extra_memory, resident

LOSSES = {
    'softmax': 'SoftmaxHead',
    'norm-softmax': 'NormSoftmaxHead',
    'sphereface': 'SphereFaceHead',
    'sphereface-r': 'SphereFaceRHead',
    'sphereface2': 'SphereFace2Head',
    'cosface': 'CosFaceHead',
    'arcface': 'ArcFaceHead',
    'combined-margin': 'CombinedMarginHead',
    'magface': 'MagFaceHead',
    'adaface': 'AdaFaceHead',
    'curricularface': 'CurricularFaceHead',
    'elasticface': 'ElasticFaceHead',
    'uniface': 'UniFaceHead',
}


def measure_heads(
    classes: Sequence[int],
    losses: Sequence[str] = ('arcface',),
    implementations: Sequence[str] = ('fused', 'chunked'),
    batch: int = 128,
    dim: int = 512,
    subcenters: int = 1,
    peers: bool = True,
    device: str = 'cpu',
    rounds: int = 15,
) -> list[dict]:
    """Forward and backward of a head, against three bare matrix products and other libraries.

    ms: shortest time of the rounds. ratio: that time divided by the limit, the products of
    embeddings, centers and gradients that every implementation needs. extra_mb: peak memory beyond
    weight, gradient and embeddings. buffers: the same in matrices of batch x classes x sub-centers.

    Args:
        classes: numbers of classes.
        losses: names of the losses, of :data:`LOSSES`.
        implementations: names of the implementations.
        batch: number of embeddings.
        dim: width of the embeddings.
        subcenters: number of centers of each class.
        peers: whether to measure other libraries, beside the first loss.
        device: device of the head.
        rounds: number of rounds, of which the fastest counts.

    Returns:
        A row for each number of classes, loss and implementation, and one for the limit.
    """
    rows = []
    for number in classes:
        for loss in losses:
            with_peers = peers and loss == losses[0]
            rows += _head_rows(
                number, loss, implementations, batch, dim, subcenters, with_peers, device, rounds
            )
    return rows


def _head_rows(
    number: int,
    loss: str,
    implementations: Sequence[str],
    batch: int,
    dim: int,
    subcenters: int,
    peers: bool,
    device: str,
    rounds: int,
) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(batch, dim, generator=generator).to(device)
    labels = torch.randint(number, (batch,), generator=generator)
    samples = [DataSample().set_gt_label(label) for label in labels.tolist()]
    options = {} if loss == 'softmax' else dict(num_subcenters=subcenters)
    centers = number * options.get('num_subcenters', 1)
    weight = torch.randn(centers, dim, generator=generator) / 100
    weight = torch.nn.Parameter(weight.to(device))

    @torch.no_grad()
    def products() -> tuple[torch.Tensor, torch.Tensor]:
        logits = embeddings @ weight.T
        return logits @ weight, logits.T @ embeddings

    def of_head(module: torch.nn.Module) -> Callable[[], None]:
        def run() -> None:
            inputs = embeddings.clone().requires_grad_()
            sum(module.loss((inputs,), samples).values()).backward()
            module.zero_grad(set_to_none=True)

        return run

    candidates = {'limit': products}
    for impl in implementations:
        config = dict(num_classes=number, in_channels=dim, impl=impl, **options)
        module = MODELS.build(dict(type=LOSSES[loss], **config)).to(device)
        module.weight = weight
        candidates[f'{loss}, {impl}'] = of_head(module)
    if peers:
        number_of_centers = options.get('num_subcenters', 1)
        module = ArcFaceClsHead(number, dim, number_of_centers, scale=64.0, margins=0.5)
        module.norm_product.weight = weight
        candidates['mmpretrain, ArcFaceClsHead'] = of_head(module.to(device))
        candidates |= _pytorch_metric_learning(number, subcenters, embeddings, labels)
    for run in candidates.values():
        run()
    extra = {name: peak_extra_memory(run, device) for name, run in candidates.items()}
    seconds = best_times(candidates, rounds)
    gradient, buffer = weight.nbytes, 4 * batch * centers
    return [
        {
            'head': name,
            'classes': number,
            'ms': 1000 * seconds[name],
            'ratio': seconds[name] / seconds['limit'],
            'us/class': 1e6 * seconds[name] / number,
            'extra_mb': extra[name] and (extra[name] - gradient) / 1e6,
            'buffers': extra[name] and (extra[name] - gradient) / buffer,
        }
        for name in candidates
    ]


def _pytorch_metric_learning(
    number: int, subcenters: int, embeddings: torch.Tensor, labels: torch.Tensor
) -> dict[str, Callable[[], None]]:
    try:
        from pytorch_metric_learning.losses import ArcFaceLoss, SubCenterArcFaceLoss
    except ImportError:
        print('missing: pytorch-metric-learning (pip install pytorch-metric-learning)')
        return {}
    options = dict(num_classes=number, embedding_size=embeddings.shape[1])
    if subcenters == 1:
        module = ArcFaceLoss(**options)
    else:
        module = SubCenterArcFaceLoss(**options, sub_centers=subcenters)
    module, labels = module.to(embeddings.device), labels.to(embeddings.device)

    def run() -> None:
        module(embeddings.clone().requires_grad_(), labels).backward()
        module.zero_grad(set_to_none=True)

    return {f'pytorch-metric-learning, {type(module).__name__}': run}


def measure_step(
    classes: int = 1_000_000,
    loss: str = 'arcface',
    implementation: str = 'auto',
    batch: int = 512,
    dim: int = 512,
    subcenters: int = 1,
    rounds: int = 15,
) -> list[dict]:
    """Training steps of a head with SGD and momentum: time and resident memory.

    Args:
        classes: number of classes.
        loss: name of the loss, of :data:`LOSSES`.
        implementation: name of the implementation.
        batch: number of embeddings.
        dim: width of the embeddings.
        subcenters: number of centers of each class.
        rounds: number of steps, of which the fastest counts.

    Returns:
        One row.
    """
    options = dict(num_classes=classes, in_channels=dim, num_subcenters=subcenters)
    module = MODELS.build(dict(type=LOSSES[loss], impl=implementation, **options))
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True
    )
    embeddings = torch.randn(batch, dim)
    labels = torch.randint(classes, (batch,)).tolist()
    samples = [DataSample().set_gt_label(label) for label in labels]

    def run() -> None:
        inputs = embeddings.clone().requires_grad_()
        sum(module.loss((inputs,), samples).values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = best_times({'step': run}, rounds)['step']
    return [
        {
            'loss': loss,
            'classes': classes,
            's/step': seconds,
            'weight, gradient, momentum (gb)': 3e-9 * module.weight.nbytes,
            'all resident (gb)': 1e-9 * resident('VmHWM'),
        }
    ]
