"""Mistakes of users at the command lines: one line that says what to do, and exit code 2."""

import shutil
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mmarcface.apis import get_model
from mmarcface.cli import run_command
from mmarcface.datasets import ORLFaces
from mmarcface.engine.config_files import config_names, find_config, parse_value
from mmarcface.user_errors import describe_user_error
from tests.in_process import run_process

ORL = 'iresnet18-arcface_orl'
SUBCENTER = 'iresnet18-subcenter-arcface_orl-flipped'
ONNX = 'mobilefacenet-onnx_orl'
PATH = 'model.image_encoder.path'
OPTIONS = '--cfg-options'
DATA = 'train_dataloader.dataset.data_root'
FEW = (f'{DATA}=faces', 'train_dataloader.dataset.people=[1,2,3]', 'train_cfg.max_epochs=1')

MISTAKES = [
    ('train nowhere.py', 'config nowhere.py does not exist: name the path of a file'),
    ('train iresnet18-arface_orl', 'did you mean iresnet18-arcface_orl or '),
    ('train faces', 'must be a file that ends in .py, got faces'),
    ('train open.py', "open.py:3: '(' was never closed"),
    ('train name.py', "name.py:4: NameError: name 'size' is not defined"),
    ('train type.py', 'Failed to import NoHead from mmarcface.models in type.py, line 1'),
    (f'train {ORL} {OPTIONS} max_epochs', "must be KEY=VALUE, got 'max_epochs'"),
    (f'train {ORL} {OPTIONS} a=[1,2', "a: ] is missing in '[1,2'"),
    (f'train {ORL} {OPTIONS} trian_cfg.max_epochs=1', 'has no trian_cfg; did you mean train_cfg?'),
    (
        f'train {ORL} {OPTIONS} train_cfg.max_epoch=1',
        'EpochBasedTrainLoop takes no max_epoch; did you mean max_epochs?',
    ),
    (f'train {ORL} {OPTIONS} train_cfg.max_epochs=ten', "int() with base 10: 'ten'"),
    (f'train {ORL} {OPTIONS} model.head.type=ArcfaceHead', 'did you mean ArcFaceHead?'),
    (f'train {ORL} {OPTIONS} model.head.num_clases=80', "no argument 'num_clases'"),
    (
        f'train {ORL} {OPTIONS} model.head.num_classes=all',
        "a whole number of at least 1, got 'all'",
    ),
    (f'train {ORL} {OPTIONS} optim_wrapper.optimizer.rate=1', 'SGD takes no rate'),
    (f'train {ORL} {OPTIONS} train_pipeline.x.scale=2', 'cannot set train_pipeline.x.scale to 2'),
    (f'train {ORL} {OPTIONS} train_dataloader.drop_last=no', "must be True or False, got 'no'"),
    (f'train {ORL} {OPTIONS} {DATA}=nowhere', 'data_root nowhere is not a folder'),
    (
        f'train {ORL} {OPTIONS} train_dataloader.batch_size=1000',
        'lower train_dataloader.batch_size',
    ),
    (
        f'train {ORL} {OPTIONS} {" ".join(FEW)} train_dataloader.batch_size=8 '
        'train_dataloader.num_workers=1',
        'faces/s2/4.pgm cannot be read: it is empty, cut short or not an image',
    ),
    (f'train {ORL} --work-dir file/work', 'file/work: Not a directory'),
    (f'train {ORL} --resume none.pth', 'checkpoint none.pth does not exist'),
    (f'train {ORL} --launcher slurm', 'use tools/dist_train.sh'),
    (f'train {ORL} --auto-scale-lr {OPTIONS} auto_scale_lr=None', 'needs auto_scale_lr = dict('),
    (f'test {ORL}', 'and needs a checkpoint; --untrained tests random ones'),
    (f'test {ORL} file', 'name another file, or fetch or write it again'),
    (f'test {ORL} orl.pth --out figures.csv', '--out must end in one of .json'),
    (f'test {ORL} orl.pth --untrained', '--untrained takes no checkpoint'),
    (f'test {ONNX}', 'fr_feature.onnx is not a file'),
    (f'test {ONNX} {OPTIONS} {PATH}=file', 'it is cut short, not an ONNX model'),
    (
        f'test {ONNX} {OPTIONS} {PATH}=file model.image_encoder.threads=0',
        'threads must be at least',
    ),
    (f'test {ONNX} {OPTIONS} model.image_encoder.thread=2', 'takes no thread'),
    ('invert none orl.pth', 'config none does not exist'),
    (f'invert {ORL} none.pth', 'checkpoint none.pth does not exist'),
    (f'invert {ORL} orl.pth --images empty', 'there are no images in empty'),
    (f'invert {ORL} orl.pth --embeddings none.npy', 'none.npy'),
    (f'invert {ORL} orl.pth --embeddings wide.npy', '7 wide and those of the model 128'),
    (f'invert {ORL} orl.pth --labels 80', 'target classes must be in [0, 80), got 80'),
    (f'invert {ORL} orl.pth --settings step=1', "there is no setting 'step'"),
    (f'invert {ORL} orl.pth --judge a b c', '--judge takes CONFIG and CHECKPOINT'),
    (f'invert audit {ORL} orl.pth', 'needs a judge'),
    (f'purify {ORL} orl.pth', 'num_subcenters=3'),
    (f'purify {SUBCENTER} none.pth', 'checkpoint none.pth does not exist'),
    (f'purify {SUBCENTER} orl.pth --threshold far', '--threshold'),
    ('convert rec none faces.rec', 'none does not exist: name a .rec or .bin file, or a folder'),
    ('convert rec faces faces.zip', 'the target must be named *.rec, got faces.zip'),
    ('convert folder faces faces/inside', 'name a folder beside it'),
    ('convert folder faces out', 'faces/s2/4.pgm of s2 cannot be read'),
    ('convert bin faces faces.bin --folds 0', 'must be at least 1, got 0'),
    ('convert weights none.pth out.pth', 'none.pth does not exist'),
    ('convert weights orl.pth orl.onnx', 'must be named *.pth or *.safetensors, got orl.onnx'),
    ('convert weights orl.pth out.pth', '; give --input-size HEIGHT WIDTH'),
    ('convert weights orl.pth out.pth --input-size 56', 'expected 2 arguments'),
    ('convert zip faces faces.zip', "invalid choice: 'zip'"),
    (f'plot mnist {OPTIONS} head.margin=1', 'has no head'),
    ('benchmark data --folder none --rounds 1', 'none does not exist'),
    ('benchmark head --loss triplet', "invalid choice: 'triplet'"),
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory, orl):
    """A folder with what is wrong in it."""
    folder = tmp_path_factory.mktemp('mistakes')
    for person in ('s1', 's2', 's3'):
        shutil.copytree(orl / person, folder / 'faces' / person)
    (folder / 'faces' / 's2' / '4.pgm').write_bytes(b'P5 92 112')
    (folder / 'empty').mkdir()
    (folder / 'file').write_text('nothing of use')
    (folder / 'open.py').write_text('\n\nmodel = dict(\n')
    (folder / 'name.py').write_text('import math\n\n\nscale = size\n')
    (folder / 'type.py').write_text(
        'from mmarcface.models import NoHead\n\nmodel = dict(type=NoHead)\n'
    )
    torch.manual_seed(0)
    torch.save(dict(state_dict=get_model(ORL).state_dict(), meta={}), folder / 'orl.pth')
    np.save(folder / 'wide.npy', np.ones((2, 7), np.float32))
    return folder


