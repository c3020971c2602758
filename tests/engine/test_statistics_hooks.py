"""Which BN statistics are tested and saved, for plain recipes and for others."""

import logging
import os
from itertools import pairwise

import pytest
import torch
from mmengine.dataset import ConcatDataset
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import IterableDataset, Subset

from mmarcface.engine import RecomputeStatisticsHook
from mmarcface.engine.saved_weights import saved_model
from mmarcface.registry import DATASETS, MODELS

from .training import MODEL, TinyEncoder, loader, orl, settings, train

RECOMPUTE = dict(type='mmarcface.RecomputeStatisticsHook')
SYNC = dict(type='mmarcface.SyncStatisticsHook')


def build(dataset):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(dataset)


def images(dataset) -> torch.Tensor:
    """Normalized images, as the net sees them in testing."""
    samples = build(dataset) if isinstance(dataset, dict) else dataset
    return torch.stack([samples[i]['inputs'] for i in range(len(samples))]).flip(1) / 127.5 - 1


def file_of(work_dir) -> dict:
    path = (work_dir / 'last_checkpoint').read_text()
    return torch.load(path)['state_dict']


@pytest.mark.parametrize('mirrored', [True, False])
@pytest.mark.parametrize('number', [30, 25, 24])
def test_all_images_count_the_same_also_one_that_a_batch_leaves_over(tmp_path, number, mirrored):
    # Batches of 8 leave 6, 1 and 0 images over.
    data = orl(indices=number)
    train(
        tmp_path, RECOMPUTE | dict(mirrored=mirrored), train_dataloader=loader(data, drop_last=True)
    )
    seen = images(data)
    mean = torch.cat([seen, seen.flip(-1)]).mean((0, 2, 3)) if mirrored else seen.mean((0, 2, 3))
    state = file_of(tmp_path)
    torch.testing.assert_close(state['image_encoder.0.running_mean'], mean, rtol=1e-4, atol=1e-5)


def test_variances_are_means_over_batches_by_their_images(tmp_path):
    runner = train(tmp_path, RECOMPUTE | dict(mirrored=False), train_dataloader=loader(orl()))
    hook = next(hook for hook in runner.hooks if isinstance(hook, RecomputeStatisticsHook))
    order = list(hook.loader.sampler)
    seen, cuts = images(orl())[order], [0, 8, 16, 24, 30]
    wanted = sum((b - a) / 30 * seen[a:b].var((0, 2, 3)) for a, b in pairwise(cuts))
    found = file_of(tmp_path)['image_encoder.0.running_var']
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


class Partly(TinyEncoder):
    """A net with a layer that is always in evaluation mode, and one that is not used."""

    def __init__(self):
        super().__init__()
        self[2].running_mean.fill_(3.0)
        self.unused = nn.BatchNorm1d(2)
        self.unused.running_mean.fill_(5.0)
        self.dropout = nn.Dropout(0.9)

    def train(self, mode=True):
        super().train(mode)
        self[2].eval()
        return self

    def forward(self, x):
        for module in list(self)[:6]:
            x = module(x)
        return self.dropout(x)


@pytest.mark.parametrize('average', [None, 'EMAHook', 'mmengine.EMAHook'])
def test_layers_that_are_not_trained_or_not_used_keep_their_statistics(tmp_path, average):
    hooks = [RECOMPUTE] + ([dict(type=average)] if average else [])
    model = dict(
        type='mmarcface.EmbeddingRetriever',
        image_encoder=Partly(),
        head=dict(type='mmarcface.ArcFaceHead', num_classes=3, in_channels=8),
    )
    train(tmp_path, *hooks, model=model)
    state = file_of(tmp_path)
    assert (state['image_encoder.2.running_mean'] == 3).all()
    assert (state['image_encoder.unused.running_mean'] == 5).all()
    assert state['image_encoder.0.running_mean'].abs().sum() > 0
    assert state['image_encoder.5.running_mean'].abs().sum() > 0


def test_frozen_stages_of_mmpretrain_keep_their_statistics(tmp_path):
    net = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4, frozen_stages=2)
    model = dict(
        type='mmarcface.EmbeddingRetriever',
        image_encoder=[net, dict(type='GlobalAveragePooling')],
        head=dict(type='mmarcface.ArcFaceHead', num_classes=3, in_channels=32),
    )
    before = MODELS.build(dict(net, type='mmpretrain.ResNet')).state_dict()
    train(tmp_path, RECOMPUTE, model=model)
    state = file_of(tmp_path)
    for name, value in before.items():
        if 'running' in name:
            kept = torch.equal(state[f'image_encoder.0.{name}'], value)
            assert kept == name.startswith(('bn1', 'layer1', 'layer2')), name


