"""Models from ONNX files: the numbers of the exported net, and clear errors for what is wrong."""

import copy
import io
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmarcface.fingerprints import fingerprint_model
from mmarcface.models import ArcFaceHead, EmbeddingRetriever, IResNet, OnnxBackbone

REASON = 'ONNX files are written and run by the packages of mmarcface[tests]'
onnx = pytest.importorskip('onnx', reason=REASON)
pytest.importorskip('onnxruntime', reason=REASON)
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return IResNet(18, 16, 32, base_channels=4).eval().requires_grad_(False)


@pytest.fixture(scope='module')
def exported(net, tmp_path_factory):
    """The net with a batch of any size."""
    pytest.importorskip('onnxscript', reason=REASON)
    path = tmp_path_factory.mktemp('onnx') / 'net.onnx'
    torch.onnx.export(
        net,
        (torch.randn(2, 3, 32, 32),),
        path,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim('batch')},),
        external_data=False,
    )
    return path


@pytest.fixture
def fixed(exported, tmp_path):
    """Write the net with a batch of one size."""

    def write(batch):
        model = onnx.load(exported)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        onnx.save(model, tmp_path / 'fixed.onnx')
        return tmp_path / 'fixed.onnx'

    return write


@pytest.fixture
def mean_color(tmp_path):
    """Write a model that gives the mean color of an image, (N, 3, 1, 1), times a weight."""

    def write(
        inputs=(('x', ('N', 3, 8, 8)),),
        outputs=(('pooled', ('N', 3, 1, 1)),),
        dtype=TensorProto.FLOAT,
        weight=1.0,
        external=False,
    ):
        nodes = [
            helper.make_node('Cast', [inputs[0][0]], ['full'], to=TensorProto.FLOAT),
            helper.make_node('Mul', ['full', 'weight'], ['weighted']),
            helper.make_node('GlobalAveragePool', ['weighted'], ['pooled']),
            helper.make_node('ReduceSum', ['pooled'], ['total'], keepdims=0),
        ]
        weights = numpy_helper.from_array(np.full((1, 3, 1, 1), weight, np.float32), 'weight')
        graph = helper.make_graph(
            nodes,
            'mean_color',
            [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs],
            [helper.make_tensor_value_info(name, 1, shape) for name, shape in outputs],
            [weights],
        )
        opset = [helper.make_opsetid('', 17)]
        model = helper.make_model(graph, ir_version=8, opset_imports=opset)
        path = tmp_path / 'mean_color.onnx'
        storage = dict(location='mean_color.weights', size_threshold=0) if external else {}
        (tmp_path / 'mean_color.weights').unlink(missing_ok=True)
        onnx.save(model, path, save_as_external_data=external, **storage)
        return path

    return write


def test_numbers_are_those_of_the_net(net, exported):
    x = torch.randn(5, 3, 32, 32)
    (embeddings,) = OnnxBackbone(exported).eval()(x)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings, net(x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('batch', 'images'), [(1, 1), (1, 3), (4, 3), (4, 4), (4, 9)])