def one_line(done):
    """The line of an error; refuses more than that and the usage."""
    assert done.returncode == 2, done.stderr[-4000:]
    lines = done.stderr.splitlines()
    while lines[0].startswith(('usage: ', ' ')):
        del lines[0]
    (line,) = lines
    return line


# Errors in configs are recognized by the names of mmengine's functions.
@pytest.mark.both_stacks
@pytest.mark.parametrize(('command', 'advice'), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake(run_tool, tmp_path, folder, command, advice):
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    tool, *words = command.split()
    done = run_tool(f'{tool}.py', *words, fails=True)
    line = one_line(done)
    assert line.startswith(f'{tool}.py')
    assert ': error: ' in line
    assert advice in line
    assert 'Traceback' not in done.output


def test_a_process_says_it_in_one_line(run_tool, tmp_path):
    words = 'rec', 'none', 'faces.rec'
    done = run_process(tmp_path, 'convert.py', *words, PYTHONWARNINGS='')
    advice = 'none does not exist: name a .rec or .bin file, or a folder'
    assert one_line(done) == f'convert.py: error: {advice}'
    assert one_line(run_tool('convert.py', *words, fails=True, MMARCFACE_TRACEBACK='0'))
    for more, env in (((), dict(MMARCFACE_TRACEBACK='1')), (('--traceback',), {})):
        done = run_tool('convert.py', *words, *more, fails=True, **env)
        check_traceback(done, advice)


def check_traceback(done, advice):
    assert done.returncode == 2
    first, *_, error, line = done.stderr.splitlines()
    assert first == 'Traceback (most recent call last):'
    assert error == f'FileNotFoundError: {advice}'
    assert line == f'convert.py: error: {advice}'


def test_one_of_two_processes_says_it(tmp_path, folder):
    config = find_config(ORL)
    (tmp_path / 'faces').symlink_to(folder / 'faces')
    few = [*FEW, 'train_dataloader.batch_size=8']
    done = run_process(tmp_path, 'dist_train.sh', config, '2', OPTIONS, *few)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('train.py: ')]
    assert 'faces/s2/4.pgm cannot be read' in line


