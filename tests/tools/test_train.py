"""tools/train.py, in this process, on a net that trains for a second: what it goes on from."""

import json
import shutil

import pytest
import torch

from tests.engine.test_inversion import tiny
from tests.in_process import call_tool


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    tiny().dump(folder / 'net.py')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call_tool('train.py', 'net.py')
    return folder


@pytest.fixture
def tool(trained, tmp_path, monkeypatch):
    """In a copy of a folder with net.py and the training of an epoch."""
    folder = tmp_path / 'a folder'
    shutil.copytree(trained, folder)
    # As if it had been trained here.
    work = folder / 'work_dirs' / 'net'
    (work / 'last_checkpoint').write_text(str(work / 'epoch_1.pth'))
    monkeypatch.chdir(folder)

    def run(*words):
        call_tool('train.py', *words)

    run.folder = folder
    return run


MORE = '--cfg-options', 'train_cfg.max_epochs=2'
# Before anything is made of it, it would have to be there.
NO_DATA = *MORE, 'train_dataloader.dataset.data_root=nowhere'


@pytest.mark.parametrize('how', ['copied', 'moved'])
def test_resume_where_the_work_dir_is_now(tool, how):
    work = tool.folder / 'work_dirs'
    if how == 'moved':
        (work / 'net').rename(work / 'now')
    else:
        shutil.copytree(work / 'net', work / 'now')
        # What the copy is not to go on from.
        content = torch.load(work / 'net' / 'epoch_1.pth')
        content['meta']['iter'] = 100
        torch.save(content, work / 'net' / 'epoch_1.pth')
    before = (work / 'now' / 'epoch_1.pth').stat().st_mtime_ns
    tool('net.py', '--work-dir', work / 'now', '--resume', *MORE)
    assert torch.load(work / 'now' / 'epoch_2.pth')['meta']['iter'] == 6
    assert (work / 'now' / 'epoch_1.pth').stat().st_mtime_ns == before
    assert not (work / 'net' / 'epoch_2.pth').exists()


def test_a_finished_training_says_so(tool, capsys):
    before = (tool.folder / 'work_dirs' / 'net' / 'epoch_1.pth').stat().st_mtime_ns
    tool('net.py', '--resume', '--cfg-options', 'log_level=INFO')
    message = 'epoch_1.pth is the end of this training: raise train_cfg.max_epochs'
    assert message in capsys.readouterr().out
    assert (tool.folder / 'work_dirs' / 'net' / 'epoch_1.pth').stat().st_mtime_ns == before


def test_a_refused_training_leaves_the_config_of_the_one_before(tool):
    config = tool.folder / 'work_dirs' / 'net' / 'net.py'
    before = config.read_text()
    with pytest.raises(ValueError, match='the head has 1 classes'):
        tool('net.py', '--cfg-options', 'model.head.num_classes=1')
    assert config.read_text() == before
    tool('net.py', '--cfg-options', 'model.head.scale=16.0')
    assert 'scale=16.0' in config.read_text()


def test_first_start_of_a_config_that_resumes(tool):
    tool('net.py', '--work-dir', 'new', '--cfg-options', 'resume=True')
    assert (tool.folder / 'new' / 'epoch_1.pth').exists()


def test_resume_after_a_break_while_the_note_was_written(tool):
    work = tool.folder / 'work_dirs' / 'net'
    before = (work / 'epoch_1.pth').stat().st_mtime_ns
    (work / 'last_checkpoint').write_text('')
    tool('net.py', '--resume', *MORE)
    assert (work / 'epoch_1.pth').stat().st_mtime_ns == before
    (work / 'epoch_1.pth').unlink()
    (work / 'epoch_2.pth').unlink()
    with pytest.raises(FileNotFoundError, match=r'epoch_2\.pth, which is gone.* delete .*last_ch'):
        tool('net.py', '--resume', *NO_DATA)


def test_the_copied_config_of_a_moved_work_dir(tool):
    """mmengine's copy names the folder that it was made for."""
    work = tool.folder / 'work_dirs'
    (work / 'net').rename(work / 'moved')
    with pytest.raises(
        ValueError, match=r'is in the work dir of a training, but its work_dir is .*net, wh'
    ):
        tool(work / 'moved' / 'net.py', '--resume', *MORE)
    assert not (work / 'net').exists()
    # As the message says.
    tool(work / 'moved' / 'net.py', '--resume', '--work-dir', work / 'moved', *MORE)
    assert (work / 'moved' / 'epoch_2.pth').exists()


@pytest.mark.parametrize(
    ('given', 'error', 'message'),
    [
        ('gone.pth', FileNotFoundError, r'checkpoint gone\.pth does not exist'),
        ('work_dirs/net', FileNotFoundError, r'work_dirs/net is a folder: name a file in it'),
        ('net.py', ValueError, r'net\.py .* cannot be read: .* not a checkpoint \(it begins with'),
        (
            'bare.pth',
            ValueError,
            r'bare\.pth holds weights without the epoch .*load_from=bare\.pth',
        ),
    ],
)
def test_a_wrong_file_is_refused_before_data_is_read(tool, given, error, message):
    content = torch.load('work_dirs/net/epoch_1.pth')
    torch.save(dict(state_dict=content['state_dict']), 'bare.pth')
    with pytest.raises(error, match=message):
        tool('net.py', '--resume', given, *NO_DATA)
    if given != 'bare.pth':
        with pytest.raises(error, match=message):
            tool('net.py', *NO_DATA, f'load_from={given}')


def test_weights_are_a_start_as_the_message_says(tool):
    content = torch.load('work_dirs/net/epoch_1.pth')
    torch.save(dict(state_dict=content['state_dict']), 'bare.pth')
    tool('net.py', '--work-dir', 'new', '--cfg-options', 'load_from=bare.pth')
    assert (tool.folder / 'new' / 'epoch_1.pth').exists()


def test_a_missing_judge_is_trained_first(tool, logged):
    hook = dict(type='mmarcface.BNPriorInversionHook', per_target=1, preset='small', steps=2)
    tiny(seed=1).dump('judge.py')
    tiny(custom_hooks=[hook | dict(judge=dict(config='judge.py'))]).dump('judged.py')
    reports = []
    for number in range(2):
        tool('judged.py', '--work-dir', f'judged{number}')
        (report,) = (tool.folder / f'judged{number}').glob('inversion/3/report.json')
        reports.append(json.loads(report.read_text()))
    # The second training is judged by the same net, which is not trained again.
    assert reports[0]['cosine_own'] == reports[1]['cosine_own']
    judge = tool.folder / 'work_dirs' / 'judge' / 'epoch_1.pth'
    assert judge.exists()
    told = [message for message in logged if message.startswith('Training the judge')]
    assert told == [
        'Training the judge judge.py first, in work_dirs/judge, as it has no checkpoint'
    ]
