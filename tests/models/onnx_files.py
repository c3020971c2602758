"""Small ONNX files, of which one knows what they give."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_mean_color(
    folder,
    inputs=(('x', ('N', 3, 8, 8)),),
    outputs=(('pooled', ('N', 3, 1, 1)),),
    dtype=TensorProto.FLOAT,
    weight=(1.0, 1.0, 1.0),
    external=False,
    channels_last=False,
):
    """Write a model that gives the mean color of an image, (N, 3, 1, 1), times weights."""
    turned = [0, 3, 1, 2] if channels_last else [0, 1, 2, 3]
    nodes = [
        helper.make_node('Cast', [inputs[0][0]], ['cast'], to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['cast'], ['full'], perm=turned),
        helper.make_node('Mul', ['full', 'weight'], ['weighted']),
        helper.make_node('GlobalAveragePool', ['weighted'], ['pooled']),
        helper.make_node('ReduceSum', ['pooled'], ['total'], keepdims=0),
    ]
    weights = np.array(weight, np.float32).reshape(1, -1, 1, 1)
    model = make_model(
        nodes,
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(weights, 'weight')],
    )
    path = Path(folder) / 'mean_color.onnx'
    storage = dict(location='mean_color.weights', size_threshold=0) if external else {}
    path.with_suffix('.weights').unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=external, **storage)
    return path


def make_model(nodes, inputs, outputs, initializers=(), opset=17):
    """A model of nodes, for any onnxruntime since 1.13."""
    graph = helper.make_graph(nodes, 'small', inputs, outputs, list(initializers))
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid('', opset)])
