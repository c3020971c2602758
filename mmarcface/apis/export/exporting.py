"""Exporting a trained model, and checking that the file gives the same embeddings."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mmarcface.atomic_files import replacing
from mmarcface.functional.arguments import check_number
from mmarcface.manifest import Manifest, describe_model, preprocessing_of
from mmarcface.models import OnnxBackbone
from mmarcface.models.backbones.onnx_session import external_files, hash_onnx
from mmarcface.models.embedding import embed_images

from . import onnx_file
from .embedding_graph import EmbeddingGraph
from .onnx_file import (
    DEFAULT_OPSET,
    OPSETS,
    insightface_preprocessing,
    weight_bytes,
    write_half_precision,
    write_int8,
    write_onnx,
)

FORMATS = {'.onnx': 'ONNX', '.pt2': 'torch.export', '.ts': 'TorchScript'}
# Largest difference of two unit vectors in one of their numbers.
TOLERANCES = {'fp32': 1e-4, 'fp16': 1e-2, 'int8': 0.2}
# What may be wrong where the file differs by more.
ADVICE = {
    'fp32': 'give the model a data preprocessor that only has channel order, mean and std',
    'fp16': 'take fp32 if numbers in the net are beyond 65,504, the largest of fp16',
    'int8': 'calibrate on more images, or take fp16',
}
PREPROCESSING = 'outside', 'inside'
# Numbers of images that a file is run on; one trains on no other.
BATCHES = 1, 3, 32
INSIGHTFACE = ('RGB', (127.5,) * 3, (127.5,) * 3)


def export_model(
    model: nn.Module,
    out: str | Path,
    pixels: torch.Tensor,
    *,
    preprocessing: str = 'outside',
    normalize: bool = False,
    precision: str = 'fp32',
    calibration: torch.Tensor | None = None,
    opset: int = DEFAULT_OPSET,
    for_insightface: bool = False,
    tolerance: float | None = None,
    **facts: Any,
) -> Manifest:
    """Write a model for other runtimes, with its manifest, and check it on images.

    The file takes any number of images of one size and gives their embeddings; the flip test is
    in it where the model has one. Of the same weights, embeddings of the file and of the model in
    torch may be compared: their contracts are the same, but for 8 bits.

    Args:
        model: an :class:`EmbeddingRetriever`.
        out: file to write: ``.onnx``, ``.pt2`` for ``torch.export``, or ``.ts`` for TorchScript.
        pixels: images to check the file on, as test pipelines give them, (N, C, H, W), uint8, BGR.
        preprocessing: place of channel order, mean and std: 'outside' of the file, or 'inside', so
            that it takes RGB pixels in [0, 255].
        normalize: give vectors of unit length.
        precision: 'fp32', or of ONNX files 'fp16' (weights and convolutions; input and output stay
            fp32) or 'int8' (static quantization).
        calibration: images to calibrate 'int8' on, as ``pixels``.
        opset: version of the ONNX operators.
        for_insightface: write an ONNX file that insightface's loader of recognition models feeds
            with the right images: it takes RGB and (x - 127.5) / 127.5 for granted, so for other
            nets the preprocessing is put inside, under names that the loader knows.
        tolerance: largest difference of unit vectors, in one of their numbers, between the file
            and the model; by default 1e-4 for fp32, 1e-2 for fp16 and 0.2 for int8.
        **facts: fields of the manifest that are known otherwise.

    Returns:
        The manifest; ``measured`` has the opset, the largest difference and the smallest cosine.

    Raises:
        FileNotFoundError: if the folder of ``out`` does not exist.
        ImportError: if a package that this needs is missing.
        TypeError: if the model is no EmbeddingRetriever.
        ValueError: if an argument is not of its kind, the model cannot be exported, there are no
            images, or the file differs by more than the tolerance; nothing is written then.
    """
    out = Path(out)
    _check(out, pixels, preprocessing, precision, calibration, opset, for_insightface, tolerance)
    if for_insightface and preprocessing_of(model) != INSIGHTFACE:
        preprocessing = 'inside'
    graph = EmbeddingGraph(model, preprocessing, normalize)
    size = weight_bytes(graph)
    if precision != 'fp32' and size > onnx_file.MAX_BYTES:
        raise ValueError(
            f'{precision} is for nets of up to 2 GB, as onnx cannot change larger ones, and this '
            f'one has {size / 1e9:.2f} GB of weights: export it in fp32'
        )
    example = graph.inputs_of(pixels[:1]).expand(2, -1, -1, -1).contiguous()
    # What the encoder refuses, it says more clearly here than through an exporter.
    width = graph(example).shape[1]
    manifest = describe_model(model, **facts)
    with TemporaryDirectory(dir=out.parent) as folder:
        file = Path(folder, out.name)
        if out.suffix == '.onnx':
            _write_onnx(graph, example, file, precision, calibration, opset)
            expected = (0.0, 1.0) if graph.inside else INSIGHTFACE[1][:1] * 2
            if for_insightface and insightface_preprocessing(file) != expected:
                raise ValueError(
                    f"insightface's loader would take mean and std of {out} for "
                    f'{insightface_preprocessing(file)}, and they are {expected}: this net cannot '
                    'be exported for it'
                )
        elif out.suffix == '.pt2':
            _write_exported_program(graph, example, file)
        else:
            torch.jit.trace(graph, (example,), check_trace=False).save(str(file))
        difference, cosine = _compare(model, graph, _runner_of(file), pixels)
        allowed = TOLERANCES[precision] if tolerance is None else tolerance
        if not difference <= allowed:
            raise ValueError(
                f'the embeddings of {out.name} differ by up to {difference:.2g} from those of the '
                f'model (smallest cosine {cosine:.6f}), more than the tolerance {allowed:g}: '
                f'{ADVICE[precision]}, or give a larger tolerance'
            )
        measured = dict(
            format=FORMATS[out.suffix],
            precision=precision,
            images=len(pixels),
            largest_difference=difference,
            smallest_cosine=cosine,
        )
        if out.suffix == '.onnx':
            measured['opset'] = opset
        manifest = replace(
            manifest,
            embedding_dim=width,
            input_size=tuple(pixels.shape[2:]),
            precision='int8' if precision == 'int8' else 'float',
            normalized=normalize,
            preprocessing=preprocessing,
            file_sha256=_hash(file),
            head_classes=None,
            measured=manifest.measured | measured,
        )
        for written in [file, *_beside(file)]:
            with replacing(out.with_name(written.name)) as partial:
                shutil.move(written, partial)
    manifest.save(out)
    return manifest


def _check(
    out: Path,
    pixels: torch.Tensor,
    preprocessing: str,
    precision: str,
    calibration: torch.Tensor | None,
    opset: int,
    for_insightface: bool,
    tolerance: float | None,
) -> None:
    if out.suffix not in FORMATS:
        raise ValueError(
            f'out must end in one of {", ".join(FORMATS)} ({", ".join(FORMATS.values())}), got '
            f'{out}'
        )
    if out.is_dir():
        raise ValueError(f'out {out} is a folder: name a file in it')
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f'the folder of {out} does not exist: make it first')
    if preprocessing not in PREPROCESSING:
        raise ValueError(f'preprocessing must be one of {PREPROCESSING}, got {preprocessing!r}')
    if precision not in TOLERANCES:
        raise ValueError(f'precision must be one of {list(TOLERANCES)}, got {precision!r}')
    if out.suffix != '.onnx' and (precision != 'fp32' or for_insightface):
        what = 'insightface reads' if for_insightface else f'{precision} is for'
        raise ValueError(f'{what} ONNX files alone: let out end in .onnx, got {out}')
    if opset not in OPSETS:
        raise ValueError(f'opset must be in [{OPSETS[0]}, {OPSETS[-1]}], got {opset}')
    if tolerance is not None:
        check_number('tolerance', tolerance, minimum=0)
    given = dict(pixels=pixels) | (dict(calibration=calibration) if precision == 'int8' else {})
    for name, images in given.items():
        if not isinstance(images, torch.Tensor) or images.dim() != 4 or len(images) == 0:
            shape = tuple(images.shape) if isinstance(images, torch.Tensor) else images
            raise ValueError(f'{name} must be images (N, C, H, W), at least one, got {shape}')
    if precision == 'int8' and calibration.shape[1:] != pixels.shape[1:]:
        raise ValueError(
            f'calibration must be images of {tuple(pixels.shape[1:])}, as pixels are, got '
            f'{tuple(calibration.shape[1:])}: prepare both by the test pipeline'
        )


def _write_onnx(
    graph: EmbeddingGraph,
    example: torch.Tensor,
    file: Path,
    precision: str,
    calibration: torch.Tensor | None,
    opset: int,
) -> None:
    if precision == 'fp32':
        write_onnx(graph, example, file, opset)
        return
    with TemporaryDirectory(dir=file.parent) as folder:
        full = Path(folder, 'fp32.onnx')
        write_onnx(graph, example, full, opset)
        if precision == 'fp16':
            write_half_precision(full, file)
        else:
            write_int8(full, file, graph.inputs_of(calibration))


def _write_exported_program(graph: EmbeddingGraph, example: torch.Tensor, file: Path) -> None:
    shapes = [{0: torch.export.Dim('batch')}]
    program = torch.export.export(graph, (example,), dynamic_shapes=shapes)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if hasattr(module, 'graph') else ():
            # Lines of code of the machine that exports it.
            node.meta.pop('stack_trace', None)
    torch.export.save(program, file)


def _runner_of(file: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """The file as a function of its input, loaded as others load it."""
    if file.suffix == '.onnx':
        net = OnnxBackbone(file).eval()
        return lambda images: net(images)[0]
    if file.suffix == '.pt2':
        return torch.export.load(file).module()
    return torch.jit.load(str(file))


@torch.no_grad()
def _compare(
    model: nn.Module,
    graph: EmbeddingGraph,
    run: Callable[[torch.Tensor], torch.Tensor],
    pixels: torch.Tensor,
) -> tuple[float, float]:
    """Largest difference and smallest cosine of the unit vectors of the model and of the file."""
    # As many images as there are, again and again.
    batches = [pixels[torch.arange(size) % len(pixels)] for size in BATCHES]
    expected, given = [], []
    for batch in [*batches, *pixels.split(BATCHES[-1])]:
        expected.append(F.normalize(_embed(model, batch)))
        given.append(F.normalize(run(graph.inputs_of(batch))))
    expected, given = torch.cat(expected), torch.cat(given)
    return (expected - given).abs().max().item(), (expected * given).sum(1).min().item()


def _embed(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Embeddings as in testing, by the model's own preprocessing, on the CPU."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        data = model.data_preprocessor(dict(inputs=list(pixels)), False)
        return embed_images(model, data['inputs']).cpu()
    finally:
        for module, mode in training.items():
            module.training = mode


def _hash(file: Path) -> str:
    return hash_onnx(file) if file.suffix == '.onnx' else sha256(file.read_bytes()).hexdigest()


def _beside(file: Path) -> list[Path]:
    return external_files(file) if file.suffix == '.onnx' else []
