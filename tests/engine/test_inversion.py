"""Whom to invert, who judges, and the hook in real training."""

import json
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmarcface.apis import get_model
from mmarcface.datasets.class_names import class_names
from mmarcface.engine import BNPriorInversionHook
from mmarcface.engine.hooks.inversion import train_missing_judges
from mmarcface.engine.inversion_plan import (
    InversionPlan,
    build_evaluator,
    plan_inversion,
    train_judge,
)

PIPELINE = [
    dict(type='mmarcface.LoadImageFromFile'),
    dict(type='Resize', scale=(24, 28), interpolation='area'),
    dict(type='PackInputs'),
]
HOOK = dict(type='mmarcface.BNPriorInversionHook', per_target=2, preset='small', steps=3)

PLAN = InversionPlan([0], ['label0'], [0], {})


def loader(people, **dataset):
    dataset = dict(type='mmarcface.ORLFaces', people=list(people), pipeline=PIPELINE) | dataset
    return dict(
        batch_size=10,
        num_workers=0,
        dataset=dataset,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )


def tiny(seed=0, **changes):
    """A net of seconds, for three people of ORL."""
    return Config(
        dict(
            default_scope='mmpretrain',
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
            model=dict(
                type='mmarcface.EmbeddingRetriever',
                image_encoder=dict(
                    type='mmarcface.IResNet',
                    depth=18,
                    embedding_dim=8,
                    input_size=(28, 24),
                    base_channels=4,
                ),
                head=dict(type='mmarcface.ArcFaceHead', num_classes=3, in_channels=8, scale=16.0),
            ),
            train_dataloader=loader((3, 5, 7)),
            test_dataloader=loader((2, 9)),
            test_cfg=dict(),
            test_evaluator=dict(type='mmarcface.RetrievalMetric'),
            train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
            visualizer=dict(
                type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
            ),
            randomness=dict(seed=seed),
            log_level='WARNING',
        )
        | changes
    )


def train(folder: Path, **changes) -> Runner:
    runner = Runner.from_cfg(tiny(work_dir=str(folder), **changes))
    runner.train()
    return runner


# Whom.


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ClassBalancedDataset', 'ConcatDataset'])
def test_wrapped_training_sets(wrapper):
    config = tiny()
    inside = dict(config.train_dataloader.dataset)
    more = dict(RepeatDataset=dict(times=3), ClassBalancedDataset=dict(oversample_thr=0.9))
    parts = dict(datasets=[inside]) if wrapper == 'ConcatDataset' else dict(dataset=inside)
    config.train_dataloader.dataset = dict(type=wrapper, **parts, **more.get(wrapper, {}))
    for targets in ('classes', [0, 1, 2]):
        plan = plan_inversion(config, targets)
        assert plan.targets == plan.identities == [0, 1, 2]
        # Each image once, without transforms.
        assert len(plan.dataset) == 30
        assert class_names(plan.dataset) == ['s3', 's5', 's7']
    assert config.train_dataloader.dataset.type == wrapper


def test_classes_are_those_with_images():
    config = tiny(train_dataloader=loader((4, 6, 8), indices=[*range(10), *range(20, 30)]))
    plan = plan_inversion(config, 'classes')
    assert plan.targets == plan.identities == [0, 2]
    assert plan.names == ['label0', 'label2']
    assert plan.real['people'] == [4, 6, 8]
    assert plan.real['pipeline'] == []
    # The config itself keeps its pipeline.
    assert len(config.train_dataloader.dataset.pipeline) == 3


def test_identities_are_one_image_of_each(orl):
    plan = plan_inversion(tiny(), 'identities')
    assert plan.names == ['identity0', 'identity1']
    assert plan.identities == [0, 1]
    assert plan.real['people'] == [2, 9]
    for image, person in zip(plan.targets, (2, 9), strict=True):
        np.testing.assert_array_equal(image, cv2.imread(str(orl / f's{person}' / '1.pgm')))


