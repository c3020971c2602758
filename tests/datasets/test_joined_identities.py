"""Training sets of several: whose label is whose, against a plain loop."""

import re
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import ConcatDataset as TorchConcatDataset
from torch.utils.data import DataLoader, Subset

from mmarcface.datasets import (
    MNIST,
    IdentityFolder,
    IdentityRecords,
    JoinedIdentities,
    LoadImageFromFile,
    ProbesAndGallery,
    joined_identities,
)
from mmarcface.datasets.joined_identities import refuse_label_collisions
from mmarcface.datasets.lazy_samples import LazySamples
from mmarcface.datasets.sample_ids import sample_ids
from mmarcface.registry import DATASETS

from . import writers
from .test_filtered import check_filter, infos


@pytest.fixture(autouse=True)
def collect_no_garbage(monkeypatch):
    # Serializing does, which takes long in a large program.
    monkeypatch.setattr('gc.collect', lambda: 0)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines = []
    monkeypatch.setattr(
        joined_identities, 'print_log', lambda text, _, level: lines.append((level, text))
    )
    return lines


def folder(root: Path, **images: int) -> dict:
    """Config of a folder of people with some images each."""
    for person, number in images.items():
        for place in range(number):
            writers.save(root / person / f'{place}.png', writers.tiny(len(person) + 10 * place))
    return dict(type=IdentityFolder, data_root=str(root))


def records(path: Path, **people: int) -> dict:
    images = {int(k[1:]): [writers.tiny(n) for n in range(v)] for k, v in people.items()}
    return dict(
        type='mmarcface.IdentityRecords', path=writers.write_rec(path, writers.insightface(images))
    )


@pytest.fixture
def sets(tmp_path) -> dict:
    return dict(
        one=folder(tmp_path / 'one', ann=2, bea=1),
        two=folder(tmp_path / 'two', bea=2, cyd=3, ann=1),
        rec=records(tmp_path / 'a.rec', p3=2, p7=1),
    )


def by_loop(sets: dict, join: bool) -> list[tuple[str, str]]:
    """Person and name of each sample."""
    found = []
    for name, config in sets.items():
        part = DATASETS.build(config)
        for sample, own in zip(infos(part), sample_ids(part), strict=True):
            person = part.CLASSES[sample['gt_label']]
            found.append((person if join else f'{name}/{person}', f'{name}/{own}'))
    return found


@pytest.mark.parametrize('merge', [False, True])
def test_each_label_is_one_person(sets, merge, said):
    dataset = JoinedIdentities(sets, merge, pipeline=[LoadImageFromFile()])
    expected = by_loop(sets, merge)
    classes = dataset.metainfo['classes']
    assert list(classes) == list(dict.fromkeys(person for person, _ in expected))
    assert len(classes) == (5 if merge else 7)
    found = [(classes[info['gt_label']], info['sample_id']) for info in infos(dataset)]
    assert found == expected
    assert sample_ids(dataset) == [name for _, name in expected]
    assert [classes[label] for label in dataset.get_gt_labels()] == [who for who, _ in expected]
    for info, person in zip(infos(dataset), found, strict=True):
        assert info.get('identity', person[0]) == person[0]
    assert [info['sample_idx'] for info in infos(dataset)] == list(range(len(expected)))
    whole = [
        DATASETS.build(config | dict(pipeline=[LoadImageFromFile()])) for config in sets.values()
    ]
    images = [sample['img'] for part in whole for sample in (part[i] for i in range(len(part)))]
    np.testing.assert_equal([dataset[i]['img'] for i in range(len(dataset))], images)
    assert isinstance(dataset.data_list, LazySamples)
    told = [text for _, text in said]
    assert told == (['2 classes are in several of one, two, rec by their names'] if merge else [])


def test_numbers_are_no_names(tmp_path, said):
    sets = dict(
        a=records(tmp_path / 'a.rec', p3=2, p7=1), b=records(tmp_path / 'b.rec', p7=1, p9=1)
    )
    assert JoinedIdentities(sets, merge_by_name=True).CLASSES == ('3', '7', '9')
    level, text = said[0]
    assert re.search(
        '1 classes .* numbers: unless the sets count the same .* leave out merge_by_name', text
    )
    assert level > 20
    assert JoinedIdentities(sets).CLASSES == ('a/3', 'a/7', 'b/7', 'b/9')


