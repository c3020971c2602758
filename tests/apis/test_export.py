"""Files for other runtimes give the embeddings of the model, and say what they take."""

import hashlib
import sys
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmarcface.apis import export_model, get_model
from mmarcface.manifest import describe_model, load_manifest, manifest_file
from mmarcface.models import OnnxBackbone
from tests.conftest import ROOT
from tests.test_manifest import NET, config_of

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxscript')
onnxruntime = pytest.importorskip('onnxruntime')

ODD = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0])
SIZE = 28


def model_of(encoder=NET, flip=False, **preprocessor):
    """A net whose BN statistics are those of no other."""
    torch.manual_seed(0)
    model = get_model(config_of(encoder, preprocessor, test_cfg=dict(flip=flip)))
    for name, value in model.state_dict().items():
        if 'running_mean' in name:
            value.normal_(0, 0.1)
        elif 'running_var' in name:
            value.uniform_(0.5, 2)
    return model


@pytest.fixture(scope='module')
def photographs(orl):
    """Photographs of several people with colors of their own, (N, H, W, 3), BGR."""
    paths = [orl / f's{person}' / f'{n}.pgm' for person in range(1, 11) for n in range(1, 5)]
    gray = [cv2.resize(cv2.imread(str(path)), (SIZE, SIZE)) for path in paths]
    return (np.stack(gray) * np.array([0.5, 0.8, 1.0])).astype(np.uint8)


@pytest.fixture(scope='module')
def pixels(photographs):
    return torch.from_numpy(photographs).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def embeddings_of(model, pixels):
    data = model.data_preprocessor(dict(inputs=list(pixels)), False)
    return F.normalize(model.embed(data['inputs']))


def run_onnx(path, inputs):
    session = onnxruntime.InferenceSession(path)
    return torch.from_numpy(session.run(None, {'images': np.ascontiguousarray(inputs)})[0])


def as_net_sees(photographs, order, mean, std):
    """By hand, (N, 3, H, W)."""
    images = photographs if order == 'BGR' else photographs[..., ::-1]
    images = (images.astype(np.float32) - np.float32(mean)) / np.float32(std)
    return images.transpose(0, 3, 1, 2)


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
@pytest.mark.parametrize('place', ['outside', 'inside'])
def test_onnx_gives_the_same_embeddings(tmp_path, photographs, pixels, order, place):
    model = model_of(flip=place == 'inside', to_rgb=order == 'RGB', **ODD)
    out = tmp_path / 'net.onnx'
    manifest = export_model(model, out, pixels, preprocessing=place, normalize=order == 'BGR')
    if place == 'inside':
        inputs = as_net_sees(photographs, 'RGB', 0, 1)
    else:
        inputs = as_net_sees(photographs, order, *ODD.values())
    expected = embeddings_of(model, pixels)
    for size in (1, 3, len(pixels)):
        found = run_onnx(out, inputs[:size])
        assert (found.norm(dim=1) - 1).abs().max() < 1e-5 or order == 'RGB'
        torch.testing.assert_close(F.normalize(found), expected[:size], rtol=0, atol=1e-5)
    assert manifest == load_manifest(out)
    assert (manifest.preprocessing, manifest.normalized) == (place, order == 'BGR')
    assert (manifest.channel_order, manifest.mean) == (order, tuple(ODD['mean']))
    assert manifest.contract_hash == describe_model(model).contract_hash
    assert manifest.measured['largest_difference'] < 1e-5
    assert manifest.measured['opset'] == onnx.load(out).opset_import[0].version == 18


@pytest.mark.parametrize('suffix', ['.pt2', '.ts'])
def test_files_of_torch_give_the_same_embeddings(tmp_path, photographs, pixels, suffix):
    model = model_of(flip=True, to_rgb=False, **ODD)
    out = tmp_path / f'net{suffix}'
    manifest = export_model(model, out, pixels, preprocessing='inside')
    load = (lambda p: torch.export.load(p).module()) if suffix == '.pt2' else torch.jit.load
    net, inputs = load(str(out)), torch.from_numpy(as_net_sees(photographs, 'RGB', 0, 1))
    for size in (1, 3, len(pixels)):
        found = F.normalize(net(inputs[:size]))
        torch.testing.assert_close(found, embeddings_of(model, pixels)[:size], rtol=0, atol=1e-5)
    assert manifest.contract == describe_model(model).contract


NETS = {
    'IResNet': dict(type='mmarcface.IResNet', depth=18, embedding_dim=16, base_channels=4),
    'MobileFaceNet': dict(
        type='mmarcface.MobileFaceNet', embedding_dim=16, scale=1, blocks=(1, 1, 1, 1)
    ),
    'IRNet': dict(type='mmarcface.IRNet', depth=18, embedding_dim=16, with_se=True),
    'FaceViT': dict(
        type='mmarcface.FaceViT',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2),
        embedding_dim=16,
        patch_size=7,
    ),
}


