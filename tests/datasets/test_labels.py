"""The labels of data sets, of their wrappers and of samples."""

import numpy as np
import pytest
from torch.utils.data import ConcatDataset, Subset

from mmarcface.datasets import FilteredDataset, ORLFaces, labels_of
from mmarcface.datasets.labels import num_classes_of

from .test_wrappers import CONFIGS, INSIDE, build

TWO_PEOPLE = [0] * 10 + [1] * 10


@pytest.mark.parametrize('name', CONFIGS)
def test_labels_are_those_of_the_samples(name):
    dataset = build(CONFIGS[name])
    labels = labels_of(dataset)
    assert labels.dtype == np.int64
    assert labels.tolist() == [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]


def test_wrappers_of_torch():
    dataset = build(INSIDE)
    assert labels_of(Subset(dataset, [19, 0])).tolist() == [1, 0]
    joined = ConcatDataset([dataset, Subset(dataset, [3])])
    assert labels_of(joined).tolist() == [*TWO_PEOPLE, 0]
    lazy = FilteredDataset(dict(INSIDE, pipeline=[]))
    assert labels_of(Subset(lazy, [10, 9])).tolist() == [1, 0]


def test_a_data_set_that_has_not_loaded_its_samples():
    lazy = ORLFaces(people=[1, 2], lazy_init=True)
    assert labels_of(lazy).tolist() == TWO_PEOPLE
    filtered = FilteredDataset(dict(INSIDE, pipeline=[]), lazy_init=True)
    assert labels_of(filtered).tolist() == TWO_PEOPLE


def test_samples():
    assert labels_of([dict(gt_label=3), dict(gt_label=np.int32(1))]).tolist() == [3, 1]
    assert labels_of([]).tolist() == []
    assert labels_of(FilteredDataset(dict(INSIDE, pipeline=[])).data_list).tolist() == TWO_PEOPLE
    for wrong in (dict(), dict(gt_label=[1, 2]), dict(gt_label=0.5), dict(gt_label='1')):
        with pytest.raises(
            ValueError, match=r'gt_label must be an integer in list, got .* place 1'
        ):
            labels_of([dict(gt_label=0), wrong])


def test_number_of_classes():
    assert num_classes_of(dict(classes=('a', 'b', 'c')), np.array([0, 1])) == 3
    assert num_classes_of(dict(classes=('a',)), np.array([0, 4])) == 5
    assert num_classes_of({}, np.array([], int)) == 0
