"""Noise against counts and a plain loop."""

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmarcface.datasets import MNIST, FilteredDataset, LoadImageFromFile, NoisyLabels
from mmarcface.datasets.formats.keep_list import write_keep_list
from mmarcface.datasets.sample_ids import fingerprint_of, sample_ids
from mmarcface.registry import DATASETS

CLEAN = dict(type='mmarcface.MNIST')
STRANGERS = dict(type='mmarcface.MNIST', split='test')


@DATASETS.register_module()
class Numbered(MNIST):
    """A few samples without files: ``per_class`` of each class, named by number."""

    def __init__(self, per_class=4, num_classes=3, start=0, turned=False, **kwargs):
        self.spec = per_class, num_classes, start, turned
        # Serializing collects garbage, which takes long in a large program.
        super().__init__(serialize_data=False, **kwargs)

    def load_data_list(self):
        per_class, num_classes, start, turned = self.spec
        self._metainfo['classes'] = tuple(map(str, range(num_classes)))
        samples = [
            dict(row=start + place, gt_label=place % num_classes)
            for place in range(per_class * num_classes)
        ]
        return samples[::-1] if turned else samples

    def get_data_info(self, idx):
        return super(MNIST, self).get_data_info(idx)


def numbered(**kwargs):
    return dict(type=Numbered, **kwargs)


@pytest.fixture(scope='module', autouse=True)
def unregister():
    yield
    DATASETS.module_dict.pop('Numbered')


def infos(dataset):
    return [dataset.get_data_info(place) for place in range(len(dataset))]


RATES = st.tuples(*[st.floats(0, 1)] * 3).map(
    lambda rates: tuple(rate / max(1, sum(rates)) for rate in rates)
)


@settings(max_examples=60, deadline=None)
@given(RATES, st.integers(1, 8), st.integers(2, 5), st.integers(0, 2**40))
def test_counts(rates, per_class, num_classes, seed):
    symmetric, asymmetric, open_set = rates
    clean = numbered(per_class=per_class, num_classes=num_classes)
    dataset = NoisyLabels(
        clean, *rates, numbered(per_class=60, start=1000) if open_set else None, seed=seed
    )
    total = per_class * num_classes
    samples = infos(dataset)
    assert len(samples) == total
    strangers = [s for s in samples if s['true_label'] == -1]
    wrong = [s for s in samples if s['true_label'] not in (-1, s['gt_label'])]
    flips = [round(symmetric * total), round(asymmetric * total)]
    flips[1] = min(flips[1], total - flips[0])
    assert len(wrong) == sum(flips)
    assert len(strangers) == min(round(open_set * total), total - sum(flips))
    rows = [s['row'] for s in strangers]
    assert len(set(rows)) == len(rows)
    assert all(row >= 1000 for row in rows)
    for place, sample in enumerate(samples):
        assert sample['sample_id'] == f'train/{place}'
        assert sample['sample_idx'] == place
        if sample['true_label'] >= 0:
            assert sample['row'] == place
            assert sample['true_label'] == place % num_classes
        else:
            assert sample['gt_label'] == place % num_classes
        assert 0 <= sample['gt_label'] < num_classes
    next_class = sum((s['true_label'] + 1) % num_classes == s['gt_label'] for s in wrong)
    assert next_class >= flips[1]
    assert len(sample_ids(dataset)) == total


def test_order_does_not_matter():
    rates = dict(symmetric=0.3, asymmetric=0.2, open_set=0.3)
    found = []
    for turned in (False, True):
        dataset = NoisyLabels(
            numbered(per_class=20, turned=turned),
            strangers=numbered(start=1000, per_class=20, turned=turned),
            **rates,
        )
        samples = infos(dataset)
        for sample in samples:
            del sample['sample_idx']
        found.append(sorted(samples, key=lambda sample: sample['sample_id']))
    assert found[0] == found[1]


def test_seed():
    def labels(**kwargs):
        return NoisyLabels(numbered(per_class=50), 0.4, **kwargs).get_gt_labels().tolist()

    assert labels() == labels(seed=0)
    assert labels(seed=1) != labels()


def test_symmetric_noise_is_uniform():
    samples = infos(NoisyLabels(numbered(per_class=2500, num_classes=4), 0.6))
    counts = Counter((s['true_label'], s['gt_label']) for s in samples)
    for label in range(4):
        flipped = sum(counts[label, other] for other in range(4) if other != label)
        # Binomial: four standard deviations.
        assert abs(flipped - 1500) < 4 * np.sqrt(2500 * 0.6 * 0.4)
        for other in range(4):
            if other != label:
                assert abs(counts[label, other] - 500) < 4 * np.sqrt(1500 * 2 / 9) + 50


@pytest.mark.parametrize('mapping', [{0: 2, 1: 2, 2: 0}, (2, 2, 0)])
def test_mapping(mapping):
    samples = infos(NoisyLabels(numbered(), asymmetric=1.0, mapping=mapping))
    assert [s['gt_label'] for s in samples] == [[2, 2, 0][s['true_label']] for s in samples]


