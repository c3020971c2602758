"""Parts of every data set, in each of the ways that mmengine and mmpretrain have."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmpretrain.datasets import KFoldDataset
from torch.utils.data import DataLoader

from mmarcface.datasets import (
    IJB,
    LFW,
    MNIST,
    CelebA,
    FilteredDataset,
    IdentityDataset,
    IdentityFolder,
    IdentityRecords,
    InShop,
    JoinedIdentities,
    LoadImageFromFile,
    NoisyLabels,
    ORLFaces,
    ProbesAndGallery,
    VerificationBin,
    VerificationSets,
)
from mmarcface.datasets.formats.pairs import Pairs
from mmarcface.datasets.lazy_samples import LazySamples
from mmarcface.datasets.subsets import resolve_indices
from mmarcface.evaluation.metrics import VerificationMetric
from mmarcface.registry import DATASETS

from . import writers
from .test_han_glyphs import letters

FACES = {name: [writers.tiny(10 * i + n) for n in range(3)] for i, name in enumerate('abcd')}
LAZY = ('records', 'filtered', 'noisy', 'joined')
WITH_PAIRS = ('view 2', 'view 1', 'bin', 'sets')
NAMES = (
    'folder', 'orl', 'mnist', 'glyphs', 'inshop', 'celeba', 'people', *WITH_PAIRS, 'ijb', 'probes',
    *LAZY,
)  # fmt: skip


def write_mnist(folder: Path, digits: list[int]) -> None:
    images = np.arange(len(digits) * 12, dtype=np.uint8).reshape(-1, 3, 4)
    for name, values in (('images-idx3', images), ('labels-idx1', np.array(digits, np.uint8))):
        header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, '>u4').tobytes()
        (folder / f'train-{name}-ubyte').write_bytes(header + values.tobytes())


@pytest.fixture(autouse=True)
def collect_no_garbage(monkeypatch):
    # Serializing does, which takes long in a large program.
    monkeypatch.setattr('gc.collect', lambda: 0)


@pytest.fixture
def make(request, tmp_path) -> Callable:
    """Makes a data set of a kind, with arguments of its own."""

    def at(kind: str) -> str:
        folder = tmp_path / kind
        if not folder.exists():
            folder.mkdir()
            if kind == 'folder':
                for name, images in FACES.items():
                    for number, image in enumerate(images):
                        writers.save(folder / name / f'{number}.png', image)
            elif kind == 'files':
                writers.write_rec(
                    folder / 'a.rec', writers.insightface({3: FACES['a'], 9: FACES['b']})
                )
                writers.write_bin(folder / 'a.bin', (FACES['a'] + FACES['b'], [True, False, True]))
            elif kind == 'mnist':
                write_mnist(folder, digits=[3, 1, 4, 1, 5, 9, 2, 6, 5])
            else:
                getattr(writers, kind)(folder, FACES)
        return str(folder)

    folder = dict(type=IdentityFolder)
    builders = {
        'folder': lambda **kw: IdentityFolder(at('folder'), **kw),
        'orl': lambda **kw: ORLFaces(people=[2, 1], **kw),
        'mnist': lambda **kw: MNIST(data_root=at('mnist'), **kw),
        'glyphs': letters,
        'inshop': lambda **kw: InShop(str(request.getfixturevalue('inshop')), 'test', **kw),
        'celeba': lambda **kw: CelebA(
            at('celeba'), landmarks='list_landmarks_align_celeba.txt', **kw
        ),
        'people': lambda **kw: LFW(at('lfw'), 'people', **kw),
        'view 2': lambda **kw: LFW(at('lfw'), **kw),
        'view 1': lambda **kw: LFW(at('lfw'), 'view1', **kw),
        'bin': lambda **kw: VerificationBin(f'{at("files")}/a.bin', 3, **kw),
        'sets': lambda **kw: VerificationSets(
            dict(
                lfw=dict(type=LFW, data_root=at('lfw')),
                bin=dict(type=VerificationBin, path=f'{at("files")}/a.bin', num_folds=3),
            ),
            **kw,
        ),
        'ijb': lambda **kw: IJB(at('ijb'), **kw),
        'probes': lambda **kw: ProbesAndGallery(
            folder | dict(data_root=at('folder'), indices=[0, 3, 6]),
            folder | dict(data_root=at('folder'), indices=[1, 2, 4]),
            **kw,
        ),
        'records': lambda **kw: IdentityRecords(f'{at("files")}/a.rec', **kw),
        'filtered': lambda **kw: FilteredDataset(folder | dict(data_root=at('folder')), **kw),
        'joined': lambda **kw: JoinedIdentities(
            dict(
                folder=folder | dict(data_root=at('folder')),
                records=dict(type=IdentityRecords, path=f'{at("files")}/a.rec'),
                digits=dict(type=MNIST, data_root=at('mnist')),
            ),
            **kw,
        ),
        'noisy': lambda **kw: NoisyLabels(folder | dict(data_root=at('folder')), 0.5, **kw),
    }
    return lambda name, **kwargs: builders[name](**kwargs)


def infos(dataset) -> list[dict]:
    return [dataset.get_data_info(place) for place in range(len(dataset))]


def without_place(samples: list[dict]) -> list[dict]:
    return [{k: v for k, v in sample.items() if k != 'sample_idx'} for sample in samples]


def named_pairs(pairs: Pairs, samples: list[dict]) -> list[tuple]:
    """Pairs by the images that they name, with the answer."""
    return [
        (samples[one]['img_path'], samples[other]['img_path'], same)
        for (one, other), same in zip(pairs.indices.tolist(), pairs.is_same.tolist(), strict=True)
    ]


def check_part(part, whole, places: list[int]) -> None:
    """A part has the samples at these places, and what the whole says of them."""
    samples = infos(whole)
    chosen = [samples[place] for place in places]
    assert len(part) == len(places)
    np.testing.assert_equal(without_place(infos(part)), without_place(chosen))
    assert [sample['sample_idx'] for sample in infos(part)] == list(range(len(places)))
    np.testing.assert_equal(part.get_gt_labels(), [sample['gt_label'] for sample in chosen])
    facts, known = part.metainfo, whole.metainfo
    assert set(facts) == set(known)
    assert facts.get('classes') == known.get('classes')
    assert known.get('classes') == part.CLASSES
    pairs = known.get('pairs', {})
    for name, of in (pairs if isinstance(pairs, dict) else {'': pairs}).items():
        left = facts['pairs'][name] if name else facts['pairs']
        names = {sample['img_path'] for sample in chosen}
        expected = [pair for pair in named_pairs(of, samples) if {*pair[:2]} <= names]
        assert named_pairs(left, infos(part)) == expected
        folds = left.folds[left.folds >= 0]
        assert sorted(set(folds.tolist())) == list(range(len(set(folds.tolist()))))
    if 'templates' in known:
        one, other = facts['templates'], known['templates']
        assert one.template.tolist() == [sample['gt_label'] for sample in chosen]
        for name in ('media', 'detection_score'):
            assert getattr(one, name).tolist() == getattr(other, name)[places].tolist()
        there = set(one.template.tolist())
        expected = [i for i, pair in enumerate(other.pairs.indices.tolist()) if {*pair} <= there]
        assert one.pairs.indices.tolist() == other.pairs.indices[expected].tolist()
        assert one.pairs.is_same.tolist() == other.pairs.is_same[expected].tolist()
        lists = [(one.probes, other.probes)]
        lists += [(one.galleries[name], other.galleries[name]) for name in other.galleries]
        for (templates, subjects), before in lists:
            kept = [row for row in zip(*map(list, before), strict=True) if row[0] in there]
            assert list(zip(templates, subjects, strict=True)) == kept


@pytest.mark.parametrize('serialize', [True, False], ids=['serialized', 'as it is'])
@pytest.mark.parametrize('name', NAMES)
def test_every_way_to_a_part(make, name, serialize):
    whole = make(name, serialize_data=serialize)
    number = len(whole)
    cases = [
        (4, list(range(4))),
        (-3, list(range(number - 3, number))),
        ([number - 1, 0, -2, -number], [number - 1, 0, number - 2, 0]),
        (range(1, 5), [1, 2, 3, 4]),
    ]
    for indices, places in cases:
        part = whole.get_subset(indices)
        check_part(part, whole, places)
        assert isinstance(part.data_list, LazySamples) == (name in LAZY)
    check_part(make(name, serialize_data=serialize, indices=cases[2][0]), whole, cases[2][1])
    # Of a part of a part, and in place; the whole stays.
    inner = part.get_subset([3, 0])
    check_part(inner, whole, [4, 1])
    assert part.get_subset_([3, 0]) is None
    check_part(part, whole, [4, 1])
    assert len(whole) == number
    if isinstance(whole, IdentityDataset):
        assert inner.fingerprint == whole.fingerprint
        check_part(inner, whole, [4, 1])


@pytest.mark.parametrize('serialize', [True, False], ids=['serialized', 'as it is'])
@pytest.mark.parametrize('name', ['folder', 'mnist', 'bin', 'ijb', 'records'])
def test_ends(make, name, serialize):
    whole = make(name, serialize_data=serialize)
    number = len(whole)
    every = list(range(number))
    for indices, places in (
        (number, every),
        (-number, every),
        (0, []),
        ([], []),
        (np.array([1, -1]), [1, number - 1]),
        (torch.tensor([2, 0]), [2, 0]),
        (np.int64(2), [0, 1]),
        ((np.int32(1),), [1]),
    ):
        check_part(whole.get_subset(indices), whole, places)
    assert len(make(name, serialize_data=serialize, indices=[])) == 0
    assert whole.get_data_info(-number)['sample_idx'] == 0
    np.testing.assert_equal(whole.get_data_info(-1), whole.get_data_info(number - 1))
    for place in (number, -number - 1):
        with pytest.raises(IndexError, match=rf'{number} samples, got place {place}'):
            whole.get_data_info(place)
    for indices, message in (
        (number + 1, rf'indices must be in \[-{number}, {number}\], got {number + 1}'),
        (-number - 1, f'got {-number - 1}'),
        ([0, number], rf'places in indices must be in \[-{number}, {number}\), got {number}'),
        ([-number - 1], f'got {-number - 1}'),
        ([0.5], 'indices must be an integer or places, got'),
        ([True, False], 'indices must be an integer or places, got'),
        ('12', 'indices must be an integer or places, got 12'),
    ):
        with pytest.raises(ValueError, match=message):
            whole.get_subset(indices)
        with pytest.raises(ValueError, match=message):
            make(name, serialize_data=serialize, indices=indices)
    assert len(whole) == number


def test_places_of_numbers():
    assert resolve_indices(3, 5).tolist() == [0, 1, 2]
    assert resolve_indices(-2, 5).tolist() == [3, 4]
    assert resolve_indices(np.array([], float), 5).dtype == np.int64


@pytest.mark.parametrize('name', NAMES)
def test_folds(make, name, monkeypatch):
    whole, numbers = make(name), list(range(len(make(name))))
    start, end = len(whole) // 3, len(whole) * 2 // 3
    monkeypatch.setitem(DATASETS.module_dict, 'Made', lambda **kwargs: make(name, **kwargs))
    for seed, test_mode in ((None, True), (None, False), (1, True)):
        order = numbers.copy()
        if seed is not None:
            np.random.default_rng(seed).shuffle(order)
        places = order[start:end] if test_mode else order[:start] + order[end:]
        for lazy in (True, False):
            config = dict(type='mmarcface.Made', lazy_init=lazy, serialize_data=lazy)
            folds = KFoldDataset(config, 1, 3, test_mode, seed)
            assert whole.metainfo.get('classes') == folds.CLASSES
            assert folds.get_gt_labels().tolist() == whole.get_gt_labels()[places].tolist()
            assert folds.get_cat_ids(0) == [whole.get_gt_labels()[places[0]]]
            check_part(folds.dataset, whole, places)


@pytest.mark.parametrize('name', NAMES)
def test_wrappers(make, name):
    whole = make(name)
    labels, number = whole.get_gt_labels(), len(whole)
    lazy = make(name, lazy_init=True)
    twice = RepeatDataset(lazy, 2, lazy_init=True)
    # A wrapper asks for this before anything is loaded.
    assert set(twice.metainfo) == set(whole.metainfo)
    np.testing.assert_equal(infos(twice), infos(whole) * 2)
    counts = np.bincount(labels)[labels]
    balanced = ClassBalancedDataset(whole, 0.5)
    times = np.ceil(np.maximum(1, np.sqrt(0.5 / (counts / number)))).astype(int)
    assert balanced.repeat_indices == np.repeat(np.arange(number), times).tolist()
    part = whole.get_subset(2)
    if name not in (*WITH_PAIRS, 'ijb'):
        both = ConcatDataset([whole, part])
        np.testing.assert_equal(infos(both), infos(whole) + infos(part))
    else:
        with pytest.raises(ValueError, match=r'meta information of the 2-th dataset does not'):
            ConcatDataset([whole, part])


@pytest.mark.parametrize('name', NAMES)
def test_copies(make, name):
    whole = make(name)
    part = whole.get_subset([2, 0])
    for again in (copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        check_part(again, whole, [2, 0])
    again.get_subset_([])
    check_part(part, whole, [2, 0])


def test_subsets_share_nothing_that_changes(make):
    whole = make('view 2')
    one, other = whole.get_subset(3), whole.get_subset(3)
    one._metainfo['classes'] = None
    assert other.CLASSES == whole.CLASSES


@pytest.mark.parametrize('context', ['fork', 'forkserver'])
def test_workers_have_the_images_of_the_part(make, context):
    load = [LoadImageFromFile()]
    whole = [make(name, pipeline=load) for name in ('mnist', 'records', 'bin')]
    parts = [dataset.get_subset([4, 1]) for dataset in whole]
    both = torch.utils.data.ConcatDataset(parts)
    loader = DataLoader(both, None, num_workers=1, multiprocessing_context=context)
    images = [sample['img'] for sample in loader]
    expected = [dataset[place]['img'] for dataset in whole for place in (4, 1)]
    np.testing.assert_equal([np.asarray(image) for image in images], expected)


def test_a_part_has_figures_and_what_is_left_out_is_said(make, monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmarcface.datasets.formats.pairs.print_log', lambda text, _: said.append(text)
    )
    whole = make('view 2')
    part = whole.get_subset(np.arange(1, len(whole)))
    assert said == ['6 of 8 pairs are among the samples that are left']
    metric = VerificationMetric(far=(0.1,))
    for dataset, meta, fits in (
        (whole, whole.metainfo, True),
        (part, part.metainfo, True),
        (part, whole.metainfo, False),
    ):
        metric.dataset_meta = meta
        labels = torch.from_numpy(dataset.get_gt_labels())
        if fits:
            metric.check(labels, torch.ones_like(labels), [''] * len(labels))
        else:  # As of mmpretrain's KFoldDataset, which keeps those of the whole.
            with pytest.raises(ValueError, match='pairs must name samples of the data set'):
                metric.check(labels, torch.ones_like(labels), [''] * len(labels))


def test_metainfo_is_asked_for_while_loading(make):
    class Asking(MNIST):
        def load_data_list(self):
            assert self.CLASSES == self.metainfo['classes'] == tuple('0123456789')
            return super().load_data_list()

    assert len(Asking('test')) == 1000
