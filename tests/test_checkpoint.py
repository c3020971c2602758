import json
import os
import pickle
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain import FeatureExtractor, ImageRetrievalInferencer
from torch import nn

from mmarcface.apis import VerificationInferencer, get_model, read_embeddings
from mmarcface.checkpoint import (
    load_from_local,
    open_checkpoint,
    open_training,
    read_file,
    save_checkpoint,
)
from mmarcface.models import IResNet

pytestmark = pytest.mark.both_stacks
ORL = 'iresnet18-arcface_orl'


class Malicious:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


class MaliciousGetattr:
    """What onedl-mmengine's list of harmless functions would let a file call."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def training_checkpoint() -> dict:
    buffer = HistoryBuffer()
    buffer.update(1.5, 2)
    return dict(
        state_dict=dict(weight=torch.ones(2)),
        message_hub=dict(log_scalars=dict(loss=buffer), runtime_info=dict(best=np.float64(3))),
        meta=dict(
            seed=np.int64(7),
            values=np.arange(3, dtype=np.int32),
            flags=np.zeros(2, bool),
            half=np.float16(0.5),
            name=np.str_('orl'),
        ),
    )


def test_mmengine_checkpoints_load(tmp_path):
    path = str(tmp_path / 'epoch_1.pth')
    torch.save(training_checkpoint(), path)
    content = CheckpointLoader.load_checkpoint(path)
    assert content['message_hub']['log_scalars']['loss'].current() == 1.5
    assert content['message_hub']['runtime_info']['best'] == 3
    assert content['meta']['seed'] == 7
    assert content['meta']['values'].tolist() == [0, 1, 2]


def test_files_of_numpy_1_load(tmp_path):
    path = tmp_path / 'old.pth'
    content = pickle.dumps(dict(seed=np.float64(7), values=np.arange(3)), protocol=2)
    old = content.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    assert old != content
    # The form of torch before 1.6: magic number, protocol, system, content, storages.
    header = (0x1950A86A20F9469CFC6C, 1001, dict(little_endian=True))
    parts = [pickle.dumps(part, protocol=2) for part in header]
    path.write_bytes(b''.join([*parts, old, pickle.dumps([], protocol=2)]))
    assert read_file(str(path))['values'].tolist() == [0, 1, 2]


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The test's folder behind a web server of this machine."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def test_checkpoints_from_the_web_are_read_weights_only(served, tmp_path):
    torch.save(training_checkpoint(), tmp_path / 'good.pth')
    content = CheckpointLoader.load_checkpoint(f'{served}/good.pth')
    assert content['state_dict']['weight'].tolist() == [1, 1]


def start_from(path):
    IResNet(init_cfg=dict(type='Pretrained', checkpoint=path)).init_weights()


def resume(path):
    runner = Runner(nn.Linear(1, 1), f'{path}-work', default_scope='mmpretrain')
    runner.resume(path)


def from_a_bucket(path):
    load_checkpoint(nn.Linear(1, 1), f's3://{path}')


def from_the_model_zoo(path):
    with open(os.path.join(os.path.dirname(path), 'open_mmlab.json'), 'w') as file:
        json.dump(dict(net=os.path.basename(path)), file)
    load_checkpoint(nn.Linear(1, 1), 'openmmlab://net')


WAYS = {
    'our own': load_from_local,
    'a look': open_checkpoint,
    'load_checkpoint': lambda path: load_checkpoint(nn.Linear(1, 1), path),
    'resume': resume,
    'init_cfg': start_from,
    'get_model': lambda path: get_model(ORL, pretrained=path),
    "mmpretrain's model": lambda path: get_model('resnet18_8xb32_in1k', pretrained=path),
    'search': lambda path: ImageRetrievalInferencer(ORL, torch.ones(1, 128), pretrained=path),
    'features': lambda path: FeatureExtractor(ORL, pretrained=path),
    'verification': lambda path: VerificationInferencer(ORL, pretrained=path, threshold=0),
    'a bucket': from_a_bucket,
    'a model zoo': from_the_model_zoo,
}


class Bucket:
    """Storage whose names are paths of this machine."""

    def get(self, name: str) -> bytes:
        with open(name.removeprefix('s3://'), 'rb') as file:
            return file.read()


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('kind', ['call', 'getattr'])
def test_malicious_pickle_is_refused(tmp_path, monkeypatch, way, kind):
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    monkeypatch.setattr(mmengine_checkpoint, 'get_file_backend', lambda *_, **__: Bucket())
    trace = tmp_path / 'was-here'
    payload = Malicious(trace) if kind == 'call' else MaliciousGetattr()
    path = str(tmp_path / 'evil.pth')
    torch.save(dict(state_dict=nn.Linear(1, 1).state_dict(), meta=payload), path)
    # mmengine 0.10.7 leaves some of its ways at torch's own error.
    with pytest.raises((ValueError, pickle.UnpicklingError)) as caught:
        WAYS[way](path)
    assert not trace.exists()
    assert ('mkdir' if kind == 'call' else 'getattr') in str(caught.value)
    if not way.startswith('a '):
        assert f'checkpoint {path}' in str(caught.value)
        assert 'is refused: reading it would call' in str(caught.value)


def test_the_trace_of_a_malicious_pickle(tmp_path):
    """What the test above would find if the file were read without care."""
    torch.save(dict(meta=Malicious(tmp_path / 'was-here')), tmp_path / 'evil.pth')
    torch.load(tmp_path / 'evil.pth', weights_only=False)
    assert (tmp_path / 'was-here').exists()


def test_malicious_pickle_from_the_web_is_refused(served, tmp_path):
    trace = tmp_path / 'was-here'
    torch.save(dict(state_dict={}, meta=Malicious(trace)), tmp_path / 'evil.pth')
    for read in (CheckpointLoader.load_checkpoint, open_checkpoint, WAYS['get_model']):
        with pytest.raises(ValueError, match=r'http.*evil.pth is refused: .* call .*mkdir'):
            read(f'{served}/evil.pth')
    with pytest.raises(FileNotFoundError, match=r'file://.* does not exist'):
        CheckpointLoader.load_checkpoint(f'file://{tmp_path}/evil.pth')
    assert not trace.exists()


def test_no_environment_switches_the_care_off(served, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    trace = tmp_path / 'was-here'
    torch.save(dict(state_dict={}, meta=Malicious(trace)), tmp_path / 'evil.pth')
    for name in (f'{tmp_path}/evil.pth', f'{served}/evil.pth'):
        with pytest.raises(ValueError, match='is refused'):
            CheckpointLoader.load_checkpoint(name)
    assert not trace.exists()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.2, 0.5, 0.7, 0.99])
def test_truncated_file_is_named(tmp_path, share, zipped):
    path = tmp_path / 'short.pth'
    torch.save(training_checkpoint(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    # A name that is cut short is refused like any other unknown name.
    with pytest.raises(ValueError, match=r'short.pth \(\d+ bytes\) (cannot be read|is refused)'):
        load_from_local(str(path))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_damaged_bytes_are_told_in_one_line(tmp_path, suffix):
    path, random = tmp_path / f'net{suffix}', np.random.default_rng(0)
    weights = {f'layer{i}.weight': torch.ones(3, 4) for i in range(5)}
    save_checkpoint(dict(state_dict=weights, meta=dict(cfg='a = 1')), path)
    content, errors = path.read_bytes(), []
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(len(content), size=random.integers(1, 9)):
            damaged[place] = random.integers(256)
        path.write_bytes(
            damaged[: random.integers(len(content)) if random.random() < 0.3 else None]
        )
        try:
            read_file(str(path))
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > 50
    assert all(error.startswith(f'checkpoint {path} (') for error in errors)
    assert not any('\n' in error for error in errors)


@pytest.mark.parametrize(
    ('content', 'found'),
    [([1, 2], 'list'), (dict(meta={}), r"\['meta'\]"), (dict(state_dict={}), r"\['state_dict'\]")],
)
def test_file_without_weights_is_named(tmp_path, content, found):
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    for read in (load_from_local, open_checkpoint):
        with pytest.raises(ValueError, match=rf'other.pth holds no weights: .* got .*{found}'):
            read(str(path))


def test_a_model_refuses_a_file_without_weights(tmp_path):
    torch.save(dict(meta={}), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other.pth is the checkpoint of another model: .* missi'):
        get_model(ORL, pretrained=str(tmp_path / 'other.pth'))


@pytest.mark.parametrize('content', [[1, 2], dict(meta=dict(epoch=1)), {1: 2}, 'text'])
def test_what_others_read_with_mmengine_stays_as_it_is(served, tmp_path, content):
    torch.save(content, tmp_path / 'other.pth')
    for name in (f'{tmp_path}/other.pth', f'{served}/other.pth'):
        assert CheckpointLoader.load_checkpoint(name) == content


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r'nowhere.pth does not exist'):
        load_from_local('nowhere.pth')


NO_CHECKPOINTS = {
    'config.py': b'model = dict()\n',
    'another.py': b'custom_hooks = [\n    dict(type=1),\n]\n',
    'list.csv': b'a,b\n1,2\n',
    'image.jpg': b'\xff\xd8\xff\xe0' + bytes(range(200)),
    'pickle.pkl': pickle.dumps([1, 2]),
    'arrays.pkl': pickle.dumps(np.ones(3)),
    'net.onnx': b'\x08\x07\x12\x07pytorch',
    'empty.pth': b'',
    'words.pth': b'version https://git-lfs.github.com/spec/v1\n',
}


@pytest.mark.parametrize('name', NO_CHECKPOINTS)
def test_files_that_are_no_checkpoints(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(NO_CHECKPOINTS[name])
    for read in (load_from_local, open_checkpoint, open_training, with_model):
        with pytest.raises(
            ValueError, match=rf'{name} \(\d+ bytes\) cannot be read: it is'
        ) as caught:
            read(str(path))
        # Neither torch's words nor its advice to read such a file without care.
        assert 'pickl' not in str(caught.value).replace(name, '').lower()
        assert 'weights_only' not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    if name.endswith('.pth'):
        with pytest.raises(ValueError, match='cannot be read as embeddings') as caught:
            read_embeddings(path)
        assert 'weights_only' not in str(caught.value)


def with_model(path):
    get_model(ORL, pretrained=path)


def test_a_folder_is_no_checkpoint(tmp_path):
    for read in (load_from_local, open_training, with_model):
        with pytest.raises(FileNotFoundError, match='is a folder: name a file in it'):
            read(str(tmp_path))


@pytest.mark.parametrize('zipped', [True, False])
def test_a_look_into_a_checkpoint(tmp_path, zipped):
    path = tmp_path / 'epoch_1.pth'
    content = training_checkpoint()
    content['meta'] |= dict(epoch=1, iter=3)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for read in (open_checkpoint, open_training):
        found = read(path)
        assert found['meta']['iter'] == 3
        assert found['state_dict']['weight'].tolist() == [1, 1]
    for key, lacking in dict(meta='epoch and iteration', message_hub='message_hub').items():
        torch.save({k: v for k, v in content.items() if k != key}, path)
        open_checkpoint(path)
        message = rf'epoch_1\.pth holds weights without the {lacking} of a training'
        with pytest.raises(ValueError, match=message):
            open_training(path)


def test_a_look_into_a_checkpoint_on_the_web(served, tmp_path):
    torch.save(training_checkpoint(), tmp_path / 'good.pth')
    assert open_checkpoint(f'{served}/good.pth')['meta']['name'] == 'orl'


def test_names_of_weights_are_words(tmp_path):
    torch.save({1: torch.ones(2)}, tmp_path / 'numbers.pth')
    with pytest.raises(ValueError, match=r'numbers\.pth holds no weights: .* got keys \[1\]'):
        load_from_local(str(tmp_path / 'numbers.pth'))
