"""ONNX files and settings that are wrong, one line of error each: what, where, and what to do."""

import re
from dataclasses import replace
from functools import partial

import pytest
import torch

from mmarcface.manifest import Manifest, manifest_file
from mmarcface.models import EmbeddingRetriever, OnnxBackbone
from mmarcface.user_errors import describe_user_error

REASON = 'ONNX files are written and run by the packages of mmarcface[tests]'
onnx = pytest.importorskip('onnx', reason=REASON)
pytest.importorskip('onnxruntime', reason=REASON)
from onnx import TensorProto, helper  # noqa: E402

from .onnx_files import make_model, write_mean_color  # noqa: E402

IMAGES = torch.rand(2, 3, 8, 8)
FREE = [('x', ('N', 3, 'H', 'W'))]


def told(call):
    """The line that a tool would print for the error of a call."""
    with pytest.raises(Exception) as caught, torch.no_grad():
        call()
    line = describe_user_error(caught.value)
    assert line is not None, repr(caught.value)
    assert '\n' not in line
    return line


@pytest.mark.parametrize(
    ('content', 'message'),
    {
        'missing': (None, r'path must be that of an ONNX file; .*/m\.onnx is not a file'),
        'empty': (b'', r'm\.onnx \(0 bytes\) cannot be opened .*: it is cut short, not an ONNX'),
        'text': (
            b'no model',
            r'm\.onnx \(8 bytes\) cannot be opened .* \(Inv\w+: Protobuf parsing failed',
        ),
        'truncated': (slice(None, 300), r'm\.onnx \(300 bytes\) cannot be opened .*cut short'),
        'one byte short': (slice(None, -1), r'cannot be opened .*cut short'),
        'pointer of Git LFS': (
            b'version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n',
            'm.onnx is a pointer of Git LFS: fetch the file with git lfs pull',
        ),
    }.values(),
    ids=lambda value: None,
)
def test_files_that_are_no_model(tmp_path, content, message):
    path = tmp_path / 'm.onnx'
    if isinstance(content, slice):
        content = write_mean_color(tmp_path).read_bytes()[content]
    if content is not None:
        path.write_bytes(content)
    assert re.search(message, told(lambda: OnnxBackbone(path)))


def test_files_for_other_versions(tmp_path):
    """Operators and formats that this onnxruntime does not know are named."""
    x = helper.make_tensor_value_info('x', 1, ('N', 3, 8, 8))
    y = helper.make_tensor_value_info('y', 1, ('N', 3, 1, 1))
    pooled = helper.make_node('GlobalAveragePool', ['x'], ['y'])
    newer = make_model([pooled], [x], [y])
    newer.ir_version = 99
    unknown = make_model([helper.make_node('Faces', ['x'], ['y'], domain='my.ops')], [x], [y])
    unknown.opset_import.append(helper.make_opsetid('my.ops', 1))
    for model, reason in (
        (newer, 'Unsupported model IR version: 99'),
        (unknown, r'my\.ops:Faces\(-1\) is not a registered function/op'),
    ):
        onnx.save(model, tmp_path / 'm.onnx')
        line = told(lambda: OnnxBackbone(tmp_path / 'm.onnx'))
        assert re.search(rf'or needs another version \(Fail: .*{reason}', line)
        assert 'onnxruntime_src' not in line


@pytest.mark.parametrize('name', ['mean_color.weights', 'w' * 200], ids=['short', 'long'])
def test_weights_beside_the_file_are_missing(tmp_path, name):
    path = write_mean_color(tmp_path, external=True)
    model = onnx.load(path, load_external_data=False)
    (location,) = (e for e in model.graph.initializer[0].external_data if e.key == 'location')
    location.value = name
    onnx.save(model, path)
    (tmp_path / 'mean_color.weights').rename(tmp_path / name)
    assert OnnxBackbone(path)
    (tmp_path / name).write_bytes(b'short')
    assert 'cut short' in told(lambda: OnnxBackbone(path))
    (tmp_path / name).unlink()
    line = told(lambda: OnnxBackbone(path))
    assert line.startswith(f'{path} keeps its weights in {name}, which is not beside it: copy it')


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(providers=['Abacus']), r"among \[.*'CPUExecutionProvider'\], got \['Abacus'\]"),
        (dict(providers=[]), r"among \[.*'CPUExecutionProvider'\], got \[\]"),
        (dict(threads=0), 'threads must be at least 1, got 0'),
        (dict(threads='2'), "threads must be .* number.*, got '2'"),
        (dict(threads=1.5), 'threads must be .* number.*, got 1.5'),
        (dict(output='features'), r"one of \['pooled'\], the outputs of .*; got 'features'"),
    ],
)
def test_settings(tmp_path, settings, message):
    path = write_mean_color(tmp_path)
    assert re.search(message, told(lambda: OnnxBackbone(path, **settings)))