# torch's exporter takes half a minute for a net of many layers.
SLOW = 'IResNet', 'IRNet'


@pytest.mark.parametrize(
    'name', [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in NETS]
)
def test_all_nets(tmp_path, pixels, name):
    model = model_of(NETS[name] | dict(input_size=SIZE), flip=True)
    out = tmp_path / 'net.onnx'
    manifest = export_model(model, out, pixels[:5])
    assert manifest.measured['largest_difference'] < 1e-5
    onnx.checker.check_model(out)
    half = export_model(model, tmp_path / 'half.onnx', pixels[:5], precision='fp16')
    assert 0 < half.measured['largest_difference'] < 5e-3
    assert (tmp_path / 'half.onnx').stat().st_size < out.stat().st_size
    assert half.contract_hash == manifest.contract_hash


PARTS = [
    dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8),
    dict(type='mmpretrain.GlobalAveragePooling'),
]


@pytest.mark.slow
def test_encoders_of_several_parts(tmp_path, pixels):
    model = model_of(PARTS)
    # Of four people, none of whom stands for another.
    pixels = pixels[::10]
    embeddings = embeddings_of(model, pixels)
    assert (embeddings @ embeddings.T).fill_diagonal_(0).max() < 0.9999
    manifest = export_model(model, tmp_path / 'net.onnx', pixels)
    assert manifest.embedding_dim == embeddings.shape[1]
    assert manifest.input_size == (SIZE, SIZE)


def test_8_bits(tmp_path, pixels):
    model = model_of(NETS['MobileFaceNet'] | dict(input_size=SIZE), flip=True)
    full, out = tmp_path / 'net.onnx', tmp_path / 'small.onnx'
    export_model(model, full, pixels)
    manifest = export_model(model, out, pixels[:20], precision='int8', calibration=pixels[20:])
    net = OnnxBackbone(out).eval()
    data = model.data_preprocessor(dict(inputs=list(pixels)), False)['inputs']
    cosines = (F.normalize(net(data)[0]) * embeddings_of(model, pixels)).sum(1)
    assert 0.99 < cosines.min() < 1 - 1e-5
    assert out.stat().st_size < 0.5 * full.stat().st_size
    kinds = {node.op_type for node in onnx.load(out).graph.node}
    assert {'QuantizeLinear', 'DequantizeLinear'} <= kinds
    # A scale for each channel.
    scales = [len(w.float_data or w.raw_data) for w in onnx.load(out).graph.initializer
              if w.name.endswith('_scale')]  # fmt: skip
    assert max(scales) >= 4 * 512
    assert manifest.precision == 'int8'
    assert manifest.contract_hash != load_manifest(full).contract_hash


def test_a_gallery_of_the_model_is_searched_with_the_file(tmp_path, pixels):
    """And refused with 8 bits, or with weights of another training."""
    model = model_of()
    model.prototype = embeddings_of(model, pixels)
    from mmarcface.models.retrievers.gallery import Gallery

    gallery = str(tmp_path / 'gallery.pth')
    Gallery(model.prototype, 'made by torch', '', [], describe_model(model).contract).save(gallery)
    export_model(model, tmp_path / 'net.onnx', pixels)
    export_model(model, tmp_path / 'small.onnx', pixels, precision='int8', calibration=pixels)
    other = model_of()
    other.image_encoder.fc.bias.data += 1
    export_model(other, tmp_path / 'other.onnx', pixels)

    def search(name):
        encoder = dict(type='mmarcface.OnnxBackbone', path=str(tmp_path / name))
        return get_model(config_of(encoder, prototype=gallery)).eval()

    data = model.data_preprocessor(dict(inputs=list(pixels)), False)['inputs']
    found = search('net.onnx').predict(data)
    assert [int(sample.pred_label[0]) for sample in found] == list(range(len(pixels)))
    with pytest.raises(ValueError, match=r'differ in precision \(float and int8\)'):
        search('small.onnx').predict(data)
    with pytest.raises(ValueError, match=r'differ in weights'):
        search('other.onnx').predict(data)


PREPROCESSORS = {
    'outside': dict(to_rgb=True),
    'BGR': dict(to_rgb=False),
    'another mean': dict(to_rgb=True, **ODD),
}


