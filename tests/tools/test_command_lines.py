"""Wrong input through the command lines: one clear error each."""

import ast
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmarcface.apis import get_model
from tests.conftest import ROOT

CONFIG = ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py'
SHORT = [
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'default_hooks.checkpoint.interval=1',
]


TOOLS = sorted((ROOT / 'tools').glob('*.py'))


@pytest.mark.parametrize('path', [*TOOLS, ROOT / 'mmarcface' / 'engine' / 'launch.py'])
def test_help_explains_every_option(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    options = [call for call in calls if getattr(call.func, 'attr', '') == 'add_argument']
    for option in options:
        assert 'help' in {keyword.arg for keyword in option.keywords}, ast.unparse(option)
    assert options


def train(run_tool, tmp_path, *options, flags=(), **arguments):
    command = ['train.py', CONFIG, '--work-dir', tmp_path / 'work', *flags]
    return run_tool(*command, '--cfg-options', *SHORT, *options, **arguments)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('orl') / 'epoch_1.pth'
    torch.save(dict(state_dict=get_model('iresnet18-arcface_orl').state_dict(), meta={}), path)
    return path


def test_training_ends_with_a_table_and_commands_that_work(run_tool, tmp_path, orl):
    done = train(run_tool, tmp_path)
    table = done.output[done.output.index('never seen in training') :]
    rows = {
        name: [float(value) for value in re.findall(r'\d+\.\d+', line)]
        for name in ('this model', 'RawPixels')
        for line in table.splitlines()
        if name in line
    }
    assert len(rows['this model']) == len(rows['RawPixels']) == 5
    recall, _, auc, eer, tar = rows['RawPixels']
    # The pixels themselves, as cosines of images without their mean: no training, no chance.
    assert (recall, auc) == (pytest.approx(98, abs=2), pytest.approx(92, abs=3))
    assert eer < 20
    assert tar > 35
    test = re.search(r'python tools/(test.py) (\S+) (\S+) --out (\S+)', table)
    run_tool(*test.groups()[:3], '--out', tmp_path / 'figures.json')
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert figures['verification/AUC'] == pytest.approx(rows['this model'][2], abs=0.01)
    (line,) = [line for line in table.splitlines() if line.startswith('  python -c')]
    code = shlex.split(line)[2]
    code = code.replace('FOLDER', str(orl / 's1')).replace('IMAGE', str(orl / 's1' / '3.pgm'))
    command = [sys.executable, '-W', 'ignore', '-c', code]
    env = os.environ | {'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert '/s1/3.pgm' in done.stdout, done.stderr


def test_flags(run_tool, tmp_path):
    done = train(run_tool, tmp_path, flags=['--no-validate', '--auto-scale-lr'])
    assert 'Epoch(val)' not in done.output
    assert 'LR is set based on batch size of 64' in done.output
    if not torch.cuda.is_available():
        done = train(run_tool, tmp_path, flags=['--amp'], fails=True)
        assert 'is only available training on gpu' in done.output.splitlines()[-1]


def test_first_start_of_a_resuming_job_loads_what_the_config_says(run_tool, tmp_path, checkpoint):
    done = train(run_tool, tmp_path, f'load_from={checkpoint}', flags=['--resume'])
    assert f'Load checkpoint from {checkpoint}' in done.output
    assert (tmp_path / 'work' / 'epoch_1.pth').exists()


def test_embeddings_are_written(run_tool, tmp_path, checkpoint):
    out = tmp_path / 'embeddings.pkl'
    run_tool('test.py', CONFIG, checkpoint, '--out', out)
    samples = pickle.loads(out.read_bytes())
    assert len(samples) == 200
    assert samples[0]['embedding'].shape == (128,)
    assert samples[0]['embedding'].untyped_storage().nbytes() == 128 * 4
    assert '/s21/' in samples[0]['img_path']
    done = run_tool('test.py', CONFIG, checkpoint, '--out', 'figures.csv', fails=True)
    assert '--out must end in one of .json, .yml, .yaml, .pkl, .pickle, got fig' in done.output


class Malicious:
    def __reduce__(self):
        return os.system, ('touch was-here',)


@pytest.mark.parametrize(
    ('kind', 'tool'),
    [
        ('malicious', 'train'),
        ('malicious', 'resume'),
        ('malicious', 'test'),
        ('cut short', 'resume'),
        ('other model', 'train'),
        ('other model', 'test'),
        ('other classes', 'test'),
        ('missing', 'test'),
    ],
)
def test_wrong_checkpoints(run_tool, tmp_path, checkpoint, kind, tool):
    path = tmp_path / 'given.pth'
    content = torch.load(checkpoint)
    if kind == 'malicious':
        torch.save(content | dict(meta=Malicious()), path)
        message = ' is refused: reading it would call'
    elif kind == 'cut short':
        path.write_bytes(checkpoint.read_bytes()[:100_000])
        message = 'given.pth (100000 bytes) cannot be read: it is cut short'
    elif kind == 'other model':
        content['state_dict'].pop('image_encoder.layer1.0.conv1.weight')
        torch.save(content, path)
        message = 'given.pth is the checkpoint of another model: 1 of'
    elif kind == 'other classes':
        content['state_dict']['head.weight'] = torch.zeros(7, 128)
        torch.save(content, path)
        message = 'head.weight: (7, 128) in the file, (80, 128) in the model'
    else:
        message = 'given.pth does not exist'
    if tool == 'test':
        done = run_tool('test.py', CONFIG, path, fails=True)
    elif tool == 'resume':
        done = train(run_tool, tmp_path, flags=['--resume', path], fails=True)
    else:
        done = train(run_tool, tmp_path, f'load_from={path}', fails=True)
    assert message in done.output.splitlines()[-1]
    assert not (tmp_path / 'was-here').exists()


@pytest.fixture
def faces(orl, tmp_path):
    for person in ('s1', 's2', 's3'):
        shutil.copytree(orl / person, tmp_path / 'faces' / person)
    return tmp_path / 'faces'


def people(folder, loader='train', number=3):
    """ORL's data set on a copy of its folder that a test may damage."""
    dataset = f'{loader}_dataloader.dataset'
    numbers = ','.join(map(str, range(1, number + 1)))
    return [
        f'{dataset}.data_root={folder}',
        f'{dataset}.people=[{numbers}]',
        f'{loader}_dataloader.batch_size=8',
    ]


def test_label_outside_the_classes(run_tool, tmp_path, faces):
    done = train(run_tool, tmp_path, *people(faces), 'model.head.num_classes=2', fails=True)
    last = done.output.splitlines()[-1]
    assert re.search(r'the head has 2 classes and the data 3, .*num_classes to 3', last)


def test_missing_and_unreadable_images(run_tool, tmp_path, faces):
    (faces / 's2' / '4.pgm').write_bytes(b'P5 92 112')
    done = train(run_tool, tmp_path, *people(faces), fails=True)
    assert 's2/4.pgm cannot be read: it is empty, cut short or not an image' in done.output
    shutil.rmtree(faces / 's3')
    done = train(run_tool, tmp_path, *people(faces), fails=True)
    assert "identity 's3' has no folder in" in done.output.splitlines()[-1]


def test_query_with_no_positive(run_tool, tmp_path, faces, checkpoint):
    for number in range(2, 11):
        (faces / 's3' / f'{number}.pgm').unlink()
    options = ['--cfg-options', *people(faces, 'test')]
    done = run_tool('test.py', CONFIG, checkpoint, *options, fails=True)
    assert f'the first is {faces}/s3/1.pgm with label 2' in done.output.splitlines()[-1]
    done = train(run_tool, tmp_path, *people(faces, 'val'), fails=True)
    assert f'the first is {faces}/s3/1.pgm with label 2' in done.output.splitlines()[-1]
    assert 'Epoch(train)' not in done.output


def test_too_few_images_for_a_batch(run_tool, tmp_path, faces):
    few = [*people(faces), 'train_dataloader.batch_size=31']
    done = train(run_tool, tmp_path, *few, fails=True)
    message = '30 images are too few for a batch of 31 on each of 1 processes'
    assert message in done.output.splitlines()[-1]


def test_several_processes_need_torchrun(run_tool, tmp_path):
    if torch.cuda.is_available():
        pytest.skip('mmengine starts Slurm processes itself where there is a GPU')
    done = train(run_tool, tmp_path, flags=['--launcher', 'slurm'], fails=True)
    assert 'use tools/dist_train.sh' in done.output.splitlines()[-1]


@pytest.mark.parametrize(
    ('script', 'arguments'),
    [('dist_train.sh', 1), ('dist_test.sh', 2), ('slurm_train.sh', 3), ('slurm_test.sh', 2)],
)
def test_scripts_show_their_usage(run_tool, script, arguments):
    done = run_tool(script, *['x'] * arguments, fails=True)
    assert f'bash tools/{script} ' in done.output


def test_slurm_script_on_a_cluster_of_one(run_tool, tmp_path, checkpoint):
    """A stand-in for srun: it runs the line with the variables of a node."""
    programs = tmp_path / 'bin'
    programs.mkdir()
    (programs / 'srun').write_text(
        '#!/usr/bin/env bash\n'
        'while [[ "$1" == --* ]]; do echo "srun option $1"; shift; done\n'
        'SLURM_NNODES=1 SLURM_NODEID=0 SLURM_JOB_NODELIST=here exec "$@"\n'
    )
    (programs / 'scontrol').write_text('#!/usr/bin/env bash\necho 127.0.0.1\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    out = tmp_path / 'a name with spaces.json'
    done = run_tool(
        *('slurm_test.sh', 'part', 'job name', CONFIG, checkpoint, '--out', out),
        PATH=f'{programs}:{Path(sys.executable).parent}:{os.environ["PATH"]}',
        GPUS='2',
        GRES='',
        SRUN_ARGS='--qos=low --exclusive',
    )
    for option in ('--partition=part', '--job-name=job name', '--nodes=1', '--qos=low'):
        assert f'srun option {option}\n' in done.output
    assert '--gres' not in done.output
    run_tool('test.py', CONFIG, checkpoint, '--out', 'alone.json')
    alone = json.loads((tmp_path / 'alone.json').read_text())
    assert json.loads(out.read_text()) == pytest.approx(alone, abs=1e-4)


def test_own_faces(run_tool, tmp_path, orl):
    for part, numbers in (('train', range(1, 4)), ('test', range(21, 24))):
        for number in numbers:
            shutil.copytree(orl / f's{number}', tmp_path / 'data' / 'faces' / part / f's{number}')
    config = ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_folder.py'
    options = ['--cfg-options', 'model.head.num_classes=3', 'train_dataloader.batch_size=8', *SHORT]
    done = run_tool('train.py', config, *options)
    table = done.output[done.output.index('never seen in training') :]
    test = re.search(r'python tools/(test.py) (\S+) (\S+) --out (\S+)', table)
    run_tool(*test.groups()[:3], '--out', 'figures.json')
    assert json.loads((tmp_path / 'figures.json').read_text())['retrieval/Recall@1'] > 50


@pytest.mark.slow
def test_unseen_people_are_told_apart(run_tool, tmp_path):
    """The recipe as it is: the median of three seeds."""
    figures = []
    for seed in range(3):
        work = tmp_path / str(seed)
        run_tool('train.py', CONFIG, '--work-dir', work, '--cfg-options', f'randomness.seed={seed}')
        out = tmp_path / f'{seed}.json'
        run_tool('test.py', CONFIG, work / 'epoch_120.pth', '--out', out)
        figures.append(json.loads(out.read_text()))
    for name, least in {
        'verification/TAR@FAR=0.01': 70,
        'verification/AUC': 95,
        'retrieval/Recall@1': 98,
    }.items():
        assert sorted(f[name] for f in figures)[1] >= least, figures
