"""Models from ONNX files: the numbers of the exported net, and clear errors for what is wrong."""

import copy
import io
import shutil
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mmarcface.fingerprints import fingerprint_model
from mmarcface.models import ArcFaceHead, EmbeddingRetriever, IResNet, OnnxBackbone
from mmarcface.models.backbones import onnx_session

REASON = 'ONNX files are written and run by the packages of mmarcface[tests]'
onnx = pytest.importorskip('onnx', reason=REASON)
pytest.importorskip('onnxruntime', reason=REASON)
from onnx import TensorProto  # noqa: E402

from .onnx_files import write_mean_color  # noqa: E402


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
    """Write a small model, see :func:`tests.models.onnx_files.write_mean_color`."""
    return partial(write_mean_color, tmp_path)


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


def test_images_last_channels_first(mean_color):
    """Keras' models take (N, H, W, 3); images come as (N, 3, H, W) all the same."""
    x = torch.rand(3, 3, 6, 8)
    for shape in (('N', 6, 8, 3), ('N', 'H', 'W', 3), (1, 6, 8, 3), (2, None, None, 3)):
        net = OnnxBackbone(mean_color(inputs=[('x', shape)], channels_last=True)).eval()
        torch.testing.assert_close(net(x)[0], x.mean((2, 3)))
        assert net.input_size == ((6, 8) if 6 in shape else None)
    # A picture of three rows is no picture of three channels at the end.
    net = OnnxBackbone(mean_color(inputs=[('x', ('N', 3, 8, 3))])).eval()
    assert net(torch.rand(1, 3, 8, 3))[0].shape == (1, 3)


def test_gray_images(mean_color):
    for shape, last in ((('N', 1, 6, 8), False), (('N', 6, 8, 1), True)):
        path = mean_color(inputs=[('x', shape)], channels_last=last, weight=[2.0])
        x = torch.rand(3, 1, 6, 8)
        torch.testing.assert_close(OnnxBackbone(path).eval()(x)[0], 2 * x.mean((2, 3)))


@pytest.mark.parametrize('to_rgb', [True, False])
def test_channel_order_is_that_of_the_preprocessor(mean_color, to_rgb):
    model = EmbeddingRetriever(
        OnnxBackbone(mean_color(weight=[1.0, 10.0, 100.0])),
        data_preprocessor=dict(mean=[0] * 3, std=[1] * 3, to_rgb=to_rgb),
    ).eval()
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[:, 0] = 7  # Blue comes first in images as cv2 reads them.
    (sample,) = model.test_step(dict(inputs=image, data_samples=None))
    assert sample.embedding.tolist() == ([0, 0, 700] if to_rgb else [7, 0, 0])


def test_pixels(mean_color):
    """A model that takes uint8 gets the pixels as they are."""
    encoder = OnnxBackbone(mean_color(dtype=TensorProto.UINT8))
    image = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    data = dict(inputs=image, data_samples=None)
    for preprocessor in (dict(), dict(mean=[0] * 3, std=[1] * 3)):
        samples = EmbeddingRetriever(encoder, data_preprocessor=preprocessor).eval().test_step(data)
        embeddings = torch.stack([sample.embedding for sample in samples])
        torch.testing.assert_close(embeddings, image.float().mean((2, 3)))
    for dtype in (torch.float, torch.half, torch.bfloat16):
        assert encoder(image.to(dtype))[0].equal(encoder(image)[0])
    with pytest.raises(ValueError, match=r'whole numbers in .* got -1 to 1: set data_prep.*mean='):
        encoder(torch.tensor([-1.0, 1.0]).expand(1, 3, 8, 4, 2).flatten(3))


def test_int8(net, exported, tmp_path):
    """A model in the QDQ format, as onnxruntime quantizes it, takes floats like any other."""
    from onnxruntime import quantization

    x = torch.randn(16, 3, 32, 32)

    class Images(quantization.CalibrationDataReader):
        batches = iter([dict(x=x.numpy())])

        def get_next(self):
            return next(self.batches, None)

    quantized = tmp_path / 'int8.onnx'
    quantization.quantize_static(exported, quantized, Images(), per_channel=True)
    kinds = {node.op_type for node in onnx.load(quantized).graph.node}
    assert {'QuantizeLinear', 'DequantizeLinear'} <= kinds
    with torch.no_grad():
        cosines = F.cosine_similarity(OnnxBackbone(quantized).eval()(x)[0], net(x)[0])
    assert 0.9 < cosines.min() < 0.99999


def test_what_the_file_says(mean_color):
    net = OnnxBackbone(mean_color())
    assert (net.embedding_dim, net.input_size, net.manifest) == (3, (8, 8), None)
    assert OnnxBackbone(mean_color(inputs=[('x', ('N', 3, 'H', 8))])).input_size is None


def test_no_images(mean_color, fixed):
    for path in (mean_color(), fixed(4)):
        net = OnnxBackbone(path).eval()
        empty = net(torch.rand(0, 3, *net.input_size))[0]
        assert empty.shape == (0, net.embedding_dim)


def test_size_may_be_free(mean_color):
    net = OnnxBackbone(mean_color(inputs=[('x', ('N', 3, 'H', 'W'))])).eval()
    assert net(torch.rand(2, 3, 5, 6))[0].shape == (2, 3)


def test_providers(exported):
    assert OnnxBackbone(exported, providers=['CPUExecutionProvider'])
    # As JSON and YAML have a pair.
    assert OnnxBackbone(exported, providers=[['CPUExecutionProvider', {}]])


def test_a_provider_that_does_not_start(exported, monkeypatch):
    """Where onnxruntime has CUDA built in and the machine has none, its sessions run on the CPU."""
    import onnxruntime

    names = ['CUDAExecutionProvider', 'CPUExecutionProvider']
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: names)
    monkeypatch.setattr(
        onnxruntime,
        'InferenceSession',
        lambda path, options, providers: session(path, options, providers=names[1:]),
    )
    said = []
    monkeypatch.setattr(onnx_session, 'print_log', lambda message, *_: said.append(message))
    OnnxBackbone(exported)
    assert said == [f'CUDAExecutionProvider does not start here: {exported} runs on the CPU']
    with pytest.raises(RuntimeError, match='leave it out of providers'):
        OnnxBackbone(exported, providers=names)


def test_threads(exported, monkeypatch):
    import onnxruntime

    counts, session = [], onnxruntime.InferenceSession

    def note(path, options, providers):
        counts.append(options.intra_op_num_threads)
        return session(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, 'InferenceSession', note)
    OnnxBackbone(exported, threads=3)
    OnnxBackbone(exported)
    assert counts == [3, torch.get_num_threads()]


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
    assert fingerprint(mean_color(external=external, weight=(1, 2, 1))) != one
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


def test_data_loader_workers(mean_color):
    """A worker is forked with a session of two threads, or gets the model by pickle."""
    net = OnnxBackbone(mean_color(), threads=2).eval().requires_grad_(False)
    images = torch.rand(4, 1, 3, 8, 8)

    class Embedded(torch.utils.data.Dataset):
        __len__ = images.__len__

        def __getitem__(self, place):
            return net(images[place])[0]

    expected = net(images.flatten(0, 1))[0].reshape(4, 1, 3)
    assert torch.cat(list(torch.utils.data.DataLoader(Embedded(), num_workers=2))).equal(expected)