WRAPPERS = {
    'repeat': lambda: dict(type='RepeatDataset', times=2, dataset=orl()),
    'balanced': lambda: dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset=orl()),
    'concat': lambda: dict(type='ConcatDataset', datasets=[orl(), orl()]),
    'repeat of concat': lambda: dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[orl(), orl()])
    ),
    'filtered': lambda: dict(
        type='mmarcface.FilteredDataset', dataset=orl(pipeline=[]), pipeline=orl()['pipeline']
    ),
    'torch subset': lambda: Subset(build(orl()), range(30)),
    'built': lambda: build(orl()),
    'concat of built': lambda: ConcatDataset([build(orl()), build(orl())]),
}
IN_CONFIGS = ('repeat', 'balanced', 'concat', 'repeat of concat', 'filtered')


@pytest.mark.parametrize(
    ('name', 'from_config'),
    # A config holds no objects.
    [(name, False) for name in WRAPPERS] + [(name, True) for name in IN_CONFIGS],
)
def test_wrapped_training_sets_have_the_statistics_of_what_is_inside(tmp_path, name, from_config):
    data = loader(WRAPPERS[name](), sampler=dict(type='DefaultSampler', shuffle=True))
    table = dict(type='mmarcface.ResultsTableHook', baseline=dict(type='mmarcface.RawPixels'))
    runner = train(tmp_path, RECOMPUTE, table, train_dataloader=data, from_config=from_config)
    assert runner.epoch == 2
    seen = images(orl())
    mean = torch.cat([seen, seen.flip(-1)]).mean((0, 2, 3))
    state = file_of(tmp_path)
    torch.testing.assert_close(state['image_encoder.0.running_mean'], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['repeat', 'concat', 'filtered'])
def test_wrapped_test_sets_prepare_the_images(tmp_path, name):
    seen = orl(pipeline=[dict(type='mmarcface.LoadImageFromFile'), dict(type='PackInputs')])
    wrapped = dict(type='ConcatDataset', datasets=[seen]) if name == 'concat' else seen
    if name == 'repeat':
        wrapped = dict(type='RepeatDataset', times=1, dataset=seen)
    if name == 'filtered':
        inner = dict(seen, pipeline=[])
        wrapped = dict(type='mmarcface.FilteredDataset', dataset=inner, pipeline=seen['pipeline'])
    model = dict(
        type='mmarcface.EmbeddingRetriever',
        image_encoder=nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        head=dict(type='mmarcface.ArcFaceHead', num_classes=3, in_channels=12),
    )
    # Full size where the test set says so, though training is on smaller images.
    extra = dict(test_dataloader=loader(wrapped), test_cfg=dict())
    extra['test_evaluator'] = dict(type='mmarcface.VerificationMetric')
    train(tmp_path, RECOMPUTE | dict(mirrored=False), model=model, **extra)
    samples = build(seen)
    large = torch.stack([samples[i]['inputs'] for i in range(30)]).float()
    state = file_of(tmp_path)
    mean = large.mean((0, 2, 3))
    torch.testing.assert_close(state['image_encoder.0.running_mean'], mean, rtol=1e-4, atol=1e-3)


class Stream(IterableDataset):
    def __iter__(self):
        yield from (build(orl())[i] for i in range(30))

    def __len__(self):
        return 30


def test_what_cannot_be_prepared_as_in_testing_is_refused_before_the_first_iteration(tmp_path):
    nothing = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    with pytest.raises(ValueError, match='needs test_dataloader or val_dataloader'):
        train(tmp_path / 'no pipeline', RECOMPUTE, **nothing)
    data = torch.utils.data.DataLoader(Stream(), batch_size=8)
    with pytest.raises(ValueError, match=r'must have a pipeline, or be a wrapper .* got Stream'):
        train(tmp_path / 'stream', RECOMPUTE, train_dataloader=data)
    origin = dict(type='EMAHook', evaluate_on_ema=False, evaluate_on_origin=True)
    with pytest.raises(ValueError, match='must have evaluate_on_ema=True'):
        train(tmp_path / 'origin', RECOMPUTE, origin)
    assert not list(tmp_path.rglob('*.pth'))


def test_a_failure_costs_neither_the_checkpoint_nor_the_statistics(tmp_path, caplog, monkeypatch):
    def fail(self, preprocess):
        yield torch.randn(4, 3, 28, 24)
        raise OSError('image 7 is gone')

    plain = train(tmp_path / 'plain')
    monkeypatch.setattr(RecomputeStatisticsHook, '_images', fail)
    with caplog.at_level(logging.ERROR):
        runner = train(tmp_path / 'fails', RECOMPUTE)
    logged = next((tmp_path / 'fails').glob('*/*.log')).read_text()
    assert 'image 7 is gone' in logged
    assert 'have the BN statistics of the training' in logged
    assert runner.epoch == plain.epoch == 2
    for name, value in file_of(tmp_path / 'plain').items():
        assert torch.equal(file_of(tmp_path / 'fails')[name], value), name


AVERAGES = {
    'mmpretrain': dict(type='EMAHook', momentum=0.2),
    'mmengine': dict(type='mmengine.EMAHook', momentum=0.2),
    'buffers too': dict(type='mmengine.EMAHook', momentum=0.2, update_buffers=True),
    'mmpretrain, buffers too': dict(type='EMAHook', momentum=0.2, update_buffers=True),
    'SWA': dict(type='EMAHook', ema_type='StochasticWeightAverage', begin_epoch=1),
    'annealed': dict(type='mmengine.EMAHook', ema_type='MomentumAnnealingEMA', begin_iter=2),
}
LOOPS = {
    'epochs': {},
    'iterations': dict(
        train_cfg=dict(by_epoch=False, max_iters=6, val_interval=3),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=6)),
    ),
}