@pytest.mark.parametrize('kind', PREPROCESSORS)
def test_the_loader_of_insightface_feeds_it_rightly(tmp_path, photographs, pixels, kind):
    pytest.importorskip('insightface', reason='pip install insightface, to test with its loader')
    from insightface.model_zoo.arcface_onnx import ArcFaceONNX

    model = model_of(flip=True, **PREPROCESSORS[kind])
    out = tmp_path / 'net.onnx'
    manifest = export_model(model, out, pixels, for_insightface=True)
    inside = kind != 'outside'
    assert manifest.preprocessing == ('inside' if inside else 'outside')
    session = onnxruntime.InferenceSession(out)
    reader = ArcFaceONNX(str(out), session)
    assert (reader.input_mean, reader.input_std) == ((0, 1) if inside else (127.5, 127.5))
    assert reader.input_size == (SIZE, SIZE)
    # From the same image file.
    cv2.imwrite(str(tmp_path / 'face.png'), photographs[7])
    image = cv2.imread(str(tmp_path / 'face.png'))
    found = F.normalize(torch.from_numpy(reader.get_feat(image)))
    expected = embeddings_of(model, torch.from_numpy(image).permute(2, 0, 1)[None])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    batch = F.normalize(torch.from_numpy(reader.get_feat(list(photographs[:5]))))
    torch.testing.assert_close(batch, embeddings_of(model, pixels[:5]), rtol=0, atol=1e-5)


@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'int8'])
def test_files_tell_nothing_of_the_machine_and_need_no_new_runtime(tmp_path, pixels, precision):
    """onnxruntime 1.17 refuses a file that names a newer ai.onnx.ml than its own, used or not."""
    out = tmp_path / 'net.onnx'
    export_model(model_of(), out, pixels, precision=precision, calibration=pixels)
    model = onnx.load(out)
    assert [(one.domain, one.version) for one in model.opset_import] == [('', 18)]
    assert model.ir_version == 8
    for path in (b'site-packages', str(ROOT).encode(), b'.py'):
        assert path not in out.read_bytes()


@pytest.mark.parametrize('suffix', ['.pt2', '.ts'])
def test_files_of_torch_tell_nothing_of_the_machine(tmp_path, pixels, suffix):
    out = tmp_path / f'net{suffix}'
    export_model(model_of(), out, pixels)
    with ZipFile(out) as parts:
        content = b''.join(
            parts.read(name) for name in parts.namelist() if '.debug_pkl' not in name
        )
    assert b'site-packages' not in content
    assert str(ROOT).encode() not in content


@pytest.mark.parametrize('precision', ['fp16', 'int8'])
def test_preprocessing_inside_is_seen_by_insightface_in_low_precision(tmp_path, pixels, precision):
    """Whose loader looks at the names of eight nodes: those of 8 bits must not come before."""
    model = model_of(to_rgb=False, **ODD)
    out = tmp_path / 'net.onnx'
    export_model(model, out, pixels, precision=precision, calibration=pixels, for_insightface=True)
    names = [node.name for node in onnx.load(out).graph.node[:8]]
    assert any(name.startswith('Sub') for name in names)
    assert any(name.startswith('Mul') for name in names)


def test_preprocessing_that_is_not_exported_is_seen(tmp_path, pixels):
    """The file is compared with the model as it is tested, and padding is no part of the file."""
    model = model_of(PARTS, pad_size_divisor=32)
    with pytest.raises(ValueError, match='more than the tolerance'):
        export_model(model, tmp_path / 'net.ts', pixels[:4])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('suffix', ['.pt2', '.ts'])
def test_manifest_knows_the_file(tmp_path, pixels, suffix):
    out = tmp_path / f'net{suffix}'
    manifest = export_model(model_of(), out, pixels[:2])
    assert manifest.file_sha256 == hashlib.sha256(out.read_bytes()).hexdigest()


def test_weights_beside_a_large_file(tmp_path, pixels, monkeypatch):
    """As of more than 2 GB; both files are the model's hash."""
    monkeypatch.setattr('mmarcface.apis.export.onnx_file.MAX_BYTES', 1000)
    model = model_of()
    out = tmp_path / 'net.onnx'
    manifest = export_model(model, out, pixels)
    assert {p.name for p in tmp_path.iterdir()} == {
        'net.onnx', 'net.onnx.data', 'net.onnx.manifest.json'
    }  # fmt: skip
    assert OnnxBackbone(out).manifest == manifest
    data = bytearray((tmp_path / 'net.onnx.data').read_bytes())
    data[-1] ^= 1
    (tmp_path / 'net.onnx.data').write_bytes(data)
    with pytest.raises(ValueError, match='file_sha256'):
        OnnxBackbone(out)


@pytest.mark.parametrize('precision', ['fp16', 'int8'])
def test_a_large_net_stays_in_fp32(tmp_path, pixels, precision, monkeypatch):
    monkeypatch.setattr('mmarcface.apis.export.onnx_file.MAX_BYTES', 1000)
    with pytest.raises(ValueError, match=f'{precision} is for nets of up to 2 GB'):
        export_model(
            model_of(), tmp_path / 'net.onnx', pixels, precision=precision, calibration=pixels
        )
    assert not list(tmp_path.iterdir())


