"""Measure speed and memory, as ratios within one run: python tools/benchmark.py COMMAND."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

import mmarcface.plugin  # isort: skip  # noqa: F401 - hides mmcv-lite's warning, if it is first
from mmengine.dataset import default_collate
from mmpretrain.datasets import PackInputs
from mmpretrain.models.heads import ArcFaceClsHead
from mmpretrain.structures import DataSample
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from mmarcface.cli import ArgumentParser, run_command
from mmarcface.datasets import IdentityFolder, IdentityRecords, LoadImageFromFile, ORLFaces, convert
from mmarcface.evaluation import RetrievalMetric
from mmarcface.functional.inversion import (
    batch_norm_layers,
    batch_statistics,
    bn_prior,
    squared_l2_norm,
    total_variation,
)
from mmarcface.functional.losses import IMPLEMENTATIONS
from mmarcface.functional.retrieval import SCORES_PER_BLOCK
from mmarcface.models import ArcFaceHead, IResNet
from mmarcface.registry import MODELS

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


def best_times(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Shortest time of each candidate in seconds; every round runs each of them once."""
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


def resident(field: str) -> int:
    """Read VmRSS or VmHWM of this process, in bytes."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def peak_extra_memory(run: Callable[[], object], device: str = 'cpu') -> int | None:
    """Peak memory of a call above the memory before it, in bytes; None where it is not measured.

    The CPU's is measured on Linux only.
    """
    gc.collect()
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    clear = Path('/proc/self/clear_refs')
    if not clear.exists():
        return None
    # Memory that the allocator keeps from earlier calls would hide what this one needs.
    ctypes.CDLL(None).malloc_trim(0)
    clear.write_text('5')
    before = resident('VmRSS')
    run()
    return resident('VmHWM') - before


def head(args: argparse.Namespace) -> list[dict]:
    """Forward and backward of a head, against three bare matrix products and other libraries.

    ms: shortest time of the rounds. ratio: that time divided by the limit, the products of
    embeddings, centers and gradients that every implementation needs. extra_mb: peak memory beyond
    weight, gradient and embeddings. buffers: the same in matrices of batch x classes x sub-centers.
    """
    rows = []
    for number in args.classes:
        for loss in args.loss:
            rows += _head_rows(args, number, loss, first=loss == args.loss[0])
    return rows


def _head_rows(args: argparse.Namespace, number: int, loss: str, first: bool) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(args.batch, args.dim, generator=generator).to(args.device)
    labels = torch.randint(number, (args.batch,), generator=generator)
    samples = [DataSample().set_gt_label(label) for label in labels.tolist()]
    options = {} if loss == 'softmax' else dict(num_subcenters=args.subcenters)
    centers = number * options.get('num_subcenters', 1)
    weight = torch.randn(centers, args.dim, generator=generator) / 100
    weight = torch.nn.Parameter(weight.to(args.device))

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
    for impl in args.impl:
        config = dict(num_classes=number, in_channels=args.dim, impl=impl, **options)
        module = MODELS.build(dict(type=LOSSES[loss], **config)).to(args.device)
        module.weight = weight
        candidates[f'{loss}, {impl}'] = of_head(module)
    if args.peers and first:
        subcenters = options.get('num_subcenters', 1)
        module = ArcFaceClsHead(number, args.dim, subcenters, scale=64.0, margins=0.5)
        module.norm_product.weight = weight
        candidates['mmpretrain, ArcFaceClsHead'] = of_head(module.to(args.device))
        candidates |= _pytorch_metric_learning(args, number, embeddings, labels)
    for run in candidates.values():
        run()
    extra = {name: peak_extra_memory(run, args.device) for name, run in candidates.items()}
    seconds = best_times(candidates, args.rounds)
    gradient, buffer = weight.nbytes, 4 * args.batch * centers
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
    args: argparse.Namespace, number: int, embeddings: torch.Tensor, labels: torch.Tensor
) -> dict[str, Callable[[], None]]:
    try:
        from pytorch_metric_learning.losses import ArcFaceLoss, SubCenterArcFaceLoss
    except ImportError:
        print('missing: pytorch-metric-learning (pip install pytorch-metric-learning)')
        return {}
    options = dict(num_classes=number, embedding_size=args.dim)
    if args.subcenters == 1:
        module = ArcFaceLoss(**options)
    else:
        module = SubCenterArcFaceLoss(**options, sub_centers=args.subcenters)
    module, labels = module.to(args.device), labels.to(args.device)

    def run() -> None:
        module(embeddings.clone().requires_grad_(), labels).backward()
        module.zero_grad(set_to_none=True)

    return {f'pytorch-metric-learning, {type(module).__name__}': run}


def step(args: argparse.Namespace) -> list[dict]:
    """Training steps of a head with SGD and momentum: time and resident memory."""
    options = dict(num_classes=args.classes, in_channels=args.dim, num_subcenters=args.subcenters)
    module = MODELS.build(dict(type=LOSSES[args.loss], impl=args.impl, **options))
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True
    )
    embeddings = torch.randn(args.batch, args.dim)
    labels = torch.randint(args.classes, (args.batch,)).tolist()
    samples = [DataSample().set_gt_label(label) for label in labels]

    def run() -> None:
        inputs = embeddings.clone().requires_grad_()
        sum(module.loss((inputs,), samples).values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = best_times({'step': run}, args.rounds)['step']
    return [
        {
            'loss': args.loss,
            'classes': args.classes,
            's/step': seconds,
            'weight, gradient, momentum (gb)': 3e-9 * module.weight.nbytes,
            'all resident (gb)': 1e-9 * resident('VmHWM'),
        }
    ]


def retrieval(args: argparse.Namespace) -> list[dict]:
    """RetrievalMetric against the bare matrix products between queries and gallery.

    The defaults are the size of In-Shop. The metric starts from collected embeddings, and its
    memory is counted beyond them.
    """
    generator = torch.Generator().manual_seed(0)
    vectors = {
        role: torch.randn(number, args.dim, generator=generator)
        for role, number in (('query', args.queries), ('gallery', args.gallery))
    }
    labels = {
        role: (torch.arange(len(rows)) % args.items).tolist() for role, rows in vectors.items()
    }

    def collect() -> RetrievalMetric:
        metric = RetrievalMetric(recall_at=(1, 10, 20, 30, 40, 50), map_at=(10,))
        first = 0
        for role, rows in vectors.items():
            for start in range(0, len(rows), 32):
                metric.process(
                    None,
                    [
                        dict(
                            embedding=rows[i],
                            gt_label=torch.tensor([labels[role][i]]),
                            sample_idx=first + i,
                            role=role,
                        )
                        for i in range(start, min(start + 32, len(rows)))
                    ],
                )
            first += len(rows)
        return metric

    size = args.queries + args.gallery
    rows = max(1, SCORES_PER_BLOCK // args.gallery)
    buffer = torch.empty(rows, args.gallery)

    def products() -> None:
        for block in vectors['query'].split(rows):
            torch.mm(block, vectors['gallery'].T, out=buffer[: len(block)])

    metrics = [collect() for _ in range(args.rounds)]
    extra = peak_extra_memory(lambda: metrics[0].evaluate(size))
    metrics[0] = collect()
    waiting = iter(metrics)
    seconds = best_times(
        {'metric': lambda: next(waiting).evaluate(size), 'limit': products}, args.rounds
    )
    return [
        {
            'metric_ms': 1000 * seconds['metric'],
            'limit_ms': 1000 * seconds['limit'],
            'ratio': seconds['metric'] / seconds['limit'],
            'embeddings_mb': 4e-6 * size * args.dim,
            'extra_mb': extra and extra / 1e6,
        }
    ]


def data(args: argparse.Namespace) -> list[dict]:
    """Reading images from a .rec file and from a folder, against cv2.imdecode of the same bytes.

    The limit decodes from memory; the files are in the page cache after the first round. The images
    are the ORL faces as JPEG files of 112 x 112 pixels, or those of a folder of identities. With
    workers a DataLoader packs the images into batches of 128.
    """
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = args.folder
        if source is None:
            source = root / 'orl'
            faces = ORLFaces(pipeline=[LoadImageFromFile()])
            for place in range(args.images):
                sample = faces[place % len(faces)]
                path = source / str(sample['gt_label']) / f'{place}.jpg'
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), cv2.resize(sample['img'], (112, 112)))
        convert.to_records(convert.open_source(source), root / 'faces.rec')
        load = [LoadImageFromFile()]
        folder = IdentityFolder(str(source), pipeline=load)
        records = IdentityRecords(str(root / 'faces.rec'), pipeline=load)
        contents = [Path(info['img_path']).read_bytes() for info in folder.load_data_list()]

        def decode() -> None:
            for content in contents:
                cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)

        def read(dataset: IdentityFolder | IdentityRecords) -> None:
            for place in range(len(dataset)):
                dataset[place]

        candidates = {
            'limit': decode,
            '.rec': lambda: read(records),
            'folder': lambda: read(folder),
        }
        pipeline = [*load, PackInputs()]
        for workers in args.workers:
            packed = IdentityRecords(str(root / 'faces.rec'), pipeline=pipeline)
            loader = DataLoader(
                packed,
                128,
                num_workers=workers,
                collate_fn=default_collate,
                persistent_workers=workers > 0,
            )
            candidates[f'.rec, {workers} workers, packed'] = lambda loader=loader: list(loader)
        for run in candidates.values():
            run()
        seconds = best_times(candidates, args.rounds)
    return [
        {
            'source': name,
            'images/s': len(contents) / seconds[name],
            'ratio': seconds['limit'] / seconds[name],
        }
        for name in candidates
    ]


def inversion(args: argparse.Namespace) -> list[dict]:
    """A step of an inversion, against the bare net and the hooks of DeepInversion.

    limit_ms: forward and backward to the images of the net and its loss, the weights frozen.
    ours_ms: the same with BN prior, total variation, norm and Adam. hooks_ms: the published code of
    DeepInversion, a hook on each BN layer that computes mean and variance separately, and a
    backward pass to all weights. hooks_frozen_ms: the same with frozen weights.
    """
    torch.manual_seed(0)
    net = IResNet(args.depth, input_size=args.size)
    head = ArcFaceHead(1000, 512)
    layers = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    for layer in layers:
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    model = torch.nn.ModuleDict(dict(net=net, head=head)).to(args.device).eval()
    images = torch.randn(args.batch, 3, args.size, args.size).to(args.device).requires_grad_()
    labels = torch.arange(args.batch, device=args.device)
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
    ms = {name: 1000 * value for name, value in best_times(candidates, args.rounds).items()}
    return [
        {f'{name}_ms': value for name, value in ms.items()}
        | {
            'ours / limit': ms['ours'] / ms['limit'],
            'hooks / ours': ms['hooks'] / ms['ours'],
            'hooks_frozen / ours': ms['hooks_frozen'] / ms['ours'],
        }
    ]


def print_table(rows: list[dict]) -> None:
    """Print rows with the same keys as columns."""
    cells = [list(rows[0])] + [[_text(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print('  '.join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _text(value: object) -> str:
    if value is None:
        return 'not measured'
    return f'{value:.2f}' if isinstance(value, float) else str(value)


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--rounds', type=int, default=15, help='number of rounds, of which the fastest counts'
    )
    common.add_argument('--json', metavar='FILE', help='file for the figures')
    command = commands.add_parser('head', parents=[common], help=head.__doc__)
    command.add_argument('--batch', type=int, default=128, help='number of embeddings in a batch')
    command.add_argument('--dim', type=int, default=512, help='dimensions of the embeddings')
    command.add_argument(
        '--subcenters', type=int, default=1, help='number of centers of each class'
    )
    command.add_argument(
        '--classes', type=int, nargs='+', default=[85742], help='numbers of classes'
    )
    command.add_argument(
        '--loss', nargs='+', choices=LOSSES, default=['arcface'], help='losses to measure'
    )
    command.add_argument(
        '--impl',
        nargs='+',
        choices=IMPLEMENTATIONS,
        default=['fused', 'chunked'],
        help='implementations to measure',
    )
    command.add_argument(
        '--no-peers', dest='peers', action='store_false', help='measure no other libraries'
    )
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    command.add_argument('--device', default=device, help=f'{device} by default here')
    command.set_defaults(run=head)

    command = commands.add_parser('step', parents=[common], help=step.__doc__)
    command.add_argument('--batch', type=int, default=512, help='number of embeddings in a batch')
    command.add_argument('--dim', type=int, default=512, help='dimensions of the embeddings')
    command.add_argument(
        '--subcenters', type=int, default=1, help='number of centers of each class'
    )
    command.add_argument('--classes', type=int, default=1_000_000, help='number of classes')
    command.add_argument('--loss', choices=LOSSES, default='arcface', help='loss to measure')
    command.add_argument(
        '--impl', choices=IMPLEMENTATIONS, default='auto', help='implementation to measure'
    )
    command.set_defaults(run=step)

    command = commands.add_parser('retrieval', parents=[common], help=retrieval.__doc__)
    command.add_argument('--queries', type=int, default=14218, help='number of query images')
    command.add_argument('--gallery', type=int, default=12612, help='number of gallery images')
    command.add_argument(
        '--items', type=int, default=3985, help='number of items that the images show'
    )
    command.add_argument('--dim', type=int, default=2048, help='dimensions of the embeddings')
    command.set_defaults(run=retrieval)

    command = commands.add_parser('data', parents=[common], help=data.__doc__)
    command.add_argument('--images', type=int, default=2000, help='number of images to write')
    command.add_argument('--folder', help='folder of identities to read instead')
    command.add_argument(
        '--workers',
        type=int,
        nargs='*',
        default=[0, 1, 2],
        help='numbers of DataLoader workers to measure',
    )
    command.set_defaults(run=data)

    command = commands.add_parser('inversion', parents=[common], help=inversion.__doc__)
    command.add_argument('--depth', type=int, default=18, help='depth of the IResNet')
    command.add_argument(
        '--batch', type=int, default=16, help='number of images that are searched for together'
    )
    command.add_argument(
        '--size', type=int, default=112, help='width and height of the images in pixels'
    )
    command.add_argument('--device', default=device, help=f'{device} by default here')
    command.set_defaults(run=inversion)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    print(f'torch {torch.__version__}, {torch.get_num_threads()} threads, {args.rounds} rounds')
    rows = args.run(args)
    print_table(rows)
    if args.json:
        # An inversion has a single row.
        figures = rows[0] if args.run is inversion else rows
        Path(args.json).write_text(json.dumps(figures, indent=2))


if __name__ == '__main__':
    run_command(main)