def test_fixed_batch_is_run_in_pieces(net, fixed, batch, images):
    x = torch.randn(images, 3, 32, 32)
    (embeddings,) = OnnxBackbone(fixed(batch)).eval()(x)
    torch.testing.assert_close(embeddings, net(x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('stored', [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_precisions(mean_color, stored, dtype):
    x = torch.rand(2, 3, 8, 8).to(dtype)
    (embeddings,) = OnnxBackbone(mean_color(dtype=stored)).eval()(x)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings, x.float().mean((2, 3)), rtol=1e-3, atol=1e-3)


def test_released_models_declare_one_row_for_any_batch(mean_color, capfd):
    net = OnnxBackbone(mean_color(outputs=[('pooled', (1, 3, 1, 1))])).eval()
    assert net(torch.rand(4, 3, 8, 8))[0].shape == (4, 3)
    assert capfd.readouterr().err == ''


def test_output_by_name(mean_color):
    path = mean_color(outputs=[('total', ()), ('pooled', ('N', 3, 1, 1))])
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(OnnxBackbone(path, 'pooled').eval()(x)[0], x.mean((2, 3)))
    for output in (None, 'features'):
        with pytest.raises(ValueError, match=rf"one of \['total', 'pooled'\].*got {output!r}"):
            OnnxBackbone(path, output)
    with pytest.raises(ValueError, match=r"'total' of .*\(N, D\); for 2 images it is \(\)"):
        OnnxBackbone(path, 'total').eval()(x)


@pytest.mark.parametrize('shape', [(2, 3, 8, 9), (2, 1, 8, 8), (3, 8, 8)])
def test_images_of_another_size(mean_color, shape):
    with pytest.raises(ValueError, match=r'\(3, 8, 8\) .*got .*resize or align .* test_pipeline'):
        OnnxBackbone(mean_color()).eval()(torch.rand(shape))


def test_size_may_be_free(mean_color):
    net = OnnxBackbone(mean_color(inputs=[('x', ('N', 3, 'H', 'W'))])).eval()
    assert net(torch.rand(2, 3, 5, 6))[0].shape == (2, 3)


@pytest.mark.parametrize(
    'model',
    [
        dict(inputs=[('x', ('N', 3, 8, 8)), ('y', (1,))]),
        dict(inputs=[('x', ('N', 192, 1))], outputs=[('pooled', ('N', 192, 1))]),
        dict(dtype=TensorProto.UINT8),
    ],
    ids=['two inputs', '3-D', 'uint8'],
)
def test_other_inputs(mean_color, model):
    with pytest.raises(ValueError, match=r'mean_color.onnx must have one input, images .*it has x'):
        OnnxBackbone(mean_color(**model))


def test_files_that_are_no_model(exported, tmp_path):
    path = tmp_path / 'given.onnx'
    with pytest.raises(FileNotFoundError, match=r'given\.onnx is not a file'):
        OnnxBackbone(path)
    for content in (b'', b'not a model', exported.read_bytes()[:100_000]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf'given\.onnx \({len(content)} bytes\) cannot be op'):
            OnnxBackbone(path)


def test_providers(exported):
    assert OnnxBackbone(exported, providers=['CPUExecutionProvider'])
    assert OnnxBackbone(exported, providers=[('CPUExecutionProvider', {})])
    with pytest.raises(ValueError, match=r"among \[.*'CPUExecutionProvider'\], got \['Abacus'\]"):
        OnnxBackbone(exported, providers=['Abacus'])


def test_onnxruntime_is_missing(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match='pip install onnxruntime'):
        OnnxBackbone(exported)


def test_training_is_refused(mean_color):
    net, x = OnnxBackbone(mean_color()), torch.rand(2, 3, 8, 8)
    model = EmbeddingRetriever(net, head=ArcFaceHead(num_classes=2, in_channels=3))
    with pytest.raises(ValueError, match='an ONNX model cannot be trained'):
        model.train().loss(x, [])
    with pytest.raises(ValueError, match='an ONNX model cannot be trained'):
        net.eval()(x.requires_grad_())
    with torch.no_grad():
        assert net.train()(x)[0].shape == (2, 3)


def test_copies_open_the_file_again(exported):
    net, x = OnnxBackbone(exported).eval(), torch.randn(2, 3, 32, 32)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for again in (copy.deepcopy(net), torch.load(file, weights_only=False)):
        assert repr(again) == repr(net)
        assert torch.equal(again(x)[0], net(x)[0])


@pytest.mark.parametrize('external', [False, True], ids=['weights inside', 'weights beside'])
def test_fingerprint_is_that_of_the_weights(mean_color, external):
    def fingerprint(path):
        return fingerprint_model(EmbeddingRetriever(OnnxBackbone(path)))

    path = mean_color(external=external)
    one = fingerprint(path)
    assert fingerprint(shutil.copy(path, path.with_name('copy.onnx'))) == one
    assert fingerprint(mean_color(external=external, weight=2.0)) != one
    assert fingerprint(mean_color(external=external)) == one


def test_flip_test(net, exported):
    model = EmbeddingRetriever(
        dict(type=OnnxBackbone, path=str(exported)),
        prototype=torch.eye(16),
        topk=2,
        test_cfg=dict(flip=True),
        data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
    ).eval()
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    samples = model.test_step(dict(inputs=images, data_samples=None))
    x = (images.flip(1).float() - 127.5) / 127.5
    expected = net(x)[0] + net(x.flip(-1))[0]
    embeddings = torch.stack([sample.embedding for sample in samples])
    torch.testing.assert_close(embeddings, expected, rtol=1e-4, atol=1e-4)
    scores = torch.stack([sample.pred_score for sample in samples])
    torch.testing.assert_close(scores, F.normalize(expected), rtol=1e-4, atol=1e-4)
