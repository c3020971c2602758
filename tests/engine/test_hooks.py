"""The table at the end of a training, of runners that were built in one way or another."""

import copy
import shlex
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmarcface.engine import ResultsTableHook
from mmarcface.engine.launch import build_runner
from mmarcface.engine.resuming import latest_checkpoint

from .test_statistics_hooks import LOOPS, Figures
from .training import loader, orl, settings, train

PIXELS = dict(type='mmarcface.RawPixels')
TABLE = dict(type='mmarcface.ResultsTableHook')
CONCAT = dict(type='ConcatDataset', datasets=[orl([4, 5]), orl([4, 5], indices=5)])


def log_of(work_dir) -> str:
    return next(work_dir.glob('*/*.log')).read_text()


@pytest.mark.parametrize('from_config', [True, False], ids=['config', 'keywords'])
def test_table_has_figures_and_baseline_and_names_the_checkpoint(tmp_path, from_config):
    table = dict(type='mmarcface.ResultsTableHook', figures=['verification/AUC'], baseline=PIXELS)
    runner = train(tmp_path, table, from_config=from_config, log_level='INFO')
    text = log_of(tmp_path)
    assert 'this model' in text
    assert f'{runner.val_evaluator.metrics[0].prefix}' == 'verification'
    assert 'RawPixels' in text.split('this model')[1]
    assert 'epoch_2.pth' in text.split('RawPixels')[-1]
    assert ('tools/test.py' in text) == from_config


def test_figures_of_the_model_stay_after_those_of_the_baseline(tmp_path):
    table = dict(type='mmarcface.ResultsTableHook', baseline=PIXELS)
    with_table = train(tmp_path / 'with', table)
    without = train(tmp_path / 'without')
    found, wanted = (r.val_evaluator.metrics[0].calibrations for r in (with_table, without))
    assert found == wanted


def test_unknown_figure_is_named_at_the_first_validation_and_costs_nothing(tmp_path):
    table = dict(type='mmarcface.ResultsTableHook', figures=['verification/AUC', 'retrieval/R@7'])
    train(tmp_path, table, log_level='INFO')
    text = log_of(tmp_path)
    assert "must be among ['verification/Accuracy'" in text
    assert "got 'retrieval/R@7'" in text
    assert 'AUC' in text.split('this model')[0]
    assert (tmp_path / 'epoch_2.pth').is_file()


def test_ranges_of_other_runs_stand_beside_the_figures(tmp_path):
    row = {'verification/AUC': (41.25, 97.5), 'verification/EER': (3.0, 3.0)}
    table = dict(type='mmarcface.ResultsTableHook', ranges={'seeds 0 to 4': row})
    train(tmp_path, table, log_level='INFO')
    (line,) = [line for line in log_of(tmp_path).splitlines() if 'seeds 0 to 4' in line]
    assert '41.25-97.50' in line
    assert '3.00-3.00' in line


@pytest.mark.parametrize('ends', [(2.0, 1.0), (1.0,)])
def test_a_range_has_its_lowest_value_first(ends):
    with pytest.raises(ValueError, match=r"ranges\['runs'\]\['AUC'\] must be the lowest"):
        ResultsTableHook(ranges=dict(runs=dict(AUC=ends)))


def test_wrong_baseline_is_refused_before_training(tmp_path):
    table = dict(type='mmarcface.ResultsTableHook', baseline=dict(type='mmarcface.Pixel'))
    with pytest.raises(KeyError, match='Pixel'):
        train(tmp_path, table)
    assert not list(tmp_path.glob('*.pth'))


def test_plot_refuses_a_validation_set_whose_samples_cannot_be_told_apart(tmp_path):
    plot = dict(type='mmarcface.EmbeddingPlotHook')
    with pytest.raises(ValueError, match='those of ConcatDataset repeat'):
        train(tmp_path, plot, val_dataloader=loader(CONCAT))
    assert not list(tmp_path.glob('*.pth'))


