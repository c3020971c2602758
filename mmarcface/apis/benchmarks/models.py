"""Speed and memory of nets, in torch and as ONNX files."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from torch import nn
from torch.optim.swa_utils import update_bn

from mmarcface.apis.export.exporting import export_model
from mmarcface.models import EmbeddingRetriever, OnnxBackbone
from mmarcface.registry import MODELS

from .timing import best_times, peak_extra_memory

# Nets for faces of 112 x 112 pixels, by the names that their authors' projects give them.
NETS = {
    'r18': dict(type='mmarcface.IResNet', depth=18),
    'r50': dict(type='mmarcface.IResNet', depth=50),
    'r100': dict(type='mmarcface.IResNet', depth=100),
    'mbf': dict(type='mmarcface.MobileFaceNet', scale=2, blocks=(1, 4, 6, 2)),
    'mbf_large': dict(type='mmarcface.MobileFaceNet', scale=4, blocks=(2, 8, 12, 4)),
    'ir_50': dict(type='mmarcface.IRNet', depth=50),
    'ir_se_50': dict(type='mmarcface.IRNet', depth=50, with_se=True),
    'vit_t': dict(type='mmarcface.FaceViT', arch='t'),
    'vit_s': dict(type='mmarcface.FaceViT', arch='s'),
}
# Of the ONNX files, by the runs that they are for.
PRECISIONS = {'onnx': 'fp32', 'onnx-fp16': 'fp16', 'onnx-int8': 'int8'}
RUNS = ('eager', 'compiled', *PRECISIONS)
PREPROCESSING = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
COMPILERS = ('c++', 'g++', 'clang++')


@torch.no_grad()
def measure_models(
    models: Sequence[str] = tuple(NETS),
    runs: Sequence[str] = RUNS,
    batch: int = 32,
    rounds: int = 15,
) -> list[dict]:
    """Embedding images on the CPU: a net in torch, as it is and compiled, and as ONNX files.

    params_m, gflops: millions of parameters, and billions of multiplications with their additions
    for an image. weights_mb: size of parameters and buffers, or of the file. ms: shortest time for
    one image. images/s: rate in batches. ratio: that rate, divided by that of the first run.
    peak_mb: memory that it takes to open the net and to embed a first batch.

    Args:
        models: names of nets, of :data:`NETS`, or paths of configs; their weights are random.
        runs: ways to run a net, of :data:`RUNS`.
        batch: number of images in a batch.
        rounds: number of rounds, of which the fastest counts; each runs every way once.

    Returns:
        A row for each net and run.

    Raises:
        ImportError: if a package that writes or runs ONNX files is missing.
        RuntimeError: if a net is to be compiled without a C++ compiler.
        ValueError: if a model is neither the name of a net nor a config of one.
    """
    compilers = (os.environ.get('CXX', ''), *COMPILERS)
    if 'compiled' in runs and not any(map(shutil.which, compilers)):
        raise RuntimeError(
            f'torch.compile needs a C++ compiler, one of {COMPILERS}: install one, or measure the '
            'other runs'
        )
    return [row for name in models for row in _rows(name, _build(name), runs, batch, rounds)]


def _build(name: str) -> nn.Module:
    config = NETS.get(name)
    if config is None and Path(name).is_file():
        config = Config.fromfile(name).get('model', {}).get('image_encoder')
    if config is None:
        raise ValueError(
            f'a model must be one of {list(NETS)} or a config with an image_encoder, got {name}'
        )
    torch.manual_seed(0)
    net = MODELS.build(config).eval()
    in_torch = hasattr(net, 'input_size') and next(net.parameters(), None) is not None
    if not in_torch or getattr(net, 'in_channels', 3) != 3:
        raise ValueError(
            f'the image_encoder of {name} must be a net of this package in torch, for color images'
        )
    # With the statistics of an untrained net, embeddings would overflow in half precision.
    update_bn([torch.randn(8, 3, *net.input_size)], net)
    return net


def _rows(name: str, net: nn.Module, runs: Sequence[str], batch: int, rounds: int) -> list[dict]:
    images = torch.randn(batch, 3, *net.input_size)
    flops = count_flops(net, images[:1])
    nets, weights, peak = {}, {}, {}
    with TemporaryDirectory() as folder:
        for run in runs:
            open_net, weights[run] = _prepare(run, net, Path(folder))
            nets[run], peak[run] = _opened(open_net, images)
        one, many = (
            best_times({run: partial(nets[run], x) for run in runs}, rounds)
            for x in (images[:1], images)
        )
    return [
        {
            'model': Path(name).stem,
            'run': run,
            'params_m': sum(p.numel() for p in net.parameters()) / 1e6,
            'gflops': flops / 1e9,
            'weights_mb': weights[run] / 1e6,
            'ms': 1000 * one[run],
            'images/s': batch / many[run],
            'ratio': many[runs[0]] / many[run],
            'peak_mb': peak[run] and peak[run] / 1e6,
        }
        for run in runs
    ]


def count_flops(net: nn.Module, images: torch.Tensor) -> int:
    """Number of multiplications, each with its addition, as papers count FLOPs of convolutions.

    Args:
        net: any module.
        images: batch of images, (N, C, H, W).
    """
    analyzer = FlopAnalyzer(net, images).unsupported_ops_warnings(False)
    analyzer.set_op_handle('aten::scaled_dot_product_attention', _attention)
    return int(analyzer.uncalled_modules_warnings(False).total())


def _attention(inputs: list, _: list) -> int:
    """Queries times keys, and what comes of it times values."""
    query, key = (value.type().sizes() for value in inputs[:2])
    return 2 * math.prod(query) * key[-2]


def _opened(
    open_net: Callable[[], nn.Module], images: torch.Tensor
) -> tuple[nn.Module, int | None]:
    """A net that has embedded images, together and alone, and the memory that it took at first."""
    opened = []

    def run() -> None:
        opened.append(open_net())
        opened[0](images)

    peak = peak_extra_memory(run)
    opened[0](images[:1])
    return opened[0], peak


def _prepare(run: str, net: nn.Module, folder: Path) -> tuple[Callable[[], nn.Module], int]:
    """What opens a net in one way, and the size of its weights in bytes."""
    if run in PRECISIONS:
        path = folder / f'{run}.onnx'
        _write_onnx(PRECISIONS[run], net, path)
        return lambda: OnnxBackbone(path).eval(), path.stat().st_size
    weights = sum(tensor.nbytes for tensor in net.state_dict().values())
    if run == 'compiled':
        return lambda: torch.compile(copy.deepcopy(net), dynamic=False), weights
    return lambda: copy.deepcopy(net), weights


def _write_onnx(precision: str, net: nn.Module, path: Path) -> None:
    model = EmbeddingRetriever(net, data_preprocessor=PREPROCESSING)
    # Noise, which is as good as images for the speed; of any difference 2 is the largest.
    pixels = torch.randint(256, (8, 3, *net.input_size), dtype=torch.uint8)
    export_model(model, path, pixels, precision=precision, calibration=pixels, tolerance=2)
