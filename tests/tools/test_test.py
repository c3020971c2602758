"""tools/test.py, in this process: which weights it tests."""

import json

import pytest
import torch
from mmengine.runner import loops

from mmarcface.apis import get_model
from tests.engine.test_inversion import tiny
from tests.in_process import call_tool

NO_DATA = '--cfg-options', 'test_dataloader.dataset.data_root=nowhere'
VERIFICATION = dict(type='mmarcface.VerificationMetric', prefix='verification')


@pytest.fixture
def tool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny(randomness=dict(seed=None))
    config.test_evaluator = [dict(type='mmarcface.RetrievalMetric'), VERIFICATION]
    config.dump(tmp_path / 'net.py')

    def run(*words):
        call_tool('test.py', 'net.py', *words, '--out', 'figures.json')
        return json.loads((tmp_path / 'figures.json').read_text())

    return run


def test_untrained(tool, tmp_path):
    figures = tool('--untrained')
    assert tool('--untrained') == figures
    assert tool('--untrained', '--cfg-options', 'randomness.seed=0') == figures
    assert tool('--untrained', '--cfg-options', 'randomness.seed=5') != figures
    # Thresholds are of weights that there are.
    assert not list(tmp_path.rglob('*thresholds*'))


def test_untrained_weights_are_what_training_starts_from(tool, monkeypatch):
    weights = []

    def keep(loop):
        state = loop.runner.model.state_dict()
        weights.append({name: value.clone() for name, value in state.items()})
        return {}

    for loop in (loops.TestLoop, loops.EpochBasedTrainLoop):
        monkeypatch.setattr(loop, 'run', keep)
    tool('--untrained')
    call_tool('train.py', 'net.py', '--cfg-options', 'randomness.seed=0')
    tested, trained = weights
    assert tested.keys() == trained.keys()
    assert all(torch.equal(value, trained[name]) for name, value in tested.items())
    assert tested['head.weight'].std() > 0


def test_untrained_takes_nothing_from_the_work_dir(tool, tmp_path):
    """Nor from the config, which may go on by itself."""
    figures = tool('--untrained')
    work = tmp_path / 'work_dirs' / 'net'
    model = get_model(str(tmp_path / 'net.py'))
    for parameter in model.parameters():
        parameter.data.zero_()
    content = dict(state_dict=model.state_dict(), meta=dict(epoch=1, iter=1), message_hub={})
    torch.save(content, work / 'epoch_1.pth')
    (work / 'last_checkpoint').write_text(str(work / 'epoch_1.pth'))
    options = '--cfg-options', 'resume=True', f'load_from={work / "epoch_1.pth"}'
    assert tool('--untrained', *options) == figures


def test_untrained_with_a_checkpoint(tool, capsys):
    with pytest.raises(SystemExit):
        tool('given.pth', '--untrained')
    assert '--untrained takes no checkpoint, got given.pth' in capsys.readouterr().err


def test_without_weights(tool):
    with pytest.raises(ValueError, match=r'needs a checkpoint; --untrained tests random one'):
        tool(*NO_DATA)


def test_without_parameters(tool, tmp_path):
    config = tiny()
    config.model = dict(
        type='mmarcface.EmbeddingRetriever', image_encoder=dict(type='mmarcface.RawPixels')
    )
    config.dump(tmp_path / 'net.py')
    assert tool() == tool('--untrained')


@pytest.mark.parametrize(
    ('given', 'error', 'message'),
    [
        ('gone.pth', FileNotFoundError, r'checkpoint gone\.pth does not exist'),
        ('.', FileNotFoundError, r'checkpoint \. is a folder: name a file in it'),
        ('net.py', ValueError, r'net\.py .* cannot be read: .* not a checkpoint \(it begins with'),
    ],
)
def test_a_wrong_file_is_refused_before_data_is_read(tool, given, error, message):
    with pytest.raises(error, match=message):
        tool(given, *NO_DATA)


def test_a_config_that_resumes_is_tested_as_any_other(tool, tmp_path):
    """Without its training set, which may be elsewhere."""
    model = get_model(str(tmp_path / 'net.py'))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'given.pth')
    options = 'resume=True', 'train_dataloader.dataset.data_root=nowhere'
    assert tool('given.pth', '--cfg-options', *options) == tool('given.pth')
