from argparse import Namespace
from types import SimpleNamespace

import mmengine
import pytest
from mmengine.config import Config
from mmengine.dataset import ConcatDataset, DefaultSampler, RepeatDataset
from mmengine.runner import EpochBasedTrainLoop
from mmpretrain.datasets import PackInputs
from mmpretrain.engine import EMAHook
from torch import nn
from torch.utils.data import DataLoader

from mmarcface.datasets import LoadImageFromFile, ORLFaces, ProbesAndGallery, VerificationBin
from mmarcface.datasets.formats.bin_file import write_bin
from mmarcface.engine.launch import _refuse_other_settings, check_data, load_config
from mmarcface.evaluation import IdentificationMetric, VerificationMetric
from mmarcface.models import ArcFaceHead


@pytest.mark.parametrize('keeps_roles', [True, False])
def test_roles_that_the_pipeline_loses(keeps_roles):
    keys = ('sample_idx', 'img_path') + ('role',) * keeps_roles
    dataset = ProbesAndGallery(
        probes=dict(type='mmarcface.ORLFaces', people=[1, 2]),
        gallery=dict(type='mmarcface.ORLFaces', people=[1, 2]),
        pipeline=[LoadImageFromFile(), PackInputs(meta_keys=keys)],
    )
    evaluator = SimpleNamespace(metrics=[IdentificationMetric()])
    loop = SimpleNamespace(dataloader=DataLoader(dataset), evaluator=evaluator)
    if keeps_roles:
        check_data(loop)
    else:
        with pytest.raises(ValueError, match=r"meta_keys=\('sample_idx', 'img_path', 'role'\)"):
            check_data(loop)


def training_on(dataset, *hooks, model=None, **loader) -> EpochBasedTrainLoop:
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    loop._runner = SimpleNamespace(hooks=list(hooks), model=model or nn.Module())
    loop.dataloader = DataLoader(dataset, **loader)
    return loop


def test_a_head_of_too_few_classes_is_refused():
    model = nn.Module()
    model.head = ArcFaceHead(2, 4)
    check_data(training_on(ORLFaces(people=[1, 2]), model=model))
    with pytest.raises(ValueError, match=r"the data 3, the last is 's3': set .* to 3"):
        check_data(training_on(ORLFaces(people=[1, 2, 3]), model=model))


@pytest.mark.parametrize(
    ('norm', 'drop_last', 'refused'),
    [
        (nn.BatchNorm1d(2), False, True),
        (nn.BatchNorm1d(2), True, False),
        (nn.BatchNorm1d(2).eval(), False, False),
        (nn.BatchNorm2d(2), False, False),
    ],
)
def test_a_last_batch_of_one_is_refused(norm, drop_last, refused):
    dataset = ORLFaces(people=[1], indices=9)
    loader = dict(batch_size=4, sampler=DefaultSampler(dataset), drop_last=drop_last)
    loop = training_on(dataset, model=nn.Sequential(norm), **loader)
    if refused:
        with pytest.raises(ValueError, match='9 images for a process leave a last batch of one'):
            check_data(loop)
    else:
        check_data(loop)


def test_a_benchmark_is_not_trained_on(tmp_path):
    write_bin(tmp_path / 'lfw.bin', [b'a', b'b'], [True])
    loop = training_on(VerificationBin(str(tmp_path / 'lfw.bin')))
    with pytest.raises(ValueError, match=r'VerificationBin is a benchmark, with pairs: train on'):
        check_data(loop)


def test_a_label_that_means_two_people_is_not_trained_on():
    parts = [ORLFaces(people=[1, 2]), ORLFaces(people=[3, 4])]
    with pytest.raises(ValueError, match='JoinedIdentities'):
        check_data(training_on(ConcatDataset(parts, ignore_keys=['classes'])))
    check_data(training_on(ConcatDataset([parts[0], parts[0]])))


def test_figures_of_other_weights_than_are_saved_are_refused():
    average = EMAHook(evaluate_on_ema=False, evaluate_on_origin=True)
    with pytest.raises(ValueError, match='must have evaluate_on_ema=True'):
        check_data(training_on(ORLFaces(people=[1, 2]), average))
    check_data(training_on(ORLFaces(people=[1, 2]), EMAHook(), mmengine.hooks.EMAHook()))


@pytest.mark.parametrize('wrap', [lambda d: ConcatDataset([d, d]), lambda d: RepeatDataset(d, 2)])
def test_places_that_wrappers_count_anew_are_refused_before_all_embedding(wrap):
    pipeline = [LoadImageFromFile(), PackInputs()]
    dataset = ORLFaces(people=[1, 2], pipeline=pipeline)
    evaluator = SimpleNamespace(metrics=[VerificationMetric()])
    check_data(SimpleNamespace(dataloader=DataLoader(dataset), evaluator=evaluator))
    with pytest.raises(ValueError, match=r'needs its place .* sample 20 has 0; evaluate a data'):
        check_data(SimpleNamespace(dataloader=DataLoader(wrap(dataset)), evaluator=evaluator))


@pytest.mark.parametrize(
    ('loader', 'expected'),
    [
        (dict(num_workers=2), True),
        (dict(num_workers=0), False),
        (dict(num_workers=0, persistent_workers=True), False),
        (dict(num_workers=2, persistent_workers=False), False),
    ],
)
def test_workers_stay_where_there_are_some(tmp_path, loader, expected):
    path = tmp_path / 'config.py'
    path.write_text(f'train_dataloader = dict({", ".join(f"{k}={v}" for k, v in loader.items())})')
    args = Namespace(config=str(path), cfg_options={}, launcher='none', work_dir=None)
    assert load_config(args).train_dataloader.persistent_workers is expected


SETTINGS = dict(
    train_dataloader=dict(
        batch_size=4,
        pin_memory=True,
        persistent_workers=True,
        dataset=dict(
            type='RepeatDataset',
            dataset=dict(type='FilteredDataset', filter_file='/a/keep.csv', dataset=dict(people=3)),
        ),
    ),
    keep_list='abc',
)


def test_places_and_machines_are_no_settings():
    then = Config(SETTINGS).pretty_text
    now = Config(SETTINGS)
    now.train_dataloader.update(pin_memory=False, persistent_workers=False)
    now.train_dataloader.dataset.dataset.filter_file = '/b/keep.csv'
    _refuse_other_settings(now, 'epoch_1.pth', then)
    assert now.train_dataloader.dataset.dataset.filter_file == '/b/keep.csv'
    for changes, name in (
        ({'train_dataloader.batch_size': 5}, 'train_dataloader'),
        ({'train_dataloader.dataset.dataset.dataset.people': 4}, 'train_dataloader'),
        (dict(keep_list='abd'), 'keep_list'),
    ):
        other = Config(SETTINGS)
        other.merge_from_dict(changes)
        with pytest.raises(ValueError, match=rf'epoch_1\.pth was trained with another {name}'):
            _refuse_other_settings(other, 'epoch_1.pth', then)
    # Nothing tells lists apart without their fingerprint.
    paths = [Config(SETTINGS), Config(SETTINGS)]
    for config, path in zip(paths, ('/a/keep.csv', '/b/keep.csv'), strict=True):
        config.pop('keep_list')
        config.train_dataloader.dataset.dataset.filter_file = path
    with pytest.raises(ValueError, match='was trained with another train_dataloader'):
        _refuse_other_settings(paths[0], 'epoch_1.pth', paths[1].pretty_text)
