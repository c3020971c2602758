"""Averaged weights: training, test tool, thresholds and inferencer speak of one model."""

import json

import pytest
import torch
from mmengine.config import Config

from mmarcface.apis import VerificationInferencer
from tests.conftest import ORL
from tests.engine.test_statistics_hooks import Figures
from tests.engine.training import loader, orl, settings, train
from tests.in_process import call_tool

RECOMPUTE = dict(type='mmarcface.RecomputeStatisticsHook')
AVERAGES = [
    dict(type='EMAHook', momentum=0.2),
    dict(type='mmengine.EMAHook', momentum=0.2),
    dict(type='mmengine.EMAHook', momentum=0.2, update_buffers=True),
    dict(type='EMAHook', ema_type='StochasticWeightAverage'),
]


def names(average: dict) -> str:
    return ' '.join(map(str, average.values()))


@pytest.mark.parametrize('recomputed', [True, False], ids=['recomputed', 'plain'])
@pytest.mark.parametrize('average', AVERAGES, ids=names)
def test_all_of_them_are_of_the_weights_that_a_plain_load_gives(tmp_path, average, recomputed):
    evaluation = dict(
        test_dataloader=loader(orl([4, 5])),
        test_cfg=dict(),
        test_evaluator=dict(type='mmarcface.VerificationMetric', far=[0.1]),
    )
    hooks = [average, RECOMPUTE] if recomputed else [average]
    train(tmp_path / 'work', *hooks, **evaluation)
    checkpoint = (tmp_path / 'work' / 'last_checkpoint').read_text()
    (log,) = (tmp_path / 'work').glob('*/vis_data/2*.json')
    wanted = json.loads(log.read_text().splitlines()[-1])
    for name, kept in {'with': hooks, 'without': []}.items():
        config = tmp_path / f'{name}.py'
        Config(settings(tmp_path / name, kept, **evaluation)).dump(config)
        out = tmp_path / 'figures.json'
        arguments = [config, checkpoint, '--out', out, '--work-dir', tmp_path / name]
        call_tool('test.py', *arguments)
        figures = json.loads(out.read_text())
        assert figures.items() <= wanted.items()
        # It refuses thresholds of other weights.
        verify = VerificationInferencer(str(config), pretrained=checkpoint, far=0.1)
        found = verify([(str(ORL / 's4' / '1.pgm'), str(ORL / 's4' / '2.pgm'))])
        assert found[0]['far'] == 0.1
    trained = torch.load(checkpoint)['ema_state_dict']
    saved = verify.model.state_dict()
    assert not torch.equal(trained['module.head.weight'], saved['head.weight'])


@pytest.mark.parametrize('average', AVERAGES[:3], ids=names)
def test_a_runner_that_goes_on_to_test_has_the_weights_that_it_saved(tmp_path, average):
    evaluation = dict(
        test_dataloader=loader(orl([4, 5])),
        test_cfg=dict(),
        test_evaluator=dict(type='mmarcface.VerificationMetric', far=[0.1]),
    )
    runner = train(tmp_path, average, RECOMPUTE, Figures(), **evaluation)
    assert runner.test() == pytest.approx(runner.figures, rel=1e-6)