def test_sets_of_other_kinds(tmp_path, inshop, orl):
    sets = dict(
        shop=dict(type='mmarcface.InShop', data_root=str(inshop)),
        digits=dict(type='mmarcface.MNIST', split='test'),
        part=dict(type='mmarcface.ORLFaces', people=[4, 5, 6], indices=[0, 25]),
        custom=dict(type='CustomDataset', data_prefix=str(orl), extensions=('.pgm',)),
        again=dict(type='mmarcface.JoinedIdentities', sets=dict(x=folder(tmp_path / 'x', ann=2))),
        folds=dict(
            type='KFoldDataset', dataset=dict(type='mmarcface.ORLFaces', people=[1]), num_splits=2
        ),
    )
    dataset = JoinedIdentities(sets)
    sizes = [24, 1000, 2, 400, 2, 5]
    assert len(dataset) == sum(sizes)
    classes = dataset.CLASSES
    assert len(set(classes)) == len(classes) == 8 + 10 + 3 + 40 + 1 + 1
    # Whose samples an indices leaves none of keep their label.
    assert [classes[label] for label in dataset.get_gt_labels()[1024:1026]] == [
        'part/s4',
        'part/s6',
    ]
    assert classes[-1] == 'folds/s1'
    assert sample_ids(dataset)[-6] == 'again/x/ann/1.png'
    starts = np.cumsum([0, *sizes])
    for name, start in zip(sets, starts, strict=False):
        assert classes[dataset.get_gt_labels()[start]].startswith(f'{name}/')
    assert dataset.get_data_info(24)['img'].shape == (28, 28, 3)


def test_keep_lists(sets, tmp_path):
    check_filter(dict(type=JoinedIdentities, sets=sets), tmp_path)


def test_workers(sets):
    dataset = JoinedIdentities(sets, pipeline=[LoadImageFromFile()]).get_subset([-1, 0])
    samples = list(DataLoader(dataset, None, num_workers=1))
    assert [sample['gt_label'] for sample in samples] == [6, 0]


def test_identities_that_only_share_a_name_stay_apart(sets):
    # As gallery and probes know an identity by its name.
    apart = dict(type='mmarcface.JoinedIdentities', sets=dict(one=sets['one'], two=sets['two']))
    samples = infos(ProbesAndGallery(apart, apart | dict(indices=[0])))
    assert len({sample['gt_label'] for sample in samples}) == 5


def test_many_samples_stay_arrays(tmp_path, sets):
    dataset = JoinedIdentities(dict(rec=sets['rec'], other=sets['rec']), lazy_init=True)
    number = 1_000_000

    class Many(IdentityRecords):
        def load_data_list(self):
            few = super().load_data_list()
            return few.take(np.arange(number) % 3, np.arange(number, dtype=np.int32) % 2)

        def get_data_info(self, idx):
            assert len(asked) < 9
            asked.append(idx)
            return super().get_data_info(idx)

    asked = []
    DATASETS.register_module('Many', module=Many)
    try:
        config = dict(type='mmarcface.Many', path=sets['rec']['path'])
        dataset = JoinedIdentities(dict(a=config, b=config))
        part = dataset.get_subset(range(number // 2, number + number // 2))
        assert len(part) == number
        assert np.unique(part.get_gt_labels(), return_counts=True)[1].tolist() == [number // 4] * 4
        assert part.get_data_info(-1)['sample_id'].startswith('b/')
    finally:
        DATASETS.module_dict.pop('Many')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(sets={}), 'sets must name data sets of identities, got none'),
        (dict(sets={'a/b': {}}), "sets must have names without a slash, got 'a/b'"),
        (
            dict(sets=dict(a=dict(type='mmarcface.ORLFaces', people=[1, 2, 1]))),
            "identities must differ, as each is a class, got 's1' twice",
        ),
        (
            dict(
                sets=dict(
                    a=dict(type='mmarcface.MNIST', split='test', metainfo=dict(classes=['0'] * 10))
                )
            ),
            r"sets\['a'\], MNIST, must have classes of different names, got '0' twice",
        ),
    ],
)
def test_wrong_arguments(sets, arguments, message):
    with pytest.raises(ValueError, match=message):
        JoinedIdentities(**(dict(sets=sets) | arguments))


def test_a_benchmark_is_refused(tmp_path, sets):
    writers.lfw(tmp_path, {name: [b'image'] * 3 for name in 'abcd'})
    sets['lfw'] = dict(type='mmarcface.LFW', data_root=str(tmp_path))
    with pytest.raises(ValueError, match=r"sets\['lfw'\], LFW, must not be a benchmark"):
        JoinedIdentities(sets)
    assert JoinedIdentities(sets | dict(lfw=sets['lfw'] | dict(split='people')))


