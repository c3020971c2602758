"""What labels mean, in every kind of training set, and how that is compared."""

import re
import shutil

import cv2
import numpy as np
import pytest
import torch.utils.data
from mmengine.registry import DefaultScope

from mmarcface.datasets import IdentityFolder, InShop
from mmarcface.datasets.class_names import class_mismatch, class_names
from mmarcface.registry import DATASETS

NAMES = ['ben', 'carl', 'dora']


def people(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(folder / name / f'{number}.png'), np.zeros((4, 4), np.uint8))


@pytest.fixture
def faces(tmp_path):
    people(tmp_path / 'faces', NAMES)
    people(tmp_path / 'others', NAMES)
    return tmp_path / 'faces'


def folder(path, **more):
    return dict(type='mmarcface.IdentityFolder', data_root=str(path), serialize_data=False, **more)


def custom(path):
    return dict(type='CustomDataset', data_prefix=str(path), serialize_data=False)


def concat(*parts):
    return dict(type='ConcatDataset', datasets=list(parts), ignore_keys='classes')


# Each of a folder that may change, and of one that stays.
KINDS = {
    'plain': lambda path, _: folder(path),
    "mmpretrain's": lambda path, _: custom(path),
    'repeated': lambda path, _: dict(type='RepeatDataset', times=2, dataset=folder(path)),
    'initialized later': lambda path, _: dict(
        type='RepeatDataset', times=2, dataset=folder(path, lazy_init=True)
    ),
    'balanced': lambda path, _: dict(
        type='ClassBalancedDataset', oversample_thr=0.1, dataset=custom(path)
    ),
    'fold': lambda path, _: dict(
        type='KFoldDataset', num_splits=2, fold=0, seed=0, dataset=folder(path)
    ),
    'first of two': lambda path, stays: concat(folder(path), folder(stays)),
    'second of two': lambda path, stays: concat(folder(stays), folder(path)),
    'in wrappers of wrappers': lambda path, stays: dict(
        type='RepeatDataset', times=2, dataset=concat(folder(stays), folder(path))
    ),
    'filtered': lambda path, _: dict(type='mmarcface.FilteredDataset', dataset=custom(path)),
    'filtered second of two': lambda path, stays: dict(
        type='mmarcface.FilteredDataset', dataset=concat(folder(stays), folder(path))
    ),
    'noisy': lambda path, _: dict(type='mmarcface.NoisyLabels', dataset=folder(path)),
}


def build(config):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(config)


def add_first(faces):
    people(faces, ['anna'])
    return 'label 0 was .*ben.* and is .*anna.* .3 classes then, 4 now'


def add_last(faces):
    people(faces, ['emil'])
    return r"label 3 was no class and is 'emil' .3 classes then, 4 now"


def remove(faces):
    shutil.rmtree(faces / 'carl')
    return 'label 1 was .*carl.* and is .*dora.* .3 classes then, '


def rename(faces):
    (faces / 'dora').rename(faces / 'dorothy')
    return 'label 2 was .*dora.* and is .*dorothy.* .3 classes then, 3 now'


@pytest.mark.parametrize('change', [add_first, add_last, remove, rename])
@pytest.mark.parametrize('kind', KINDS)
def test_a_change_of_folders_is_found(faces, kind, change):
    config = KINDS[kind](faces, faces.with_name('others'))
    before = class_names(build(config))
    assert before == NAMES
    assert class_mismatch(dict(class_names=before), build(config)) is None
    expected = change(faces)
    found = class_mismatch(dict(class_names=before), build(config))
    assert found is not None
    assert re.search(expected, found)


def test_wrappers_of_torch(faces):
    part = torch.utils.data.Subset(IdentityFolder(str(faces)), [0, 1])
    assert class_names(part) == NAMES
    both = torch.utils.data.ConcatDataset([part, IdentityFolder(str(faces))])
    assert class_names(both) == NAMES
    assert class_names(torch.utils.data.TensorDataset(torch.ones(2))) is None


def test_a_wrapper_with_names_of_its_own_keeps_them(faces):
    class Joined(torch.utils.data.ConcatDataset):
        metainfo = dict(classes=[*NAMES, *NAMES])

    assert class_names(Joined([IdentityFolder(str(faces))] * 2)) == [*NAMES, *NAMES]


def test_two_names_of_a_label_are_both_kept_in_any_order(tmp_path):
    people(tmp_path / 'one', ['ben', 'carl'])
    people(tmp_path / 'two', ['ben', 'xaver', 'yves'])
    parts = folder(tmp_path / 'one'), folder(tmp_path / 'two')
    names = class_names(build(concat(*parts)))
    assert names == class_names(build(concat(*parts[::-1]))) == ['ben', 'carl / xaver', 'yves']


def test_checkpoints_of_mmengine(faces):
    """They note the names of the first part, in the type that the data set has."""
    dataset = build(
        concat(folder(faces), folder(faces.with_name('others'), identities=NAMES[::-1]))
    )
    meta = dict(dataset_meta=dataset.metainfo)
    assert class_names(dataset) != list(meta['dataset_meta']['classes'])
    assert class_mismatch(meta, dataset) is None
    meta['dataset_meta']['classes'] = ['anna', *NAMES]
    assert class_mismatch(meta, dataset).startswith("label 0 was 'anna' and is 'ben' (4 classes")
    for unknown in ({}, dict(dataset_meta=None), dict(dataset_meta={}), dict(class_names=None)):
        assert class_mismatch(unknown, dataset) is None


def test_a_test_set_may_lack_the_last_classes(faces):
    few = IdentityFolder(str(faces), identities=NAMES[:2])
    meta = dict(class_names=NAMES)
    assert class_mismatch(meta, few, allow_fewer=True) is None
    assert "label 2 was 'dora' and is no class" in class_mismatch(meta, few)
    other = IdentityFolder(str(faces), identities=NAMES[1:])
    assert "label 0 was 'ben' and is 'carl'" in class_mismatch(meta, other, allow_fewer=True)


@pytest.mark.parametrize(
    ('split', 'items'), [('train', range(1, 9)), ('gallery', range(9, 15)), ('test', range(9, 15))]
)
def test_items_of_inshop(inshop, split, items):
    dataset = InShop(str(inshop), split=split)
    assert class_names(dataset) == [f'id_{number:08d}' for number in items]
    for sample in map(dataset.get_data_info, range(len(dataset))):
        person = int(sample['img_path'].split('/s')[-1].split('/')[0])
        assert dataset.CLASSES[sample['gt_label']] == f'id_{person:08d}'