def test_plot_shows_the_centers_that_are_saved(tmp_path):
    # Of people that the model was trained on, whose centers are drawn.
    plot, average = dict(type='mmarcface.EmbeddingPlotHook'), dict(type='EMAHook', momentum=0.2)
    runner = train(tmp_path, plot, average, val_dataloader=loader(orl()))
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'EmbeddingPlotHook')
    path = (tmp_path / 'last_checkpoint').read_text()
    state = torch.load(path)['state_dict']
    centers = torch.from_numpy(hook.panel.centers)
    torch.testing.assert_close(centers, state['head.weight'], rtol=0, atol=0)
    trained = torch.load(path)['ema_state_dict']
    assert not torch.equal(centers, trained['module.head.weight'])


@pytest.mark.parametrize('loop', LOOPS)
def test_a_training_that_is_stopped_early_has_a_checkpoint_that_the_table_names(tmp_path, loop):
    changes = copy.deepcopy(LOOPS[loop])
    changes.setdefault('train_cfg', dict(by_epoch=True, max_epochs=9, val_interval=1))
    saver = dict(type='CheckpointHook', interval=90, by_epoch=changes['train_cfg']['by_epoch'])
    changes['default_hooks'] = dict(checkpoint=saver)
    changes['train_cfg'] |= dict(val_interval=1)
    stop = dict(type='EarlyStoppingHook', monitor='verification/AUC', patience=1, min_delta=90)
    hooks = [dict(type='EMAHook'), TABLE, stop]
    runner = build_runner(Config(settings(tmp_path, hooks, log_level='INFO', **changes)))
    runner.register_hook(Figures())
    runner.train()
    (checkpoint,) = tmp_path.glob('*.pth')
    assert str(checkpoint) == latest_checkpoint(tmp_path)
    assert str(checkpoint) in log_of(tmp_path).split('this model')[-1]
    assert 'figures are of iteration' not in log_of(tmp_path)
    content = torch.load(checkpoint)
    assert content['meta']['iter'] == runner.iter == int(runner.train_loop.iter)
    assert content['meta']['epoch'] == runner.epoch
    evaluator, data = runner.val_evaluator, runner.val_dataloader
    runner.model.load_state_dict(content['state_dict'])
    for batch in data:
        with torch.no_grad():
            evaluator.process(runner.model.eval().test_step(batch), batch)
    assert evaluator.evaluate(len(data.dataset)) == pytest.approx(runner.figures, rel=1e-6)


def test_the_table_says_where_no_checkpoint_was_kept_or_an_older_one(tmp_path):
    none = dict(checkpoint=dict(type='CheckpointHook', interval=-1, save_last=False))
    train(tmp_path / 'none', TABLE, default_hooks=none, log_level='INFO')
    assert 'No checkpoint was kept' in log_of(tmp_path / 'none')
    older = dict(checkpoint=dict(type='CheckpointHook', interval=2, save_last=False))
    loop = dict(by_epoch=True, max_epochs=3, val_interval=3)
    train(tmp_path / 'older', TABLE, default_hooks=older, train_cfg=loop, log_level='INFO')
    text = log_of(tmp_path / 'older')
    assert 'figures are of iteration 9, and the last checkpoint' in text
    assert 'epoch_2.pth, is of 6' in text


def test_the_commands_that_come_next_can_be_pasted(tmp_path):
    work_dir = tmp_path / "my 'dir' \u00e9 $HOME"
    train(work_dir, TABLE, from_config=True, log_level='INFO')
    commands = log_of(work_dir).split('with it:\n')[1].splitlines()[:2]
    test, search = (shlex.split(command) for command in commands)
    assert (work_dir / Path(test[2]).name).samefile(test[2])
    compile(search[2], 'command', 'exec')
    assert f'pretrained="{work_dir}/epoch_2.pth"' in search[2]
