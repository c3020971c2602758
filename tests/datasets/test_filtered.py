"""Data sets of which a list chooses the samples."""

import copy
import csv
import logging
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmpretrain.datasets import CustomDataset
from torch.utils.data import DataLoader

from mmarcface.datasets import (
    LFW,
    MNIST,
    CelebA,
    FilteredDataset,
    HanGlyphs,
    IdentityFolder,
    IdentityRecords,
    InShop,
    LoadImageFromFile,
    NoisyLabels,
    ORLFaces,
    VerificationBin,
    labels_of,
)
from mmarcface.datasets.formats.keep_list import fingerprint_samples, write_keep_list
from mmarcface.datasets.sample_ids import fingerprint_of, path_id, sample_ids
from mmarcface.registry import DATASETS

from . import writers
from .test_han_glyphs import FONTS, LETTERS, needs_han

PEOPLE = {3: [b'a', b'b'], 8: [b'c'], 9: [b'd', b'e', b'f']}


@pytest.fixture
def root(orl, tmp_path):
    for person in ('s1', 's2', 's3'):
        shutil.copytree(orl / person, tmp_path / 'faces' / person)
    return tmp_path / 'faces'


def infos(dataset) -> list[dict]:
    return [dataset.get_data_info(place) for place in range(len(dataset))]


def keep(path, dataset, chosen, labels=None, fingerprint=None):
    """A list of some samples by place, in another order than the data set's."""
    names, own = sample_ids(dataset), labels_of(dataset)
    chosen = list(chosen)[::-1]
    labels = own[chosen] if labels is None else list(labels)[::-1]
    columns = dict(sample=[names[place] for place in chosen], label=labels)
    write_keep_list(path, columns, fingerprint or fingerprint_of(dataset))
    return str(path)


def folder(root, **kwargs) -> dict:
    return dict(type=IdentityFolder, data_root=str(root), **kwargs)


def check_filter(config, folder, relabel=True):
    """A list of a data set gives what a loop over all samples chooses."""
    whole = DATASETS.build(config)
    names, labels = sample_ids(whole), labels_of(whole)
    assert len(set(names)) == len(whole)
    assert fingerprint_of(whole) == fingerprint_samples(names, labels)
    # All but every third, with the first of each class.
    first = {label: place for place, label in reversed(list(enumerate(labels.tolist())))}
    chosen = sorted({p for p in range(len(whole)) if p % 3} | set(first.values()))
    new = labels[chosen].copy()
    if relabel:
        extra = next(i for i, place in enumerate(chosen) if place not in first.values())
        new[extra] = (new[extra] + 1) % len(first)
    for suffix in ('csv', 'parquet'):
        path = keep(folder / f'keep.{suffix}', whole, chosen, new)
        some = FilteredDataset(config, path)
        expected = [
            whole.get_data_info(place) | dict(gt_label=label, sample_id=names[place])
            for place, label in zip(chosen, new.tolist(), strict=True)
        ]
        for place, (info, wanted) in enumerate(zip(infos(some), expected, strict=True)):
            assert info.pop('sample_idx') == place
            wanted.pop('sample_idx')
            np.testing.assert_equal(info, wanted)
        assert some.get_gt_labels().tolist() == new.tolist()
        assert sample_ids(some) == [names[place] for place in chosen]
        assert some.fingerprint == fingerprint_of(whole)
        assert some.metainfo['classes'] == whole.metainfo['classes']
        part = FilteredDataset(config, path, indices=[2, 0])
        assert sample_ids(part) == [names[chosen[2]], names[chosen[0]]]
        assert part.fingerprint == fingerprint_of(whole)
    for unfiltered in (FilteredDataset(config), FilteredDataset(config, indices=3)):
        assert unfiltered.fingerprint == fingerprint_of(whole)
    return whole, some


def test_identity_folder(root, tmp_path):
    whole, some = check_filter(folder(root), tmp_path)
    assert sample_ids(whole)[:2] == ['s1/1.pgm', 's1/10.pgm']
    assert some.get_subset([1, 0]).fingerprint == whole.fingerprint
    assert IdentityFolder(str(root), indices=3).fingerprint == whole.fingerprint


