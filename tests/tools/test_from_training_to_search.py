"""The ORL recipe as a user runs it: two processes, a break, a test, and the inferencers."""

import json

import pytest
import torch
from mmpretrain import ImageRetrievalInferencer

from mmarcface.apis import VerificationInferencer

from ..conftest import ROOT

CONFIG = ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py'
SHORT = [
    'train_cfg.val_interval=1',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.checkpoint.max_keep_ckpts=2',
]


@pytest.mark.both_stacks
def test_two_processes_resume_test_and_inferencers(run_tool, tmp_path, orl):
    work = tmp_path / 'work'
    flags = ['--work-dir', work, '--cfg-options', *SHORT]
    done = run_tool('dist_train.sh', CONFIG, 2, *flags, 'train_cfg.max_epochs=1')
    # What is printed at every start is for the user to act on.
    assert 'MultiScaleDeformableAttention' not in done.output
    first = torch.load(work / 'epoch_1.pth')
    assert first['meta']['epoch'] == 1
    done = run_tool('train.py', CONFIG, '--resume', *flags, 'train_cfg.max_epochs=2')
    assert f'resumed epoch: 1, iter: {first["meta"]["iter"]}' in done.output
    assert 'Epoch(train) [1]' not in done.output
    second = torch.load(work / 'epoch_2.pth')
    assert second['meta']['epoch'] == 2
    key = 'image_encoder.conv1.weight'
    assert not torch.equal(second['state_dict'][key], first['state_dict'][key])
    # The log of the first epoch went on in the second.
    counts = [len(c['message_hub']['log_scalars']['train/loss'].data[0]) for c in (first, second)]
    assert counts[1] > counts[0] > 0

    run_tool('test.py', CONFIG, work / 'epoch_2.pth', '--out', tmp_path / 'figures.json')
    figures = json.loads((tmp_path / 'figures.json').read_text())
    logs = max(work.glob('*/vis_data/scalars.json')).read_text().splitlines()
    logged = json.loads(logs[-1])
    assert figures['verification/AUC'] == pytest.approx(logged['verification/AUC'], abs=0.01)
    assert logged['verification/AUC'] > 60

    people = [[str(orl / f's{n}' / f'{i}.pgm') for i in (1, 2)] for n in (21, 30, 40)]
    search = ImageRetrievalInferencer(
        str(CONFIG), [pair[0] for pair in people], pretrained=str(work / 'epoch_2.pth')
    )
    # A photograph that is in the gallery itself.
    assert [search(pair[0])[0][0]['sample_idx'] for pair in people] == [0, 1, 2]
    verify = VerificationInferencer(str(CONFIG), str(work / 'epoch_2.pth'))
    same, (alike,) = verify([people[0]])[0], verify([(people[0][0], people[0][0])])
    assert same['similarity'] < alike['similarity'] == pytest.approx(1, abs=1e-5)
    assert alike['is_same']
    assert same['threshold'] == alike['threshold']