@pytest.mark.parametrize(
    ('model', 'has'),
    {
        'two inputs': (
            dict(inputs=[('x', ('N', 3, 8, 8)), ('y', (1,))]),
            r"x: tensor\(float\) \['N', 3, 8, 8\], y: tensor\(float\) \[1\]",
        ),
        'four channels': (
            dict(inputs=[('x', ('N', 4, 8, 8))], weight=[1] * 4),
            r"x: .*\['N', 4, 8, 8\]",
        ),
        'integers': (dict(dtype=TensorProto.INT64), r'x: tensor\(int64\)'),
        'int8': (dict(dtype=TensorProto.INT8), r'x: tensor\(int8\)'),
        'bfloat16': (dict(dtype=TensorProto.BFLOAT16), r'x: tensor\(bfloat16\)'),
        'text': (dict(dtype=TensorProto.STRING), r'x: tensor\(string\)'),
    }.values(),
    ids=lambda value: None,
)
def test_inputs(tmp_path, model, has):
    line = told(lambda: OnnxBackbone(write_mean_color(tmp_path, **model)))
    wanted = r'must have one input, images of shape \(N, 3, H, W\) or \(N, H, W, 3\) in fp32, fp16'
    assert re.search(rf'mean_color\.onnx {wanted}.*; it has {has}', line)


def test_flat_input(tmp_path):
    x, y = (helper.make_tensor_value_info(name, 1, ('N', 192)) for name in 'xy')
    onnx.save(make_model([helper.make_node('Relu', ['x'], ['y'])], [x], [y]), tmp_path / 'm.onnx')
    assert "it has x: tensor(float) ['N', 192]" in told(lambda: OnnxBackbone(tmp_path / 'm.onnx'))


@pytest.mark.parametrize(
    ('operator', 'output', 'kind'),
    [
        (
            'SequenceConstruct',
            helper.make_tensor_sequence_value_info('y', TensorProto.FLOAT, None),
            'seq(tensor(float))',
        ),
        ('Shape', helper.make_tensor_value_info('y', TensorProto.INT64, [4]), 'tensor(int64)'),
        ('IsNaN', helper.make_tensor_value_info('y', TensorProto.BOOL, None), 'tensor(bool)'),
    ],
)
def test_outputs_that_are_no_embeddings(tmp_path, operator, output, kind):
    path = tmp_path / 'm.onnx'
    x = helper.make_tensor_value_info('x', TensorProto.FLOAT, ('N', 3, 8, 8))
    onnx.save(make_model([helper.make_node(operator, ['x'], ['y'])], [x], [output]), path)
    line = told(lambda: OnnxBackbone(path))
    assert f"output 'y' of {path} must be a tensor of floats, (N, D); it is {kind}: name" in line


def test_one_of_several_outputs(tmp_path):
    path = write_mean_color(tmp_path, outputs=[('total', ()), ('pooled', ('N', 3, 1, 1))])
    for output in (None, 'features'):
        line = told(partial(OnnxBackbone, path, output))
        assert f"one of ['total', 'pooled'], the outputs of {path}; got {output!r}" in line
    line = told(lambda: OnnxBackbone(path, 'total').eval()(IMAGES))
    assert re.search(r"'total' of .* \(N, D\); for 2 images it is \(\)", line)


@pytest.mark.parametrize('shape', [(2, 3, 8, 9), (2, 1, 8, 8), (3, 8, 8), (2, 8, 8, 3)])
@pytest.mark.parametrize('last', [False, True], ids=['channels first', 'channels last'])
def test_images_of_another_size(tmp_path, shape, last):
    """Images in the layout (N, H, W, 3), too: the backbone turns them round itself."""
    inputs = [('x', ('N', 8, 8, 3) if last else ('N', 3, 8, 8))]
    net = OnnxBackbone(write_mean_color(tmp_path, inputs=inputs, channels_last=last)).eval()
    line = told(lambda: net(torch.rand(shape)))
    assert re.search(
        rf"images must be \(3, 8, 8\) \(channels, height, width\) for input 'x' of .*; got "
        rf'{re.escape(str(shape[1:]))}: resize or align them in test_pipeline',
        line,
    )