@pytest.mark.parametrize(
    ('most', 'expected'),
    [(1, [0]), (3, [0, 3, 6]), (4, [0, 2, 5, 7]), (10, [*range(10)]), (99, [*range(10)])],
)
def test_most_are_spread_evenly(most, expected):
    config = tiny(train_dataloader=loader(range(1, 11)))
    plan = plan_inversion(config, 'classes', most)
    assert plan.targets == plan.identities == expected


@pytest.mark.parametrize('labels', [[2, 0, 2], (2, 0, 2), range(3)])
def test_labels_are_taken_as_they_are(labels):
    plan = plan_inversion(tiny(), labels)
    assert plan.targets == plan.identities == list(labels)
    assert plan.names == [f'label{n}' for n in labels]
    assert plan.real['people'] == [3, 5, 7]


def test_few_classes_get_the_others_as_companions():
    config = tiny(train_dataloader=loader(range(1, 11)))
    # Of images that came later than the head nothing was learned.
    assert plan_inversion(config, [1]).companions == [0, 2]
    config.model.head.num_classes = 10
    plan = plan_inversion(config, [3, 5])
    assert plan.companions == [0, 1, 2, 4, 6, 7, 8, 9]
    assert plan.repeat(2).companions == plan.companions * 2
    assert plan_inversion(config, 'classes').companions == []
    assert plan_inversion(config, 'identities').companions == []
    assert plan_inversion(config, range(10)).companions == []
    assert len(plan_inversion(tiny(train_dataloader=loader(range(1, 41))), range(40)).targets) == 40


def test_without_training_images_there_are_no_companions(tmp_path, caplog):
    """Nor are they needed to invert a class."""
    missing = loader([1], data_root=str(tmp_path / 'moved'))
    plan = plan_inversion(tiny(train_dataloader=missing), [0, 1])
    assert plan.targets == [0, 1]
    assert plan.companions == []


def test_so_many_of_each():
    plan = InversionPlan([4, 7], ['a', 'b'], [1, 2], dict(x=1)).repeat(3)
    assert plan.targets == [4, 7, 4, 7, 4, 7]
    assert plan.names == ['a', 'b'] * 3
    assert plan.identities == [1, 2] * 3
    assert plan.real == dict(x=1)
    vectors = InversionPlan(np.eye(2), ['a', 'b'], None, None).repeat(2)
    np.testing.assert_array_equal(vectors.targets, [[1, 0], [0, 1], [1, 0], [0, 1]])
    assert vectors.identities is None
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f'per_target must be at least 1, got {wrong}'):
            plan.repeat(wrong)


def test_wrong_targets_are_refused(tmp_path, orl):
    with pytest.raises(ValueError, match=r"class numbers or one of \('classes', 'ident.*got 'all'"):
        plan_inversion(tiny(), 'all')
    for wrong in (0, -3):
        with pytest.raises(ValueError, match=f'max_targets must be at least 1, got {wrong}'):
            plan_inversion(tiny(), 'classes', wrong)
    unlabeled = loader([])
    unlabeled['dataset'] = dict(type='CustomDataset', data_prefix=str(orl / 's1'))
    unlabeled['dataset'] |= dict(with_label=False, extensions=('.pgm',), pipeline=PIPELINE)
    with pytest.raises(ValueError, match='gt_label must be an integer in CustomDataset, got None'):
        plan_inversion(tiny(train_dataloader=unlabeled), 'classes')


# Who judges.


def model_of(config):
    torch.manual_seed(0)
    return get_model(config)


@pytest.mark.parametrize('wrong', [dict(), dict(checkpoint='a.pth'), dict(config='a', device='b')])
def test_a_judge_is_a_config(wrong):
    for call in (train_judge, build_evaluator):
        given = (tiny(),) if call is train_judge else (tiny(), PLAN, None)
        with pytest.raises(
            ValueError, match=r'a judge is dict\(config=\.\.\., checkpoint=\.\.\.\), g'
        ):
            call(wrong, *given)


def test_missing_judges(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'config judge\.py does not exist'):
        build_evaluator(dict(config='judge.py'), tiny(), PLAN, None)
    with pytest.raises(FileNotFoundError, match=r'config judge\.py does not exist'):
        train_judge(dict(config='judge.py'), tiny())