def fail(error):
    """Raise an error in code that is none of ours."""
    raise error


class Broken(ORLFaces):
    def get_data_info(self, idx):
        return [][idx]


@pytest.mark.parametrize(
    'bug',
    [
        lambda: torch.zeros(2) + torch.zeros(3),
        lambda: np.zeros(2).reshape(3),
        lambda: {}['key'],
        lambda: fail(ValueError('of other code')),
        lambda: next(iter(DataLoader(Broken(), num_workers=1))),
        lambda: get_model(ORL).head.class_loss(None, torch.tensor([0])),
    ],
    ids=['torch', 'NumPy', 'Python', 'raise', 'worker', 'ours'],
)
def test_a_bug_keeps_its_traceback(capsys, bug):
    with pytest.raises(Exception) as raised:
        run_command(lambda _: bug(), [])
    assert not isinstance(raised.value, SystemExit)
    assert describe_user_error(raised.value) is None
    assert capsys.readouterr().err == ''


def interrupt():
    raise KeyboardInterrupt


def interrupt_in_other_code():
    try:
        interrupt()
    except:  # noqa: E722
        raise SyntaxError('as mmengine takes it') from None


@pytest.mark.parametrize('how', [interrupt, interrupt_in_other_code])
def test_interrupted(capsys, monkeypatch, how):
    monkeypatch.setattr(sys, 'argv', ['tools/train.py'])
    with pytest.raises(SystemExit) as raised:
        run_command(lambda _: how(), [])
    assert raised.value.code == 130
    assert capsys.readouterr().err == 'train.py: interrupted\n'


def test_configs_by_name(tmp_path, monkeypatch):
    names = config_names()
    assert names['resnet50-arcface_8xb32_inshop'].name == 'resnet50-arcface_inshop.py'
    assert find_config('judge_orl').endswith('configs/inversion/judge_orl.py')
    # No name is that of two files.
    files = list(names['judge_orl'].parents[1].glob('[!_]*/*.py'))
    assert len(files) == len(set(names.values())) == len({path.stem for path in files})
    (tmp_path / 'judge_orl').mkdir()
    (tmp_path / 'own.py').touch()
    monkeypatch.chdir(tmp_path)
    assert find_config('own.py') == 'own.py'
    assert find_config('judge_orl').endswith('configs/inversion/judge_orl.py')


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1', 1),
        ('1e-3', 0.001),
        ('True', True),
        ('false', False),
        ('None', None),
        ('', ''),
        ('two  words', 'two  words'),
        ('/my faces/it\'s "one".jpg', '/my faces/it\'s "one".jpg'),
        ("'1,2'", '1,2'),
        ('"False"', 'False'),
        ('1,2', [1, 2]),
        ('a,', ['a']),
        ('s1, s 2', ['s1', 's 2']),
        ('[a,[b, c],(1,)]', ['a', ['b', 'c'], (1,)]),
        ('(a,b)', ('a', 'b')),
        ("['a, b', c]", ['a, b', 'c']),
        ('[]', []),
        ('photos (1)', 'photos (1)'),
        ('a(b', 'a(b'),
        ("{'a': 1}", {'a': 1}),
    ],
)
def test_values_on_the_command_line(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)