def test_identity_records(tmp_path):
    path = writers.write_rec(tmp_path / 'train.rec', writers.insightface(PEOPLE))
    whole, some = check_filter(dict(type=IdentityRecords, path=path), tmp_path)
    assert sample_ids(whole) == [f'train.rec#{key}' for key in range(1, 7)]
    (tmp_path / 'elsewhere').mkdir()
    for name in ('train.rec', 'train.idx'):
        shutil.move(tmp_path / name, tmp_path / 'elsewhere' / name)
    config = dict(type=IdentityRecords, path=str(tmp_path / 'elsewhere/train.rec'))
    moved = FilteredDataset(config, some.filter_file)
    assert moved.get_gt_labels().tolist() == some.get_gt_labels().tolist()


def test_millions_of_records_are_shared_and_small(tmp_path):
    path = writers.write_rec(tmp_path / 'train.rec', writers.insightface(PEOPLE))
    config = dict(type=IdentityRecords, path=path)
    some = FilteredDataset(config, keep(tmp_path / 'keep.csv', DATASETS.build(config), [0, 2, 5]))
    samples = some.data_list
    # No dicts, and no bytes of them.
    assert not isinstance(samples, list)
    assert not isinstance(samples.dataset.data_list, list)
    assert not hasattr(some, 'data_bytes') or not len(some.data_bytes)
    assert samples.places.nbytes + samples.labels.nbytes == 16 * len(some)
    assert copy.deepcopy(samples) is samples


def test_mnist(tmp_path):
    whole, _ = check_filter(dict(type=MNIST), tmp_path)
    assert sample_ids(whole)[:2] == ['train/0', 'train/1']
    assert sample_ids(MNIST('test'))[0] == 'test/0'
    assert MNIST('test').fingerprint != whole.fingerprint


def test_glyphs(tmp_path):
    whole, _ = check_filter(
        dict(type=HanGlyphs, num_classes=10, renderings=8, fonts=FONTS, characters=LETTERS),
        tmp_path,
    )
    assert sample_ids(whole)[:2] == ['A/0', 'A/1']


@needs_han
def test_han(tmp_path):
    check_filter(dict(type=HanGlyphs, num_classes=5, renderings=4), tmp_path)


def test_inshop(inshop, tmp_path):
    whole, _ = check_filter(dict(type=InShop, data_root=str(inshop)), tmp_path)
    assert sample_ids(whole)[0] == 'Img/img/s1/1.jpg'


def test_celeba_and_lfw(orl, tmp_path):
    faces = writers.photographs(orl, 4, 3)
    writers.celeba(tmp_path / 'celeba', faces)
    whole, _ = check_filter(dict(type=CelebA, data_root=str(tmp_path / 'celeba')), tmp_path)
    assert sample_ids(whole)[0] == 'img_align_celeba/000001.jpg'
    writers.lfw(tmp_path / 'lfw', faces)
    lfw = dict(type=LFW, data_root=str(tmp_path / 'lfw'))
    people, _ = check_filter(lfw | dict(split='people'), tmp_path)
    assert sample_ids(people)[0] == 'lfw/s1/s1_0001.jpg'
    path = keep(tmp_path / 'keep.csv', DATASETS.build(lfw), range(3))
    with pytest.raises(ValueError, match=r'filter_file must be None where there are pairs, .*LFW'):
        FilteredDataset(lfw, path)
    pairs = writers.write_bin(tmp_path / 'a.bin', ([b'a', b'b'], [False]))
    with pytest.raises(ValueError, match=r'filter_file must be None where there are pairs'):
        FilteredDataset(dict(type=VerificationBin, path=pairs, num_folds=1), filter_file=path)


