"""Files of other programs: one line says what each is and how its weights come out of it."""

import sys
import zipfile
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from mmarcface.checkpoint import RefusedError, _LeftOut, read_file

FILES = {
    'net.onnx': (b'\x08\x07\x12\x07pytorch', 'an ONNX file.* path of an OnnxBackbone'),
    'net.h5': (b'\x89HDF\r\n\x1a\n' + bytes(90), 'an HDF5 file.* export the model to ONNX'),
    'net.params': (b'\x12\x01' + bytes(90), 'a .params file of MXNet: export the model to ONNX'),
    'net.tflite': (b'\x1c\0\0\0TFL3' + bytes(90), 'a TensorFlow Lite file: export'),
    'net.pb': (b'\n\x04node', 'a file of TensorFlow: export'),
    'net.ckpt.data-00000-of-00001': (b'\0' * 90, 'a file of TensorFlow: export'),
    'net.safetensors.index.json': (
        b'{"metadata": {}, "weight_map": {"a": "1.safetensors"}}',
        'the index of a model in several safetensors files: join the files',
    ),
    'net.pt': (b'<!DOCTYPE html><title>Sign in</title>', 'a page of the web: the address'),
    'pointer.pt': (b'version https://git-lfs.github.com/spec/v1\n', 'a pointer .* git lfs pull'),
}


@pytest.mark.parametrize('name', FILES)
def test_each_is_named_with_advice(tmp_path, name):
    content, advice = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf'{name} \(\d+ bytes\) cannot be read: it is {advice}'):
        read_file(str(tmp_path / name))


@pytest.mark.filterwarnings('ignore:.*torch.jit')
def test_torchscript_is_refused_and_the_advice_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = nn.Linear(2, 3)
    torch.jit.script(net).save('net.pt')
    with pytest.raises(
        ValueError, match='it is a TorchScript archive, which holds code: '
    ) as error:
        read_file('net.pt')
    exec(str(error.value).rpartition('trust it: ')[2], dict(torch=torch))
    assert torch.equal(read_file('weights.pth')['weight'], net.weight)


@pytest.mark.parametrize('save', [np.save, np.savez])
def test_numpy_is_told_by_its_content(tmp_path, save):
    with (tmp_path / 'net.pth').open('wb') as file:
        save(file, np.ones(3))
    with pytest.raises(ValueError, match='it is a file of NumPy arrays'):
        read_file(str(tmp_path / 'net.pth'))


@pytest.fixture
def lightning(monkeypatch):
    """Classes of Lightning by their names; they are gone when files are read."""
    modules = {}
    for path in (
        'pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint',
        'pytorch_lightning.utilities.parsing.AttributeDict',
        'pytorch_lightning.utilities.seed.evil',
        'train_val.Options',
    ):
        module, _, name = path.rpartition('.')
        modules[module] = modules.get(module) or ModuleType(module)
        bases = (dict,) if name == 'AttributeDict' else (object,)
        setattr(modules[module], name, type(name, bases, dict(__module__=module)))
        for depth in range(1, module.count('.') + 1):
            parent = module.rsplit('.', depth)[0]
            modules[parent] = modules.get(parent) or ModuleType(parent)

    def save(content, path, **options):
        with monkeypatch.context() as here:
            for module_name, module in modules.items():
                here.setitem(sys.modules, module_name, module)
            torch.save(content, path, **options)

    save.of = lambda path: getattr(modules[path.rpartition('.')[0]], path.rpartition('.')[2])
    return save


def test_objects_of_lightning_are_left_out(tmp_path, lightning):
    checkpoint = lightning.of('pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint')
    options = lightning.of('pytorch_lightning.utilities.parsing.AttributeDict')
    # As Lightning before 1.5 has it: classes are keys.
    content = dict(
        state_dict={'model.weight': torch.ones(2)},
        callbacks={checkpoint: dict(best=torch.ones(1)), 'an object': checkpoint()},
        hyper_parameters=options(m=0.4),
    )
    lightning(content, tmp_path / 'net.ckpt')
    read = read_file(str(tmp_path / 'net.ckpt'))
    assert read['state_dict']['model.weight'].tolist() == [1, 1]
    assert read['hyper_parameters'] == dict(m=0.4)
    assert [getattr(key, '__name__', key) for key in read['callbacks']] == [
        'ModelCheckpoint',
        'an object',
    ]
    assert 'pytorch_lightning' not in sys.modules
    # Nothing is allowed from now on that was not before.
    assert not any('lightning' in str(one) for one in torch.serialization.get_safe_globals())


class Calls:
    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return self.function, ('was-here',)


def test_a_function_under_lightnings_name_is_not_called(tmp_path, lightning, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = dict(state_dict={}, evil=Calls(lightning.of('pytorch_lightning.utilities.seed.evil')))
    lightning(content, 'net.ckpt')
    assert type(read_file('net.ckpt')['evil']).__mro__[1] is _LeftOut
    # Beside it anything else is refused as ever.
    lightning(content | dict(other=Calls(zipfile.ZipFile)), 'net.ckpt')
    with pytest.raises(RefusedError, match='reading it would call'):
        read_file('net.ckpt')
    lightning(dict(options=lightning.of('train_val.Options')()), 'net.ckpt')
    with pytest.raises(RefusedError, match=r'would call train_val.Options') as error:
        read_file('net.ckpt')
    assert error.value.asked_for == 'train_val.Options'
