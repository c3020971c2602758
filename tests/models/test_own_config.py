"""Configs in checkpoints: read as mmengine reads them, and without running what they say."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmarcface.models.weights.conversion import convert_weights
from mmarcface.models.weights.own_config import read_own_config

from ..conftest import ROOT

NAMES = (
    'arcface/iresnet18-arcface_orl',
    'arcface/iresnet18-arcface_glyphs',
    'arcface/iresnet50-arcface_ms1mv3',
    'arcface/resnet50-arcface_inshop',
    'inversion/judge_orl',
    'mnist/lenet-arcface_mnist',
    'subcenter/iresnet18-subcenter-arcface_orl-flipped',
    'verification/ir101-adaface_lfw',
)


@pytest.mark.parametrize('name', NAMES)
def test_configs_are_read_as_by_mmengine(name):
    text = Config.fromfile(ROOT / 'configs' / f'{name}.py').pretty_text
    read, expected = read_own_config(text), Config.fromstring(text, '.py')
    assert read.to_dict() == expected.to_dict()
    assert read.pretty_text == expected.pretty_text


def test_values_keep_their_types():
    text = "a = (1, -2.5, 1e-3, None)\nb = dict({'x y': [True], 3: 'é'}, c=dict())\nd = {1}\n"
    content = read_own_config(text).to_dict()
    assert content == dict(a=(1, -2.5, 0.001, None), b={'x y': [True], 3: 'é', 'c': {}}, d={1})
    assert type(content['a']) is tuple


MODEL = (
    "model = dict(type='mmarcface.EmbeddingRetriever', image_encoder=dict(type='mmarcface.IResNet',"
    ' depth=18, embedding_dim=8, input_size=32, base_channels=2))\n'
)
HARMFUL = {
    'a call': ("import os\nos.mkdir('was-here')\n", 'line 1 is no assignment'),
    'a call as a value': ("x = __import__('os').mkdir('was-here')\n", 'line 1 calls __import__'),
    'a call in a list': ("x = [dict(y=open('was-here', 'w'))]\n", 'line 1 calls open'),
    'a call in a key': ("x = {open('was-here', 'w'): 1}\n", 'malformed node'),
    'a comprehension': ("x = [open('was-here', 'w') for _ in (1,)]\n", 'malformed node'),
    'an f-string': ('x = f\'{open("was-here", "w")}\'\n', 'malformed node'),
    'a function': ("custom_hooks = [dict(type='os.mkdir', path='was-here')]\n", "type='os.mkdir'"),
    'in the model': (
        MODEL.replace("type='mmarcface.IResNet'", "type='os.mkdir', path='was-here'"),
        "has type='os.mkdir', which is registered by none of mmengine, mmpretrain, mmarcface, mmcv",
    ),
    'a module beside it': ("x = dict(type='evil.IResNet')\n", "has type='evil.IResNet'"),
    'another constructor': ("x = dict(constructor='os.mkdir')\n", "constructor='os.mkdir'"),
    'a function of torch': ("x = [(dict(type='torch.hub.load'),)]\n", "type='torch.hub.load'"),
    'a key that ends itself': (
        """x = dict({"a': open('was-here', 'w'), 'b": 1})\n""",
        'damaged or more than plain values',
    ),
    'another key that ends itself': (
        """x = dict({"a': 1, 'b": 1, "c d": 2})\n""",
        'a key has quotes in it',
    ),
    'a dict unpacked': ('x = dict(**{})\n', 'line 1 unpacks a dict'),
    'half a text': ('x = dict(a=[1,\n', 'never closed'),
    'deep': ('x = ' + '[' * 5000 + ']' * 5000, 'damaged or more than plain values'),
    'a reserved name': ('filename = 1\n', 'filename is reserved'),
    'no model': ('x = 1\n', 'has no model with an image_encoder'),
}


@pytest.mark.parametrize('name', HARMFUL)
def test_what_a_checkpoint_says_is_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    text, message = HARMFUL[name]
    Path('evil.py').write_text("open('was-here', 'w')\n")
    state = {'image_encoder.conv1.weight': torch.ones(1)}
    torch.save(dict(state_dict=state, meta=dict(cfg=text)), 'net.pth')
    with pytest.raises(ValueError, match=f'net.pth: .*{message}') as error:
        convert_weights('net.pth', 'out.pth')
    assert '\n' not in str(error.value)
    assert sorted(path.name for path in Path().iterdir()) == ['evil.py', 'net.pth']


def test_classes_of_others_may_be_registered(tmp_path):
    with pytest.raises(ValueError, match=r"type='Own', which is registered by none of"):
        read_own_config("model = dict(type='Own')\n")
    own = type('Own', (torch.nn.Module,), dict(__module__='theirs.nets'))
    MODELS.register_module(module=own)
    try:
        for name in ('Own', 'theirs.nets.Own'):
            assert read_own_config(f'model = dict(type={name!r})\n').model.type == name
        with pytest.raises(ValueError, match=r"type='others.Own'"):
            read_own_config("model = dict(type='others.Own')\n")
    finally:
        del MODELS.module_dict['Own']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("name = '{{$NOTHING:|\\\\'); print(1) #}}'\n", 'in whose place mmengine puts other text'),
        ("_base_ = 'other.py'\n", 'goes on from another file, _base_'),
        (
            "custom_imports = dict(imports=['os', 'mmarcface'])\n",
            'it imports os, by custom_imports',
        ),
        ('custom_imports = 3\n', 'more than plain values'),
    ],
)
def test_what_mmengine_would_read_or_run_beside_it(text, message):
    with pytest.raises(ValueError, match=message):
        read_own_config(text)
    assert read_own_config("custom_imports = dict(imports='mmarcface.models')\n")