class Figures(Hook):
    """Remembers the figures of the last validation."""

    def after_val_epoch(self, runner, metrics=None):
        runner.figures = metrics


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('name', AVERAGES)
def test_figures_and_statistics_are_of_the_weights_that_are_saved(tmp_path, name, loop):
    hooks = [AVERAGES[name], RECOMPUTE, Figures()]
    # Whichever the config names first.
    runner = train(tmp_path, *(hooks if loop == 'epochs' else hooks[::-1]), **LOOPS[loop])
    state = file_of(tmp_path)
    plain = MODELS.build(MODEL)
    plain.load_state_dict(state)
    evaluator, data = runner.val_evaluator, runner.val_dataloader
    for batch in data:
        with torch.no_grad():
            evaluator.process(plain.eval().test_step(batch), batch)
    figures = evaluator.evaluate(len(data.dataset))
    assert figures == pytest.approx(runner.figures, rel=1e-6)
    # Those of the averaged weights, taken anew by hand.
    hook = next(hook for hook in runner.hooks if isinstance(hook, RecomputeStatisticsHook))
    layers = [plain.image_encoder[i] for i in (0, 2, 5)]
    hook._recompute(plain, layers, plain.data_preprocessor)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=1e-4, atol=1e-5)
    # A runner that goes on to test has the same.
    assert torch.equal(runner.model.image_encoder[1].weight, state['image_encoder.1.weight'])
    path = (tmp_path / 'last_checkpoint').read_text()
    trained = torch.load(path)['ema_state_dict']
    key = 'image_encoder.1.weight'
    assert not torch.equal(trained[f'module.{key}'], state[key])


def test_every_checkpoint_has_the_statistics_not_only_those_of_validations(tmp_path):
    # The only validation is after the second.
    train(tmp_path, RECOMPUTE | dict(mirrored=False))
    mean = images(orl()).mean((0, 2, 3))
    for epoch in (1, 2):
        state = torch.load(tmp_path / f'epoch_{epoch}.pth')['state_dict']
        found = state['image_encoder.0.running_mean']
        torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-5)


def test_recomputing_leaves_the_random_numbers_of_the_training_alone(tmp_path):
    train(tmp_path / 'without')
    train(tmp_path / 'with', RECOMPUTE)
    one = torch.load(tmp_path / 'without' / 'epoch_2.pth')['state_dict']
    other = torch.load(tmp_path / 'with' / 'epoch_2.pth')['state_dict']
    for name, value in one.items():
        # Buffers are statistics; all weights are the same.
        assert 'running' in name or 'num_batches' in name or torch.equal(other[name], value), name


# What refreshes, in which loop, under which average.
ON_PROCESSES = [
    (SYNC, 'iterations', None),
    (SYNC, 'epochs', 'EMAHook'),
    (SYNC, 'iterations', 'mmengine.EMAHook'),
    (RECOMPUTE, 'epochs', None),
    (RECOMPUTE, 'iterations', 'EMAHook'),
]


def _statistics_of_all(rank: int, world: int, folder: str) -> list[dict]:
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)  # As torchrun sets it.
    found = []
    for number, (hook, loop, average) in enumerate(ON_PROCESSES):
        runner = train(
            f'{folder}/{number}',
            hook,
            *([dict(type=average)] if average else []),
            launcher='pytorch' if world > 1 else 'none',
            cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)),
            train_dataloader=loader(orl(), sampler=dict(type='DefaultSampler', shuffle=True)),
            **LOOPS[loop],
        )
        buffers = saved_model(runner).named_buffers()
        found.append({name: value for name, value in buffers if 'running' in name})
    return found


def test_processes_agree_with_one_another_and_with_the_checkpoint(on_processes, tmp_path):
    found = on_processes(_statistics_of_all, str(tmp_path))
    seen = images(orl())
    mean = torch.cat([seen, seen.flip(-1)]).mean((0, 2, 3))
    for number, (hook, *_) in enumerate(ON_PROCESSES):
        state = file_of(tmp_path / str(number))
        for statistics in found:
            for name, value in statistics[number].items():
                torch.testing.assert_close(value, state[name], rtol=0, atol=0)
        if hook is RECOMPUTE:
            own = state['image_encoder.0.running_mean']
            torch.testing.assert_close(own, mean, rtol=1e-4, atol=1e-5)


def test_a_validation_without_training_leaves_the_statistics_alone(tmp_path):
    keywords = settings(tmp_path, [RECOMPUTE])
    runner = Runner(**keywords)
    before = runner.model.image_encoder[0].running_mean.clone()
    runner.val()
    assert torch.equal(runner.model.image_encoder[0].running_mean, before)