class Nameless(MNIST):
    METAINFO = {}

    def load_data_list(self):
        return [dict(sample_id=str(i), gt_label=i % 3) for i in range(9)]

    def get_data_info(self, idx):
        return super(MNIST, self).get_data_info(idx)


@pytest.fixture
def nameless():
    DATASETS.register_module('Nameless', module=Nameless)
    yield dict(type='mmarcface.Nameless')
    DATASETS.module_dict.pop('Nameless')


def test_classes_without_names(sets, nameless):
    dataset = JoinedIdentities(dict(a=nameless, b=nameless))
    assert dataset.CLASSES == ('a/0', 'a/1', 'a/2', 'b/0', 'b/1', 'b/2')
    with pytest.raises(
        ValueError, match=r"sets\['a'\], Nameless, must name its 3 classes, .* 0: set"
    ):
        JoinedIdentities(dict(a=nameless), merge_by_name=True)
    # As the error advises.
    named = nameless | dict(metainfo=dict(classes=['x', 'y', 'ann']))
    assert JoinedIdentities(dict(one=sets['one'], a=named), merge_by_name=True).CLASSES == (
        'ann',
        'bea',
        'x',
        'y',
    )


def concatenated(*parts: dict) -> dict:
    return dict(type='ConcatDataset', datasets=list(parts), ignore_keys=['classes'])


def repeated(dataset: dict) -> dict:
    return dict(type='RepeatDataset', dataset=dataset, times=2)


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        (lambda one: one, lambda other: other),
        (lambda one: one, repeated),
        (
            repeated,
            lambda other: dict(type='ClassBalancedDataset', dataset=other, oversample_thr=1),
        ),
        (
            lambda one: concatenated(one, one),
            lambda other: dict(type='KFoldDataset', dataset=other),
        ),
        (lambda one: one | dict(lazy_init=True), lambda other: other | dict(lazy_init=True)),
    ],
)
def test_folded_labels_are_refused(tmp_path, first, second):
    people = folder(tmp_path / 'one', ann=6, bea=6), folder(tmp_path / 'two', ann=6, cyd=6)
    one, two = (
        DATASETS.build(wrap(config)) for wrap, config in zip((first, second), people, strict=True)
    )
    names = type(one).__name__, type(two).__name__
    rule = (
        rf"label 1 must be one class .* is 'bea' in part 0 \({names[0]}\) and 'cyd' in part 1 "
        rf'\({names[1]}\). .* use mmarcface.JoinedIdentities\(sets='
    )
    for parts in (TorchConcatDataset([one, two]), TorchConcatDataset([one, one, two])):
        for dataset in (parts, Subset(parts, [0]), TorchConcatDataset([parts, parts])):
            with pytest.raises(
                ValueError, match=rule.replace('part 1', f'part {len(parts.datasets) - 1}')
            ):
                refuse_label_collisions(dataset)
    for dataset in (one, two, TorchConcatDataset([one, one]), TorchConcatDataset([two])):
        refuse_label_collisions(dataset)
    for config in (concatenated(*people), repeated(concatenated(*people))):
        with pytest.raises(ValueError, match='label 1 must be one class'):
            refuse_label_collisions(DATASETS.build(config))
    refuse_label_collisions(JoinedIdentities(dict(a=people[0], b=people[1])))


def test_more_classes_of_the_same_names_are_no_fold(tmp_path):
    few, more = (
        folder(tmp_path / 'few', ann=1, bea=1),
        folder(tmp_path / 'more', ann=1, bea=1, eve=1),
    )
    for parts in ((few, more), (more, few)):
        refuse_label_collisions(DATASETS.build(concatenated(*parts)))


def test_classes_that_nobody_names_are_told(tmp_path, said):
    one = DATASETS.build(folder(tmp_path, ann=1))
    refuse_label_collisions(TorchConcatDataset([one, Nameless()]))
    ((level, text),) = said
    assert level > 20
    assert re.search(r'part 1 \(Nameless\) .* does not name its classes.*JoinedIdentities', text)
    for dataset in (TorchConcatDataset([Nameless()]), Nameless(), [1, 2]):
        refuse_label_collisions(dataset)
    assert len(said) == 1