def randomness():
    state = random.getstate()[1], np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    return hash(str(state))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With configs/net.py and configs/judge.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').mkdir()
    tiny(seed=1).dump(tmp_path / 'configs' / 'judge.py')
    tiny().dump(tmp_path / 'configs' / 'net.py')
    return tmp_path


def test_judge_is_trained_once_beside_the_config(folder):
    config = Config.fromfile(folder / 'configs' / 'net.py')
    model = model_of(config)
    plan = plan_inversion(config, 'classes')
    before = randomness()
    train_judge(dict(config='judge.py'), config)
    evaluator = build_evaluator(dict(config='judge.py'), config, plan, model)
    assert randomness() == before
    checkpoint = folder / 'work_dirs' / 'judge' / 'epoch_1.pth'
    stamp = checkpoint.stat().st_mtime_ns
    trained = torch.load(checkpoint, weights_only=True)['state_dict']
    for name, value in evaluator.model.state_dict().items():
        assert torch.equal(value, trained[name]), name
    assert len(evaluator.real) == 30
    given = dict(config='configs/judge.py', checkpoint=str(checkpoint))
    for judge in (dict(config='judge.py'), given):
        train_judge(judge, config)
        build_evaluator(judge, config, plan, model)
    assert checkpoint.stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match='the judge is the model itself'):
        build_evaluator(given, config, plan, evaluator.model)


@pytest.mark.parametrize('state', ['no training', 'unfinished', 'other settings'])
def test_evaluators_need_a_trained_judge(folder, state):
    config = Config.fromfile(folder / 'configs' / 'net.py')
    judge = dict(config='judge.py')
    words = r'not been trained: .*judge has no .* Run python tools/train\.py .*judge\.py first'
    if state == 'unfinished':
        twice = dict(train_cfg=dict(by_epoch=True, max_epochs=2))
        tiny(seed=1, **twice).dump(folder / 'configs' / 'judge.py')
    if state != 'no training':
        train_judge(judge, config)
    work = folder / 'work_dirs' / 'judge'
    if state == 'unfinished':
        (work / 'epoch_2.pth').unlink()
        (work / 'last_checkpoint').write_text(str(work / 'epoch_1.pth'))
    elif state == 'other settings':
        changes, words = dict(optim_wrapper=dict(optimizer=dict(type='Adam'))), 'another optim_wrap'
        tiny(seed=1, **changes).dump(folder / 'configs' / 'judge.py')
    plan = plan_inversion(config, 'classes')
    with pytest.raises(ValueError, match=words):
        build_evaluator(judge, config, plan, model_of(config))
    if state == 'unfinished':
        train_judge(judge, config)
        assert (work / 'epoch_2.pth').exists()
        build_evaluator(judge, config, plan, model_of(config))


@pytest.mark.parametrize('call', [train_judge, build_evaluator])
def test_the_model_itself_is_no_judge(folder, call):
    config = Config.fromfile(folder / 'configs' / 'net.py')
    given = (config,) if call is train_judge else (config, plan_inversion(config, [0]), None)
    with pytest.raises(ValueError, match=r'net\.py is the config of the model itself'):
        call(dict(config='net.py'), *given)


# The hook.


def test_hook_inverts_after_training(tmp_path):
    runner = train(tmp_path, custom_hooks=[HOOK])
    folder = tmp_path / 'inversion' / '3'
    report = json.loads((folder / 'report.json').read_text())
    assert report['iteration'] == 3
    assert report['labels'] == [0, 1, 2, 0, 1, 2]
    assert report['settings']['steps'] == 3
    assert isinstance(report['converged'], bool)
    assert sorted(report['files']) == [f'images/label{n}_{i}.png' for n in range(3) for i in (0, 1)]
    # A row a class, and a column a start.
    grid = cv2.imread(str(folder / 'grid.png'))
    assert grid.shape == (3 * 30 - 2, 2 * 26 - 2, 3)
    for row in range(3):
        image = cv2.imread(str(folder / 'images' / f'label{row}_1.png'))
        np.testing.assert_array_equal(grid[30 * row : 30 * row + 28, 26:], image)
    (shown,) = tmp_path.glob('*/vis_data/vis_image/inversion_3.png')
    np.testing.assert_array_equal(cv2.imread(str(shown)), grid)
    assert len(list((tmp_path / 'inversion').iterdir())) == 1
    assert all(p.requires_grad for p in runner.model.image_encoder.conv1.parameters())


