from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from mmarcface.engine import RecomputeStatisticsHook, ResultsTableHook
from mmarcface.models import EmbeddingRetriever


def runner_of(model, people, epoch):
    pipeline = [
        dict(type='mmarcface.LoadImageFromFile'),
        dict(type='mmpretrain.Resize', scale=(24, 28)),
        dict(type='mmpretrain.PackInputs'),
    ]
    loader = dict(
        batch_size=8,
        dataset=dict(type='mmarcface.ORLFaces', people=people, pipeline=pipeline),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    cfg = ConfigDict(train_dataloader=loader | dict(drop_last=True), test_dataloader=loader)
    return SimpleNamespace(
        model=model, cfg=cfg, epoch=epoch, max_epochs=9, train_loop=SimpleNamespace(val_interval=4)
    )


@pytest.fixture
def model():
    encoder = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield EmbeddingRetriever(encoder, data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3))


@pytest.mark.parametrize(('mirrored', 'number'), [(True, 40), (False, 20)])
def test_statistics_are_those_of_the_training_images(model, mirrored, number):
    runner = runner_of(model, [1, 2], epoch=3)
    hook = RecomputeStatisticsHook(mirrored)
    hook.after_train_epoch(runner)
    norm = model.image_encoder[0]
    images = torch.cat(list(hook._images(runner, model)))
    assert len(images) == number
    torch.testing.assert_close(norm.running_mean, images.mean((0, 2, 3)), rtol=1e-3, atol=0)
    torch.testing.assert_close(norm.running_var, images.var((0, 2, 3)), rtol=1e-2, atol=0)
    assert norm.momentum == 0.1


@pytest.mark.parametrize(('epoch', 'due'), [(0, False), (3, True), (4, False), (8, True)])
def test_statistics_are_renewed_before_a_validation_and_at_the_end(model, epoch, due):
    RecomputeStatisticsHook().after_train_epoch(runner_of(model, [1], epoch))
    assert bool(model.image_encoder[0].running_mean.abs().sum()) == due


@pytest.mark.parametrize(('done', 'due'), [(3, False), (4, True), (5, False), (9, True)])
def test_statistics_are_renewed_in_iterations_that_have_no_epoch(model, done, due):
    runner = runner_of(model, [1], 0)
    runner.cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    runner.train_loop = object.__new__(IterBasedTrainLoop)
    runner.train_loop.val_interval, runner.iter, runner.max_iters = 4, done - 1, 9
    hook = RecomputeStatisticsHook()
    hook.after_train_epoch(runner)
    assert model.image_encoder[0].running_mean.abs().sum() == 0
    hook.after_train_iter(runner, done - 1)
    assert bool(model.image_encoder[0].running_mean.abs().sum()) == due


def test_unknown_figure_is_named_at_the_first_validation():
    hook = ResultsTableHook(figures=['retrieval/Recall@1', 'retrieval/Recall@7'])
    with pytest.raises(ValueError, match=r"figures must be among .* got 'retrieval/Recall@7'"):
        hook.after_val_epoch(None, {'retrieval/Recall@1': 90.0})