def test_lists_and_fingerprints_from_before_this_class_took_the_lists():
    orl = dict(type=ORLFaces, people=[3, 5, 7])
    noisy = dict(type=NoisyLabels, dataset=orl, symmetric=0.2, asymmetric=0.1, seed=3)
    for config, fingerprint in (
        (orl, '96ee9e0d67242c7e'),
        (noisy, 'cd6523243a7b1bd5'),
        (dict(type=MNIST), '216aec8518a28f20'),
        (dict(type=FilteredDataset, dataset=dict(type=MNIST, split='test')), '8955c565a5b0a986'),
    ):
        assert fingerprint_of(DATASETS.build(config)) == fingerprint
    path = Path(__file__).with_name('noisy_orl_keep_list.csv')
    some = FilteredDataset(noisy, str(path))
    with open(path, newline='') as file:
        rows = {row['sample']: int(row['label']) for row in csv.DictReader(file)}
    assert {info['sample_id']: info['gt_label'] for info in infos(some)} == rows
    assert len(rows) == 20


def test_a_list_given_to_a_data_set_itself(root):
    message = r"IdentityFolder takes no filter_file: wrap it, .*FilteredDataset', filter_file='a.cs"
    with pytest.raises(ValueError, match=message):
        IdentityFolder(str(root), filter_file='a.csv')


def test_moved_and_reshuffled(root, tmp_path, monkeypatch):
    whole = IdentityFolder(str(root))
    path = keep(tmp_path / 'keep.csv', whole, range(0, 30, 2))
    expected = sample_ids(FilteredDataset(folder(root), path))

    class Reshuffled(IdentityFolder):
        def load_data_list(self):
            return super().load_data_list()[::-1]

    moved = shutil.move(root, tmp_path / 'a #1 b')
    assert sample_ids(FilteredDataset(folder(moved), path)) == expected
    turned = folder(moved) | dict(type=Reshuffled)
    assert sample_ids(FilteredDataset(turned, path)) == expected[::-1]
    monkeypatch.chdir(moved)
    for here in ('.', './', '../a #1 b/', '../a #1 b//s1/..'):
        assert sample_ids(FilteredDataset(folder(here), path)) == expected


def test_workers(root, tmp_path):
    whole = IdentityFolder(str(root))
    path = keep(tmp_path / 'keep.csv', whole, range(0, 30, 2))
    config = dict(type=CustomDataset, data_prefix=str(root), extensions=['.pgm'])
    path2 = keep(tmp_path / 'keep2.csv', FilteredDataset(config), range(0, 30, 2))
    for dataset in (
        FilteredDataset(folder(root), path, pipeline=[LoadImageFromFile()]),
        FilteredDataset(config, filter_file=path2, pipeline=[LoadImageFromFile()]),
    ):
        again = pickle.loads(pickle.dumps(dataset))
        loader = DataLoader(again, 4, num_workers=1, collate_fn=list)
        found = [sample for batch in loader for sample in batch]
        assert [sample['img_path'] for sample in found] == [
            info['img_path'] for info in infos(dataset)
        ]
        assert all(sample['img'].shape == (112, 92, 3) for sample in found)


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    found = []

    def print_log(message, logger, level):
        assert (logger, level) == ('current', logging.WARNING)
        found.append(message)

    monkeypatch.setattr('mmarcface.datasets.filtered_dataset.print_log', print_log)
    return found


def mismatch(root, path, warnings, *messages, left):
    with pytest.raises(ValueError, match=messages[0]) as caught:
        FilteredDataset(folder(root), path)
    assert str(path) in str(caught.value)
    assert "filter_mismatch='report'" in str(caught.value)
    assert warnings == []
    some = FilteredDataset(folder(root), path, 'report')
    assert len(warnings) == len(messages)
    for warning, message in zip(warnings, messages, strict=True):
        assert re.search(message, warning)
    assert len(some) == left
    assert some.metainfo['classes'] == ('s1', 's2', 's3')


def test_list_of_the_same_files_with_other_labels(root, tmp_path, warnings):
    other = IdentityFolder(str(root), identities=['s2', 's1', 's3'])
    path = keep(tmp_path / 'keep.csv', other, range(30))
    here, there = IdentityFolder(str(root)).fingerprint, other.fingerprint
    message = rf'other samples or labels: .* {there}, .*IdentityFolder, of 30 .* {here}; all its 30'
    mismatch(root, path, warnings, message, left=30)


