import os
import pickle
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

import mmarcface.plugin  # noqa: F401
from mmarcface.apis import get_model, read_embeddings
from mmarcface.checkpoint import load_from_local, open_checkpoint, open_training, read_file


class Malicious:
    def __reduce__(self):
        return os.system, ('touch /tmp/mmarcface-was-here',)


class MaliciousGetattr:
    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def mmengine_checkpoint() -> dict:
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
    torch.save(mmengine_checkpoint(), path)
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


@pytest.mark.parametrize(
    ('payload', 'named'), [(Malicious(), 'system'), (MaliciousGetattr(), 'getattr')]
)
def test_malicious_pickle_is_refused(tmp_path, payload, named):
    path = str(tmp_path / 'evil.pth')
    torch.save(dict(state_dict={}, meta=payload), path)
    with pytest.raises(ValueError, match=rf'evil.pth .* is refused: .* would call .*{named}'):
        load_from_local(path)
    assert not os.path.exists('/tmp/mmarcface-was-here')


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The test's folder behind a web server of this machine."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def test_checkpoints_from_the_web_are_read_weights_only(served, tmp_path):
    torch.save(mmengine_checkpoint(), tmp_path / 'good.pth')
    content = CheckpointLoader.load_checkpoint(f'{served}/good.pth')
    assert content['state_dict']['weight'].tolist() == [1, 1]
    torch.save(dict(state_dict={}, meta=Malicious()), tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r'http.*evil.pth is refused'):
        CheckpointLoader.load_checkpoint(f'{served}/evil.pth')
    assert not os.path.exists('/tmp/mmarcface-was-here')


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.2, 0.5, 0.7, 0.99])
def test_truncated_file_is_named(tmp_path, share, zipped):
    path = tmp_path / 'short.pth'
    torch.save(mmengine_checkpoint(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    # A name that is cut short is refused like any other unknown name.
    with pytest.raises(ValueError, match=r'short.pth \(\d+ bytes\) (cannot be read|is refused)'):
        load_from_local(str(path))


@pytest.mark.parametrize(
    ('content', 'found'),
    [([1, 2], 'list'), (dict(meta={}), r"\['meta'\]"), (dict(state_dict={}), r"\['state_dict'\]")],
)
def test_file_without_weights_is_named(tmp_path, content, found):
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf'other.pth holds no weights: .* got .*{found}'):
        CheckpointLoader.load_checkpoint(str(path))


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
        assert caught.value.__suppress_context__
    if name.endswith('.pth'):
        with pytest.raises(ValueError, match='cannot be read as embeddings') as caught:
            read_embeddings(path)
        assert 'weights_only' not in str(caught.value)


def with_model(path):
    get_model('iresnet18-arcface_orl', pretrained=path)


def test_a_folder_is_no_checkpoint(tmp_path):
    for read in (load_from_local, open_training, with_model):
        with pytest.raises(FileNotFoundError, match='is a folder: name a file in it'):
            read(str(tmp_path))


@pytest.mark.parametrize('zipped', [True, False])
def test_a_look_into_a_checkpoint(tmp_path, zipped):
    path = tmp_path / 'epoch_1.pth'
    content = mmengine_checkpoint()
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
    torch.save(mmengine_checkpoint(), tmp_path / 'good.pth')
    assert open_checkpoint(f'{served}/good.pth')['meta']['name'] == 'orl'


def test_names_of_weights_are_words(tmp_path):
    torch.save({1: torch.ones(2)}, tmp_path / 'numbers.pth')
    with pytest.raises(ValueError, match=r'numbers\.pth holds no weights: .* got keys \[1\]'):
        load_from_local(str(tmp_path / 'numbers.pth'))
