"""Mistakes of users at the command lines: one line that says what to do, and exit code 2."""

import shutil

import numpy as np
import pytest
import torch

from mmarcface.apis import get_model

ORL = 'iresnet18-arcface_orl'
SUBCENTER = 'iresnet18-subcenter-arcface_orl-flipped'
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
    (f'train {ORL} {OPTIONS} train_cfg.max_epoch=1', 'EpochBasedTrainLoop takes no max_epoch'),
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
    (f'test {ORL}', 'a checkpoint is needed'),
    (f'test {ORL} file', 'name another file, or fetch or write it again'),
    (f'test {ORL} orl.pth --out figures.csv', '--out must end in one of .json'),
    (f'test {ORL} orl.pth --untrained', '--untrained takes no checkpoint'),
    ('invert none orl.pth', 'config none does not exist'),
    (f'invert {ORL} none.pth', 'checkpoint none.pth does not exist'),
    (f'invert {ORL} orl.pth --images empty', 'there are no images in empty'),
    (f'invert {ORL} orl.pth --embeddings none.npy', 'none.npy'),
    (f'invert {ORL} orl.pth --embeddings wide.npy', '7 wide and those of the model 128'),
    (f'invert {ORL} orl.pth --labels 80', '80'),
    (f'invert {ORL} orl.pth --settings step=1', 'step'),
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
    ('convert insightface none.pth out.pth', 'none.pth does not exist'),
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
    lines = [line for line in done.stderr.splitlines() if not line.startswith('[ERROR:')]
    lines = [line for line in lines if line]
    while lines[0].startswith(('usage: ', ' ')):
        del lines[0]
    (line,) = lines
    return line


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