def test_list_of_more_samples(root, tmp_path, warnings):
    path = keep(tmp_path / 'keep.parquet', IdentityFolder(str(root)), range(30))
    (root / 's2' / '3.pgm').unlink()
    messages = (
        r"other samples or labels.*; 1 of its 30 samples are not in .*, the first is 's2/3.pgm'",
        r"must name samples of the data set: 1 of its 30 .*'s2/3.pgm'",
    )
    mismatch(root, path, warnings, *messages, left=29)


def test_unknown_names(root, tmp_path, warnings):
    whole = IdentityFolder(str(root))
    columns = dict(sample=[*sample_ids(whole), 'x', 'y'], label=[*whole.get_gt_labels(), 99, 0])
    write_keep_list(tmp_path / 'keep.csv', columns, whole.fingerprint)
    message = r"must name samples of the data set: 2 of its 32 samples are not in .*first is 'x'"
    mismatch(root, str(tmp_path / 'keep.csv'), warnings, message, left=30)


@pytest.mark.parametrize('relabeled', [False, True])
def test_emptied_class(root, tmp_path, warnings, relabeled):
    chosen = [0, 1, 20, *([10] if relabeled else [])]
    labels = [0, 0, 2, *([2] if relabeled else [])]
    path = keep(tmp_path / 'keep.csv', IdentityFolder(str(root)), chosen, labels)
    message = r'must leave samples in each class: it empties 1 of 3, the first is 1 \(s2\)'
    mismatch(root, path, warnings, message, left=len(chosen))


@pytest.mark.parametrize('label', [-1, 3])
def test_label_that_is_no_class(root, tmp_path, label):
    path = keep(tmp_path / 'keep.csv', IdentityFolder(str(root)), [0, 1], [0, label])
    for how in ('refuse', 'report'):
        message = rf"keep.csv: labels must be in \[0, 3\).* got {label} for sample 's1/10.pgm'"
        with pytest.raises(ValueError, match=message):
            FilteredDataset(folder(root), path, how)


def test_nothing_is_left(root, tmp_path):
    write_keep_list(tmp_path / 'keep.csv', dict(sample=['x'], label=[0]), 'abc')
    path = str(tmp_path / 'keep.csv')
    with pytest.raises(ValueError, match=r"1 of its 1 samples are not in .* the first is 'x'"):
        FilteredDataset(folder(root), path)
    with pytest.raises(ValueError, match=r'keep.csv keeps nothing of this IdentityFolder.* 30 sa'):
        FilteredDataset(folder(root), path, 'report')


def test_wrong_arguments(root):
    with pytest.raises(ValueError, match=r"filter_mismatch must be one of .* got 'ignore'"):
        FilteredDataset(folder(root), filter_mismatch='ignore')
    with pytest.raises(FileNotFoundError, match=r'keep-list gone.csv does not exist'):
        FilteredDataset(folder(root), 'gone.csv')


def test_same_name_twice(root, tmp_path):
    class Doubled(IdentityFolder):
        def load_data_list(self):
            return super().load_data_list() * 2

    path = keep(tmp_path / 'keep.csv', IdentityFolder(str(root)), range(30))
    message = r"names of samples must differ, got 's1/1.pgm' at places 0 and 30"
    for ask in (sample_ids, fingerprint_of):
        with pytest.raises(ValueError, match=message):
            ask(Doubled(str(root)))
    with pytest.raises(ValueError, match=message):
        FilteredDataset(folder(root) | dict(type=Doubled), path)


def custom(**kwargs):
    return dict(type='CustomDataset', extensions=['.pgm'], _scope_='mmpretrain', **kwargs)


