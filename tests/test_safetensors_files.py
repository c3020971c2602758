"""Checkpoints as safetensors: files are made by the package, or byte by byte as the format says."""

import json
import struct

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mmarcface.apis import VerificationInferencer, get_model
from mmarcface.checkpoint import open_checkpoint, open_training, read_file, save_checkpoint
from mmarcface.models import IResNet

from .test_checkpoint import ORL, served  # noqa: F401

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def by_hand(header: bytes, data: bytes = b'', length: int | None = None) -> bytes:
    """A file as https://huggingface.co/docs/safetensors describes it."""
    return struct.pack('<Q', len(header) if length is None else length) + header + data


ONE = dict(weight=dict(dtype='F32', shape=[2], data_offsets=[0, 8]))


def test_the_layout_is_that_of_the_format(tmp_path):
    path = tmp_path / 'net.safetensors'
    path.write_bytes(by_hand(json.dumps(ONE).encode(), struct.pack('<2f', 1.5, -2)))
    assert read_file(str(path))['weight'].tolist() == [1.5, -2]
    save_checkpoint(dict(state_dict=dict(weight=torch.tensor([1.5, -2])), meta={}), path)
    content = path.read_bytes()
    (length,) = struct.unpack('<Q', content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header['weight'] == ONE['weight']
    assert struct.unpack('<2f', content[8 + length :]) == (1.5, -2)


@pytest.mark.parametrize('lazily', [False, True])
def test_all_types_come_back_as_they_were(tmp_path, lazily):
    values = {str(dtype): torch.tensor([[0, 1, 3]]).to(dtype) for dtype in DTYPES}
    values |= {'scalar': torch.tensor(3), 'nan': torch.tensor([float('nan'), -0.0])}
    values |= {'none': torch.empty(0, 4), 'turned': torch.arange(6.0).view(2, 3).T}
    values['same memory'] = values['turned']
    save_checkpoint(dict(state_dict=values, meta={}), tmp_path / 'net.safetensors')
    for read in (
        read_file(str(tmp_path / 'net.safetensors'), None, lazily)['state_dict'],
        load_file(tmp_path / 'net.safetensors'),
    ):
        assert read.keys() == values.keys()
        for name, value in values.items():
            assert read[name].dtype == value.dtype
            torch.testing.assert_close(read[name], value, rtol=0, atol=0, equal_nan=True)


def test_metadata_is_kept_as_json(tmp_path):
    meta = dict(
        epoch=np.int64(3), cfg='a = 1\n', classes=('s1', 's2'), best=np.float64(0.5),
        values=np.arange(3), nothing=None, model=nn.Linear(1, 1), nested={'a': [1, {2}]},
    )  # fmt: skip
    path = tmp_path / 'net.safetensors'
    save_checkpoint(dict(state_dict=dict(a=torch.ones(1)), meta=meta), path)
    kept = dict(epoch=3, cfg='a = 1\n', classes=['s1', 's2'], best=0.5, values=[0, 1, 2])
    assert open_checkpoint(path)['meta'] == kept | dict(nothing=None)
    with safe_open(path, 'pt') as file:
        assert file.metadata()['format'] == 'pt'
    save_checkpoint(dict(state_dict=dict(a=torch.ones(1)), meta=dict(epoch=1, iter=2)), path)
    with pytest.raises(ValueError, match='without the message_hub of a training, which cannot be'):
        open_training(path)


def test_the_content_decides_and_not_the_name(tmp_path):
    weights = dict(weight=torch.ones(2))
    save_file(weights, tmp_path / 'safetensors.pth')
    assert read_file(str(tmp_path / 'safetensors.pth'))['weight'].tolist() == [1, 1]
    for zipped in (True, False):
        path = tmp_path / 'net.safetensors'
        torch.save(weights, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r'under the name .safetensors: rename it to .pth'):
            read_file(str(path))
    # Lengths of headers that begin as pickles and zip files do.
    for length in (0x80, 0x280, 0x4B50):
        header = json.dumps(ONE).encode().ljust(length)
        (tmp_path / 'odd').write_bytes(by_hand(header, bytes(8)))
        assert read_file(str(tmp_path / 'odd'))['weight'].tolist() == [0, 0]


WAYS = {
    'load_checkpoint': CheckpointLoader.load_checkpoint,
    'get_model': lambda path: get_model(ORL, pretrained=path).state_dict(),
    'inferencer': lambda path: VerificationInferencer(
        ORL, pretrained=path, threshold=0
    ).model.state_dict(),
}


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('place', ['file', 'web'])
def test_every_reader_takes_it(served, tmp_path, way, place):  # noqa: F811
    weights = get_model(ORL).state_dict()
    save_checkpoint(dict(state_dict=weights, meta=dict(a=1)), tmp_path / 'net.safetensors')
    found = WAYS[way](f'{tmp_path if place == "file" else served}/net.safetensors')
    found = found.get('state_dict', found)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_training_starts_from_it(tmp_path):
    net = IResNet(18, 8, 32, 2)
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'net.safetensors'))
    # Of another project, without metadata.
    save_file({f'net.{k}': v for k, v in net.state_dict().items()}, init_cfg['checkpoint'])
    other = IResNet(18, 8, 32, 2, init_cfg=init_cfg | dict(prefix='net.'))
    other.init_weights()
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_a_file_that_is_read_may_be_replaced(tmp_path):
    path = tmp_path / 'net.safetensors'
    save_file(dict(weight=torch.ones(1000)), path)
    read = read_file(str(path))
    path.write_bytes(bytes(path.stat().st_size))
    assert read['weight'].eq(1).all()


