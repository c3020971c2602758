"""Data sets in the wrappers of mmengine, mmpretrain and torch."""

import copy

import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from torch.utils.data import ConcatDataset, Dataset, Subset

from mmarcface.datasets import ORLFaces
from mmarcface.datasets.wrappers import (
    REPEATING,
    pipeline_of,
    with_pipeline,
    without_repeats,
)
from mmarcface.registry import DATASETS

PIPELINE = [dict(type='mmarcface.LoadImageFromFile')]
INSIDE = dict(type='mmarcface.ORLFaces', people=[1, 2], pipeline=PIPELINE)
CONFIGS = {
    'none': INSIDE,
    'repeat': dict(type='RepeatDataset', times=3, dataset=INSIDE),
    'balanced': dict(type='ClassBalancedDataset', oversample_thr=0.01, dataset=INSIDE),
    'concat': dict(type='ConcatDataset', datasets=[INSIDE, INSIDE]),
    'fold': dict(type='KFoldDataset', dataset=INSIDE, fold=0, num_splits=2, seed=0),
    'filtered': dict(
        type='mmarcface.FilteredDataset', dataset=dict(INSIDE, pipeline=[]), pipeline=PIPELINE
    ),
    'deep': dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='ConcatDataset', datasets=[dict(type='RepeatDataset', times=1, dataset=INSIDE)]
        ),
    ),
}


def build(config):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(config)


def paths(dataset) -> list[str]:
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


@pytest.mark.parametrize('name', CONFIGS)
def test_samples_are_the_same_and_prepared_in_another_way(name):
    dataset = build(CONFIGS[name])
    other = with_pipeline(dataset, Compose([lambda sample: sample['img_path']]))
    wanted = paths(dataset)
    if name == 'repeat':
        wanted = wanted[: len(wanted) // 3]
    elif name == 'deep':
        wanted = wanted[: len(wanted) // 2]
    assert [other[i] for i in range(len(other))] == wanted
    # The data set itself stays as it is.
    assert 'img' in dataset[0]


@pytest.mark.parametrize('wrap', [lambda d: Subset(d, [3, 1]), lambda d: ConcatDataset([d, d])])
def test_wrappers_of_torch(wrap):
    dataset = wrap(build(INSIDE))
    other = with_pipeline(dataset, Compose([lambda sample: sample['img_path']]))
    assert [other[i] for i in range(len(dataset))] == [
        dataset[i]['img_path'] for i in range(len(dataset))
    ]


@pytest.mark.parametrize('name', CONFIGS)
def test_pipelines_are_found_in_configs_and_in_what_is_built(name):
    assert pipeline_of(CONFIGS[name]) == PIPELINE
    (load,) = pipeline_of(build(CONFIGS[name])).transforms
    assert type(load).__name__ == 'LoadImageFromFile'


def test_no_pipeline():
    assert pipeline_of({}) is None
    assert pipeline_of(dict(type='ConcatDataset', datasets=[dict(type='Any')])) is None
    assert pipeline_of(dict(INSIDE, pipeline=[])) == []
    assert pipeline_of(Dataset()) is None
    with pytest.raises(ValueError, match='must have a pipeline, or be a wrapper'):
        with_pipeline(Dataset(), print)


@pytest.mark.parametrize('name', CONFIGS)
def test_configs_are_changed_as_what_is_built(name):
    config = copy.deepcopy(CONFIGS[name])
    other = with_pipeline(config, [])
    assert config == CONFIGS[name]
    expected = with_pipeline(build(CONFIGS[name]), Compose([]))
    assert paths(build(other)) == paths(expected)
    assert 'img' not in build(other)[0]


def test_wrappers_are_left_away():
    for drop, name, expected in (
        (REPEATING, 'repeat', INSIDE),
        (REPEATING, 'balanced', INSIDE),
        (REPEATING, 'deep', dict(type='ConcatDataset', datasets=[INSIDE])),
        ((), 'repeat', CONFIGS['repeat']),
    ):
        assert with_pipeline(CONFIGS[name], PIPELINE, drop) == expected
    assert without_repeats(CONFIGS['repeat']) is INSIDE
    assert without_repeats(CONFIGS['deep']) is CONFIGS['deep']['dataset']
    assert without_repeats(CONFIGS['filtered']) is CONFIGS['filtered']
    built = build(CONFIGS['balanced'])
    assert without_repeats(built) is built.dataset


def test_a_pipeline_may_be_empty():
    dataset = ORLFaces(people=[1])
    assert 'img' not in dataset[0]
    assert 'img' in with_pipeline(dataset, build(INSIDE).pipeline)[0]
