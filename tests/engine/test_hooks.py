"""The table at the end of a training, of runners that were built in one way or another."""

import pytest
import torch

from mmarcface.engine import ResultsTableHook
from tests.engine.training import loader, orl, train

PIXELS = dict(type='mmarcface.Pixels')
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
    assert 'pixels' in text.split('this model')[1]
    assert 'epoch_2.pth' in text.split('pixels')[-1]
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
    state = torch.load(path, weights_only=False)['state_dict']
    centers = torch.from_numpy(hook.panel.centers)
    torch.testing.assert_close(centers, state['head.weight'], rtol=0, atol=0)
    assert not torch.equal(centers, runner.model.head.weight)