def test_hook_changes_nothing_of_the_training(tmp_path):
    changes = dict(train_cfg=dict(by_epoch=True, max_epochs=3))
    hooks = [HOOK | dict(interval=1, targets='identities', per_target=1)]
    plain = train(tmp_path / 'plain', **changes).model.state_dict()
    watched = train(tmp_path / 'watched', **changes, custom_hooks=hooks).model.state_dict()
    for name, value in plain.items():
        assert torch.equal(watched[name], value), name
    folders = sorted(p.name for p in (tmp_path / 'watched' / 'inversion').iterdir())
    assert folders == ['3', '6', '9']
    names = [p.name for p in (tmp_path / 'watched' / 'inversion' / '6' / 'images').iterdir()]
    assert sorted(names) == ['identity0_0.png', 'identity1_0.png']


def test_hook_with_a_judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny(seed=1).dump(tmp_path / 'judge.py')
    hook = HOOK | dict(judge=dict(config='judge.py'))
    # The hook trains no other net.
    with pytest.raises(ValueError, match=r'Run python tools/train\.py judge\.py first'):
        train(tmp_path / 'net', custom_hooks=[hook])
    assert not list(tmp_path.glob('**/*.pth'))
    train_missing_judges(tiny(custom_hooks=[dict(type='EMAHook'), hook]))
    assert (tmp_path / 'work_dirs' / 'judge' / 'epoch_1.pth').exists()
    runner = train(tmp_path / 'net', custom_hooks=[hook])
    report = json.loads((tmp_path / 'net' / 'inversion' / '3' / 'report.json').read_text())
    named = [identity['named'] for identity in report['per_identity']]
    assert len(named) == 3
    assert report['attack_accuracy'] == sum(named) / report['number']
    # It trains as without: the judge draws no random numbers of it.
    plain = train(tmp_path / 'plain').model.state_dict()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, plain[name]), name
    # Logs, curves and pictures of the net are not with the judge.
    assert list((tmp_path / 'net').glob('*/vis_data/vis_image/inversion_3.png'))
    assert not list((tmp_path / 'work_dirs').glob('**/inversion*'))


@pytest.mark.parametrize(
    'hooks', [None, [], [HOOK], [dict(type='EMAHook', judge=dict(config='a'))]]
)
def test_without_a_judge_there_is_nothing_to_train(tmp_path, monkeypatch, hooks):
    monkeypatch.chdir(tmp_path)
    train_missing_judges(tiny(custom_hooks=hooks))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['interval', 'per_target', 'max_targets'])
@pytest.mark.parametrize('value', [0, -1, 1.5, '3', True])
def test_wrong_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=f'^{name} must be .*at least 1, got {value!r}'):
        BNPriorInversionHook(**{name: value})


def test_wrong_targets_are_told_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"class numbers or one of .* got 'all'"):
        train(tmp_path, custom_hooks=[HOOK | dict(targets='all')])
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize(
    ('changes', 'error', 'words'),
    [
        (dict(targets=[999]), ValueError, r'target classes must be in \[0, \d+\), got 999'),
        (dict(step=3), TypeError, "there is no setting 'step'"),
        (dict(preset='nope'), ValueError, 'preset must be one of'),
        (
            dict(judge=dict(config='nobody.py')),
            FileNotFoundError,
            'config nobody.py does not exist',
        ),
    ],
)
def test_what_cannot_be_inverted_is_told_before_training(tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        train(tmp_path, custom_hooks=[HOOK | changes])
    assert not list(tmp_path.glob('*.pth'))