def test_custom_dataset(root, tmp_path):
    config = custom(data_prefix=str(root), pipeline=[dict(type='LoadImageFromFile')])
    foreign, some = check_filter(config, tmp_path)
    assert some.metainfo['classes'] == ('s1', 's2', 's3')
    assert set(sample_ids(foreign)) == set(sample_ids(IdentityFolder(str(root))))
    moved = shutil.move(root, tmp_path / 'moved')
    again = FilteredDataset(custom(data_root=str(moved)), filter_file=some.filter_file)
    assert sample_ids(again) == sample_ids(some)
    renamed = FilteredDataset(custom(data_root=str(moved)), classes=['a', 'b', 'c'])
    assert renamed.metainfo['classes'] == ('a', 'b', 'c')


def test_names_without_a_root(root, tmp_path):
    def annotated(folder):
        lines = [f'{path} {path.parent.name[1:]}' for path in sorted(folder.glob('s[12]/*.pgm'))]
        (tmp_path / 'list.txt').write_text('\n'.join(lines))
        return CustomDataset(ann_file=str(tmp_path / 'list.txt'))

    names = sample_ids(annotated(root))
    assert names[:2] == ['s1/1.pgm', 's1/10.pgm']
    moved = shutil.copytree(root, tmp_path / 'deeper' / 'moved')
    assert sample_ids(annotated(moved)) == names


def test_wrappers(root):
    whole = IdentityFolder(str(root))
    names = sample_ids(whole)
    other = CustomDataset(data_prefix=str(root), extensions=['.pgm'])
    both = ConcatDataset([whole, other, MNIST()], ignore_keys=['classes'])
    assert sample_ids(both) == [
        *(f'0/{name}' for name in names),
        *(f'1/{name}' for name in sample_ids(other)),
        *(f'2/train/{row}' for row in range(4000)),
    ]
    assert labels_of(both).tolist() == [
        label for part in (whole, other, MNIST()) for label in labels_of(part)
    ]
    assert fingerprint_of(both) != whole.fingerprint
    assert sample_ids(RepeatDataset(whole, 1)) == names
    for repeated in (RepeatDataset(whole, 2), ClassBalancedDataset(whole, 0.9)):
        with pytest.raises(ValueError, match=r"'s1/1.pgm' at places .* purify the data set inside"):
            fingerprint_of(repeated)


def test_filtered_concatenation(root, tmp_path):
    config = dict(type=ConcatDataset, datasets=[folder(root), folder(root)])
    check_filter(config, tmp_path)


class Plain:
    """Samples that name no files."""

    metainfo = {}

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def get_data_info(self, place):
        return self.samples[place]


def test_what_cannot_be_named():
    with pytest.raises(ValueError, match='that at place 0 of Plain has img, gt_label'):
        sample_ids(Plain(dict(img=None, gt_label=1)))
    with pytest.raises(ValueError, match='dataset must have get_data_info, got list'):
        sample_ids([1, 2])
    for label in (None, [1, 2], 0.5):
        with pytest.raises(ValueError, match=r'gt_label must be an integer in Plain, .* place 0'):
            fingerprint_of(Plain(dict(sample_id='a', gt_label=label)))
    assert sample_ids(Plain(dict(sample_id='a'), dict(img_path='/x/b/c'))) == ['a', 'c']
    inside = dict(img_path='rec:///data/train.rec#17')
    assert sample_ids(Plain(inside, dict(img_path='/x/b'))) == ['train.rec#17', 'b']


@pytest.mark.parametrize(
    ('path', 'roots', 'name'),
    [
        ('/data/a/b.png', ['/data'], 'a/b.png'),
        ('/data/a/b.png', ['/data/'], 'a/b.png'),
        ('/data/a/b.png', ['/other', '/data/a'], 'b.png'),
        ('/database/b.png', ['/data'], '/database/b.png'),
        ('data/./a//b.png', ['data'], 'a/b.png'),
        ('data/../data/b.png', ['./data'], 'b.png'),
        ('b.png', ['.'], 'b.png'),
        ('bin:///data/lfw.bin#3', ['/data'], 'lfw.bin#3'),
        ('rec://a #1/train.rec#3', [], 'train.rec#3'),
    ],
)
def test_path_name(path, roots, name):
    assert path_id(path, roots) == name