def test_mnist_with_images_of_strangers():
    pipeline = [lambda sample: sample]
    dataset = NoisyLabels(CLEAN, 0.1, 0.1, 0.1, strangers=STRANGERS, pipeline=pipeline)
    clean, strangers = MNIST(), MNIST('test')
    assert dataset.metainfo['classes'] == clean.metainfo['classes']
    number = 0
    for place in range(0, len(dataset), 7):
        sample = dataset[place]
        stranger = sample['true_label'] == -1
        number += stranger
        source = strangers.get_data_info(sample['row']) if stranger else clean.get_data_info(place)
        assert (sample['img'] == source['img']).all()
        assert sample['sample_id'] == f'train/{place}'
    assert number > 20


def test_real_photographs(orl):
    config = dict(type='mmarcface.ORLFaces', people=[1, 2, 3])
    strangers = dict(type='mmarcface.ORLFaces', people=[4, 5])
    dataset = NoisyLabels(
        config, 0.2, open_set=0.5, strangers=strangers, pipeline=[LoadImageFromFile()]
    )
    again = pickle.loads(pickle.dumps(dataset))
    for place in range(30):
        sample = again[place]
        assert sample['img'].shape == (112, 92, 3)
        person = sample['img_path'].split('/')[-2]
        assert (person in ('s4', 's5')) == (sample['true_label'] == -1)
    assert sample_ids(dataset) == sample_ids(DATASETS.build(config))


def test_only_the_given_label_is_packed(orl):
    config = dict(type='mmarcface.ORLFaces', people=[1, 2, 3])
    pipeline = [LoadImageFromFile(), dict(type='PackInputs')]
    dataset = NoisyLabels(config, asymmetric=1.0, pipeline=pipeline)
    packed = dataset[0]['data_samples']
    assert packed.gt_label.item() == dataset.get_data_info(0)['gt_label'] == 1
    assert 'true_label' not in packed.metainfo | dict(packed.items())


def test_a_list_for_noisy_labels(tmp_path):
    arguments = dict(dataset=numbered(), symmetric=0.4)
    noisy = NoisyLabels(**arguments)
    good = [s for s in infos(noisy) if s['true_label'] == s['gt_label']]
    columns = dict(sample=[s['sample_id'] for s in good], label=[s['gt_label'] for s in good])
    path = str(tmp_path / 'keep.csv')
    write_keep_list(path, columns, fingerprint_of(noisy))
    config = dict(type=NoisyLabels, **arguments)
    kept = FilteredDataset(config, path)
    assert kept.fingerprint == noisy.fingerprint
    for sample, wanted in zip(infos(kept), good, strict=True):
        del sample['sample_idx'], wanted['sample_idx']
        assert sample == wanted
    assert all(s['true_label'] == s['gt_label'] for s in infos(kept.get_subset(3)))
    for other in (NoisyLabels(**arguments, seed=1), FilteredDataset(numbered())):
        assert fingerprint_of(other) != noisy.fingerprint
    with pytest.raises(ValueError, match='was made for a data set of other samples or labels'):
        FilteredDataset(config | dict(seed=1), path)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(seed=0.5), 'seed must be a whole number, got 0.5'),
        (dict(symmetric='0.1'), r"symmetric must be a finite number in .* got '0.1'"),
        (dict(symmetric=-0.1), r'symmetric must be in \[0, 1\], got -0.1'),
        (dict(asymmetric=1.1), r'asymmetric must be in \[0, 1\], got 1.1'),
        (dict(open_set=float('nan')), r'open_set must be a finite number in \[0, 1\], got nan'),
        (dict(symmetric=0.6, asymmetric=0.5), "must be at most 1 together, got .*'asymmetric'"),
        (dict(open_set=0.5), 'strangers must be given if .* got none with open_set=0.5'),
        (dict(strangers=STRANGERS), 'strangers must be given if .* got some with open_set=0'),
        (
            dict(open_set=0.5, strangers=numbered(per_class=1)),
            'strangers must have 6 samples, as open_set=0.5 asks for, got 3',
        ),
        (dict(asymmetric=0.5, mapping={0: 1, 1: 2}), 'each class from 0 to 2, got 2, 0 to 1'),
        (dict(asymmetric=0.5, mapping=[]), 'each class from 0 to 2, got 0, None to None'),
        (dict(asymmetric=0.5, mapping=[1, 2, 0, 0]), 'each class from 0 to 2, got 4, 0 to 3'),
        (dict(asymmetric=0.5, mapping=[1, 1, 0]), r'mapping\[1\] must be another class, got 1'),
        (dict(asymmetric=0.5, mapping=[1, 3, 0]), r'mapping\[1\] must be another class, got 3'),
        (
            dict(dataset=numbered(num_classes=1), symmetric=0.5),
            'dataset must have 2 classes or more to confuse, got 1',
        ),
        (
            dict(dataset=dict(type='RepeatDataset', dataset=numbered(), times=2), symmetric=0.5),
            "names of samples must differ, got 'train/0' at places 0 and 12",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoisyLabels(**dict(dataset=numbered()) | arguments)


def test_rates_that_add_up_to_one():
    dataset = NoisyLabels(
        numbered(per_class=10), 0.7, 0.1, 0.2, strangers=numbered(start=1000, per_class=10)
    )
    assert all(s['true_label'] != s['gt_label'] for s in infos(dataset))
    # Both rates are rounded up, and there are three samples only.
    samples = infos(NoisyLabels(numbered(per_class=1), 0.5, 0.5))
    assert all(s['true_label'] != s['gt_label'] for s in samples)