GOOD = by_hand(json.dumps(ONE).encode(), bytes(8))
UNREADABLE = {
    'empty': (b'', 'it is cut short; fetch or write it again'),
    'three bytes': (b'abc', 'it is cut short'),
    'in the header': (GOOD[:40], 'it is cut short'),
    'in the tensors': (GOOD[:-3], 'it is damaged .*not fully covered'),
    'too much': (GOOD + b'more', 'it is damaged'),
    'header too large': (by_hand(b'{}', length=10**12), 'take 1000000000000 bytes, more than the'),
    'another format': (b'solid teapot\n facet normal', r'or no .safetensors file'),
    'no braces': (by_hand(b'[1, 2]  '), r'it is damaged or no .safetensors file'),
    'no JSON': (by_hand(b'{"weight": '), 'it is damaged .*header'),
    'overlap': (
        by_hand(json.dumps({'a': ONE['weight'], 'b': ONE['weight']}).encode(), bytes(8)),
        'it is damaged',
    ),
    'past the end': (
        by_hand(json.dumps(dict(a=dict(ONE['weight'], data_offsets=[0, 80]))).encode(), bytes(8)),
        'it is damaged',
    ),
    'unknown type': (
        by_hand(json.dumps(dict(a=dict(ONE['weight'], dtype='Q99'))).encode(), bytes(8)),
        'it is damaged',
    ),
    'our entry': (
        by_hand(json.dumps(ONE | dict(__metadata__=dict(mmarcface='[1'))).encode(), bytes(8)),
        'it is damaged, as the entry mmarcface of its header',
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', UNREADABLE)
def test_unreadable_files_are_named(tmp_path, name):
    content, problem = UNREADABLE[name]
    path = tmp_path / 'net.safetensors'
    path.write_bytes(content)
    for read in (CheckpointLoader.load_checkpoint, open_checkpoint):
        with pytest.raises(
            ValueError, match=rf'net.safetensors \(\d+ bytes\) cannot be read: .*{problem}'
        ) as caught:
            read(str(path))
        assert '\n' not in str(caught.value)


def test_what_it_cannot_hold(tmp_path):
    for value, problem in (
        (dict(a=1), 'a of the state dict is dict, and .safetensors holds dense tensors only'),
        (torch.zeros(2).to_sparse(), 'is torch.sparse_coo, .* write a .pth file'),
    ):
        with pytest.raises(ValueError, match=problem):
            save_checkpoint(dict(state_dict=dict(a=value), meta={}), tmp_path / 'a.safetensors')
    with pytest.raises(ValueError, match=r'must be named .pth or .safetensors, got .*net.onnx'):
        save_checkpoint(dict(state_dict={}, meta={}), tmp_path / 'net.onnx')
    assert not list(tmp_path.iterdir())


def test_the_package_is_named_where_it_is_missing(tmp_path, monkeypatch):
    save_file(dict(weight=torch.ones(2)), tmp_path / 'net.safetensors')
    monkeypatch.setitem(__import__('sys').modules, 'safetensors', None)
    with pytest.raises(ImportError, match=r"to read .*: pip install 'mmarcface\[weights\]'"):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'net.safetensors'))
    with pytest.raises(ImportError, match='safetensors is not installed, to write'):
        save_checkpoint(dict(state_dict={}, meta={}), tmp_path / 'other.safetensors')