def test_a_batch_that_is_free_in_name_only(tmp_path):
    """Exporters write the number of images into Reshape, and the file fails or mixes them."""
    x, y = (
        helper.make_tensor_value_info(n, 1, ('N', 3, 8, 8)[:r]) for n, r in (('x', 4), ('y', 2))
    )
    for shape, reason in (
        ([1, -1], r'for 2 images it is \(1, 384\)'),
        ([1, 192], 'cannot be reshaped to the requested shape'),
    ):
        number = onnx.numpy_helper.from_array(torch.tensor(shape).numpy(), 'shape')
        model = make_model([helper.make_node('Reshape', ['x', 'shape'], ['y'])], [x], [y], [number])
        model.graph.output[0].type.tensor_type.ClearField('shape')
        onnx.save(model, tmp_path / 'm.onnx')
        net = OnnxBackbone(tmp_path / 'm.onnx').eval()
        assert net(IMAGES[:1])[0].shape == (1, 192)
        line = told(partial(net, IMAGES))
        assert re.search(f'{reason}.*: if it was exported for one image, set .*batch_size=1', line)


@pytest.fixture
def manifest(tmp_path):
    """The small model with a manifest of it, and fields that differ."""
    path = write_mean_color(tmp_path)

    def write(**fields):
        one = Manifest(
            'mean', 'ab' * 32, 'BGR', [127.5] * 3, [128.0] * 3, embedding_dim=3, input_size=(8, 8)
        )
        replace(one, **fields).save(path)
        return path

    return write


def test_manifest_of_the_file(manifest):
    file_sha256 = OnnxBackbone(manifest()).file_sha256
    encoder = OnnxBackbone(manifest(file_sha256=file_sha256))
    assert encoder.manifest.file_sha256 == file_sha256
    preprocessor = dict(mean=[127.5] * 3, std=[128.0] * 3, to_rgb=False)
    assert EmbeddingRetriever(encoder, data_preprocessor=preprocessor)


@pytest.mark.parametrize(
    ('fields', 'difference'),
    [
        (dict(embedding_dim=512), 'embedding_dim (512 and 3)'),
        (dict(input_size=(112, 112)), 'input_size ([112, 112] and [8, 8])'),
        (dict(file_sha256='0' * 64), 'file_sha256 (000000000000 and '),
    ],
)
def test_manifest_of_another_file(manifest, fields, difference):
    path = manifest(**fields)
    line = told(lambda: OnnxBackbone(path))
    assert f'{manifest_file(path)} and {path} differ in {difference}' in line
    assert 'Export the model again, or remove the manifest' in line


@pytest.mark.parametrize(
    ('preprocessor', 'difference'),
    [
        (dict(to_rgb=True), 'channel_order BGR .*gives RGB: set data_preprocessor.to_rgb=False'),
        (dict(mean=[0.0] * 3), 'mean .*gives .*: set data_preprocessor.mean='),
        (dict(std=[127.5] * 3), 'std .*gives .*: set data_preprocessor.std='),
    ],
)
def test_manifest_of_other_preprocessing(manifest, preprocessor, difference):
    given = dict(mean=[127.5] * 3, std=[128.0] * 3, to_rgb=False) | preprocessor
    encoder = OnnxBackbone(manifest())
    line = told(lambda: EmbeddingRetriever(encoder, data_preprocessor=given))
    assert re.search(f'mean_color.onnx.manifest.json says {difference}', line)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('{', '', 'is not a manifest of mmarcface, or it is damaged'),
        ('"BGR"', '"GBR"', "channel_order must be one of .*got 'GBR'"),
        ('"BGR"', '"RGB"', 'was changed by hand'),
    ],
)
def test_damaged_manifest(manifest, old, new, message):
    path = manifest()
    beside = manifest_file(path)
    beside.write_text(beside.read_text().replace(old, new, 1))
    assert re.search(f'mean_color.onnx.manifest.json .*{message}', told(lambda: OnnxBackbone(path)))


def test_pixels_that_were_normalized(tmp_path):
    net = OnnxBackbone(write_mean_color(tmp_path, dtype=TensorProto.UINT8)).eval()
    line = told(lambda: net(IMAGES - 0.5))
    assert re.search(
        r'whole numbers in \[0, 255\]; got -0.\d+ to 0.\d+: set data_preprocessor.m', line
    )
