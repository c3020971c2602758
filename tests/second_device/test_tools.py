"""The commands, in this process and so on the device: train, test, invert and purify a net."""

import json
import pickle

import pytest
import torch
from mmengine.config import Config

from tests.apis.inversion.test_evaluator import PIXELS
from tests.engine.test_inversion import tiny
from tests.in_process import call_tool
from tests.tools.test_purify import config_of


@pytest.fixture
def tool(device, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    devices = []
    to = torch.nn.Module.to

    def noted(self, *args, **kwargs):
        moved = to(self, *args, **kwargs)
        devices.extend(part.device for part in (*moved.parameters(), *moved.buffers()))
        return moved

    def run(name, *words):
        devices.clear()
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.Module, 'to', noted)
            call_tool(name, *words)
        # It was the device that worked.
        assert set(devices) == {device}

    return run


def test_train_test_and_invert(tool, tmp_path):
    metrics = [
        dict(type='mmarcface.RetrievalMetric'),
        dict(type='mmarcface.VerificationMetric', far=(0.1,)),
    ]
    inversion = dict(targets='classes', per_target=1, preset='small', steps=2)
    inversion |= dict(judge=dict(config='judge.py'))
    tiny(test_evaluator=metrics, inversion=inversion).dump(tmp_path / 'net.py')
    tiny(seed=1).dump(tmp_path / 'judge.py')
    checkpoint = tmp_path / 'work_dirs' / 'net' / 'epoch_1.pth'
    tool('train.py', 'net.py')
    tool('test.py', 'net.py', checkpoint, '--out', 'figures.json')
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert checkpoint.with_name('epoch_1.thresholds.json').exists()
    tool('test.py', 'net.py', checkpoint, '--out', 'embeddings.pkl')
    # Counted by hand, and not on the device: of how many the nearest other image is of the person.
    samples = pickle.loads((tmp_path / 'embeddings.pkl').read_bytes())
    units = torch.nn.functional.normalize(torch.stack([s['embedding'] for s in samples]))
    labels = torch.cat([s['gt_label'] for s in samples])
    nearest = (units @ units.T).fill_diagonal_(-1).argmax(1)
    hits = (labels[nearest] == labels).float()
    assert figures['retrieval/Recall@1'] == pytest.approx(100 * float(hits.mean()))
    # The same weights in the other format, read onto the device.
    call_tool('convert.py', 'weights', checkpoint, 'other.safetensors')
    tool('test.py', 'other.py', 'other.safetensors', '--out', 'other.json')
    assert json.loads((tmp_path / 'other.json').read_text()) == figures
    # The judge, which the config names, is trained first.
    tool('invert.py', 'net.py', checkpoint, '--out', 'out')
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    # Of three images.
    assert 3 * report['attack_accuracy'] in (0, 1, 2, 3)
    assert len(list((tmp_path / 'out' / 'images').iterdir())) == 3
    # The embeddings that were written above, as targets.
    tool('invert.py', 'net.py', checkpoint, '--out', 'again', '--embeddings', 'embeddings.pkl')
    assert len(list((tmp_path / 'again' / 'images').iterdir())) > 3


def test_a_model_without_parameters(tool, tmp_path):
    tiny(model=PIXELS).dump(tmp_path / 'pixels.py')
    tool('test.py', 'pixels.py', '--out', 'figures.json')
    assert (tmp_path / 'figures.json').exists()


def test_purify(tool, tmp_path):
    config = config_of()
    config.train_cfg.max_epochs = config.train_cfg.val_interval = 1
    config.dump(tmp_path / 'net.py')
    tool('purify.py', 'run', 'net.py')
    summary = Config.fromfile(
        tmp_path / 'work_dirs' / 'net' / 'seed0' / 'purification' / 'summary.json'
    )
    assert summary.samples == 40
    assert summary.dropped > 0
