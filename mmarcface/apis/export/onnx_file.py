"""Writing ONNX files: of a net in torch, in half precision, and in 8 bits."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from .embedding_graph import EmbeddingGraph

INPUT, OUTPUT = 'images', 'embedding'
# torch's exporter begins at 18; onnxruntime 1.17 and TensorRT 10 take up to 20.
OPSETS = range(18, 24)
DEFAULT_OPSET = 18
# A protobuf holds 2 GiB; beyond that weights are in a file beside it.
MAX_BYTES = 2**31 - 2**24
# Nodes whose names insightface's loader looks at.
FIRST_NODES = 8
PREPROCESSING_MARK = '_of_pixels_'
# Sums over all channels and pixels overflow half precision.
IN_FLOAT = ('LayerNormalization', 'Softmax', 'ReduceL2', 'ReduceSum', 'Clip')
PRODUCTS = ('Gemm', 'MatMul')
# Images that calibration sees at a time.
BATCH = 32


def write_onnx(graph: EmbeddingGraph, example: torch.Tensor, path: Path, opset: int) -> None:
    """Write a graph as an ONNX file with any number of images in fp32.

    Args:
        graph: the graph.
        example: its input for two images.
        path: the file to write.
        opset: version of the ONNX operators.

    Raises:
        ImportError: without the packages ``onnx`` and ``onnxscript``.
        ValueError: if the number of images cannot be left open.
    """
    onnx = _import('onnx')
    _import('onnxscript')
    with _quiet_exporter():
        torch.onnx.export(
            graph,
            (example,),
            path,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            dynamo=True,
            dynamic_shapes=[{0: torch.export.Dim('batch')}],
            external_data=weight_bytes(graph) > MAX_BYTES,
            verbose=False,
        )
    model = onnx.load(path, load_external_data=False)
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if fixed:
        raise ValueError(
            f'the encoder can be exported for batches of {fixed} alone: somewhere its code makes a '
            'Python number of the number of images'
        )
    _name_nodes(model.graph.node, graph.inside)
    _save(model, path)


def weight_bytes(graph: EmbeddingGraph) -> int:
    """Bytes of the weights of a graph.

    Args:
        graph: the graph.
    """
    return sum(value.nbytes for value in graph.state_dict().values())


def insightface_preprocessing(path: Path) -> tuple[float, float]:
    """Mean and std that insightface's loader of recognition models subtracts and divides by.

    It takes names of the first nodes for the mark of a file that does so itself.

    Args:
        path: the ``.onnx`` file.
    """
    model = _import('onnx').load(path, load_external_data=False)
    names = [node.name for node in model.graph.node[:FIRST_NODES]]
    inside = all(
        any(name.startswith(marks) for name in names)
        for marks in (('Sub', '_minus'), ('Mul', '_mul'))
    )
    return (0.0, 1.0) if inside else (127.5, 127.5)


def _name_nodes(nodes: Any, inside: bool) -> None:
    """Name the nodes so that insightface's loader reads where the preprocessing is."""
    for place, node in enumerate(nodes):
        if inside and place < FIRST_NODES and node.op_type in ('Sub', 'Mul'):
            node.name = f'{node.op_type}{PREPROCESSING_MARK}{place}'
        elif node.name.startswith(('Sub', '_minus', 'Mul', '_mul')):
            node.name = f'node_{node.name}'


def write_half_precision(source: Path, path: Path) -> None:
    """Write an ONNX file in fp16, with input, output and the embedding layer in fp32.

    Args:
        source: the file in fp32.
        path: the file to write.

    Raises:
        ImportError: without the packages ``onnx`` and ``onnxruntime``.
    """
    onnx = _import('onnx')
    _import('onnxruntime')
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    full = onnx.load(source)
    products = [node.name for node in full.graph.node if node.op_type in PRODUCTS]
    model = convert_float_to_float16(
        full,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *IN_FLOAT],
        # A FaceViT ends with two of them.
        node_block_list=products[-2:],
    )
    _save(model, path)


def write_int8(source: Path, path: Path, inputs: torch.Tensor) -> None:
    """Write an ONNX file whose convolutions and matrix products are in 8 bits.

    Weights have a scale for each channel, activations one that is calibrated on images; it is
    static quantization with QuantizeLinear and DequantizeLinear nodes. The first convolution stays
    in fp32: it costs little, and what it rounds away no later layer gets back.

    Args:
        source: the file in fp32.
        path: the file to write.
        inputs: inputs of the net to calibrate on, (N, C, H, W).

    Raises:
        ImportError: without the packages ``onnx`` and ``onnxruntime``.
    """
    onnx = _import('onnx')
    _import('onnxruntime')
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """Batches of the calibration images."""

        def __init__(self):
            self.batches = iter(inputs.split(BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch, None after the last."""
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    with TemporaryDirectory(dir=path.parent) as folder, _quiet_exporter():
        prepared = Path(folder, 'prepared.onnx')
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        nodes = onnx.load(prepared, load_external_data=False).graph.node
        convolutions = [node.name for node in nodes if node.op_type == 'Conv']
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=['Conv', *PRODUCTS],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=convolutions[:1],
        )
    _save(onnx.load(path, load_external_data=False), path)


def _save(model: Any, path: Path) -> None:
    """Write a model without what only its making was about, and for runtimes as old as may be."""
    helper, graph = _import('onnx').helper, model.graph
    # Lines of code of the machine that exported it, a fifth of the file of a small net.
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField('metadata_props')
    # Some onnxruntime names all that it knows, and an older one refuses the file for these.
    used = {node.domain for node in graph.node}
    _put_preprocessing_first(graph)
    operators = [one for one in model.opset_import if one.domain in used]
    model.ClearField('opset_import')
    model.opset_import.extend(operators)
    model.ir_version = helper.find_min_ir_version_for(operators)
    _import('onnx').save(model, path)


def _put_preprocessing_first(graph: Any) -> None:
    """Put the nodes that preprocess before those of 8 bits, where insightface looks for them."""
    made_by = {name: node for node in graph.node for name in node.output}
    first, waiting = [], [node for node in graph.node if PREPROCESSING_MARK in node.name]
    while waiting:
        node = waiting.pop()
        if node not in first:
            first.append(node)
            waiting += [made_by[name] for name in node.input if name in made_by]
    nodes = sorted(graph.node, key=lambda node: node not in first)
    graph.ClearField('node')
    graph.node.extend(nodes)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporters' reports of their own progress."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'to export ONNX files {name} is needed: pip install onnx onnxscript onnxruntime'
        ) from error