def test_one_of_many_opsets(tmp_path, pixels):
    out = tmp_path / 'net.onnx'
    export_model(model_of(), out, pixels, opset=20)
    assert onnx.load(out).opset_import[0].version == 20


class TakesNumber(torch.nn.Module):
    """Its code asks for the number of images."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(8, 3 * SIZE * SIZE))

    def forward(self, x):
        rows = [x[i].flatten() for i in range(int(x.shape[0]))]
        return (torch.stack(rows) @ self.weight.T,)


BAD = {
    'suffix': (dict(out='net.pb'), r'out must end in one of .onnx, .pt2, .ts .*got .*net.pb'),
    'folder': (dict(out='folder.onnx'), 'folder.onnx is a folder: name a file in it'),
    'no folder': (dict(out='gone/net.onnx'), r'the folder of .*net.onnx does not exist'),
    'preprocessing': (dict(preprocessing='in'), "preprocessing must be one of .*, got 'in'"),
    'precision': (dict(precision='int4'), "precision must be one of .*, got 'int4'"),
    'opset': (dict(opset=11), r'opset must be in \[18, 23\], got 11'),
    'tolerance': (dict(tolerance=-1), 'tolerance must be at least 0, got -1'),
    'no images': (dict(pixels=torch.zeros(0, 3, SIZE, SIZE)), r'pixels must be images .*\(0, 3'),
    'no tensor': (dict(pixels=None), 'pixels must be images .* got None'),
    'no calibration': (dict(precision='int8'), 'calibration must be images .* got None'),
    'calibration of another size': (
        dict(precision='int8', calibration=torch.zeros(3, 3, 9, 9, dtype=torch.uint8)),
        r'calibration must be images of \(3, 28, 28\), as pixels are, got \(3, 9, 9\)',
    ),
    'int8 of torch': (dict(out='net.pt2', precision='int8'), 'int8 is for ONNX files alone'),
    'insightface of torch': (
        dict(out='net.ts', for_insightface=True),
        'insightface reads ONNX files alone',
    ),
    'no retriever': (dict(model=torch.nn.Linear(2, 2)), 'only an EmbeddingRetriever can be exp'),
    'no weights': (
        dict(model=dict(type='mmarcface.RawPixels')),
        'RawPixels has no weights, and nothing to export',
    ),
    'fixed batch': (dict(model=TakesNumber), 'can be exported for batches of 2 alone'),
    'size': (
        dict(pixels=torch.zeros(2, 3, 9, 9, dtype=torch.uint8)),
        r'images must be \(3, 28, 28\)',
    ),
}


@pytest.mark.parametrize('kind', BAD)
def test_bad_input(tmp_path, pixels, kind, monkeypatch):
    arguments, message = BAD[kind]
    arguments = dict(model=NET, out='net.onnx', pixels=pixels) | arguments
    model = arguments.pop('model')
    if isinstance(model, dict):
        model = model_of(model)
    elif model is TakesNumber:
        model = model_of()
        model.image_encoder = TakesNumber()
    (tmp_path / 'folder.onnx').mkdir()
    out = tmp_path / arguments.pop('out')
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        export_model(model, out, arguments.pop('pixels'), **arguments)
    assert [p.name for p in tmp_path.iterdir()] == ['folder.onnx']


def test_a_file_that_differs_is_not_left_behind(tmp_path, pixels):
    with pytest.raises(ValueError, match=r'differ by up to .* more than the tolerance 0: calib'):
        export_model(
            model_of(), tmp_path / 'net.onnx', pixels, precision='int8', calibration=pixels,
            tolerance=0,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_gray_images_stay_gray(tmp_path, pixels):
    encoder = NET | dict(in_channels=1)
    model = model_of(encoder)
    model.data_preprocessor.mean = model.data_preprocessor.std = torch.full((1, 1, 1), 127.5)
    manifest = export_model(model, tmp_path / 'net.onnx', pixels[:, :1])
    assert manifest.channel_order == 'gray'
    with pytest.raises(ValueError, match="preprocessing='inside' is for color images"):
        export_model(model, tmp_path / 'net.onnx', pixels[:, :1], for_insightface=True)


def test_an_onnx_file_is_exported_already(tmp_path, pixels):
    out = tmp_path / 'net.onnx'
    export_model(model_of(), out, pixels)
    again = get_model(config_of(dict(type='mmarcface.OnnxBackbone', path=str(out))))
    with pytest.raises(ValueError, match=r'net.onnx is a file for another runtime already'):
        export_model(again, tmp_path / 'again.onnx', pixels)


def test_missing_package(tmp_path, pixels, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ImportError, match='onnxscript is needed: pip install onnx onnxscript'):
        export_model(model_of(), tmp_path / 'net.onnx', pixels)
    assert not manifest_file(tmp_path / 'net.onnx').exists()
