"""What metrics know of a data set must fit the samples that arrive, whoever runs them."""

import cv2
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset, pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmarcface.datasets import LFW, FilteredDataset, InShop, ProbesAndGallery, VerificationSets
from mmarcface.datasets.formats.pairs import make_pairs, write_pairs
from mmarcface.evaluation import (
    IdentificationMetric,
    RetrievalMetric,
    TemplateVerificationMetric,
    VerificationMetric,
)
from mmarcface.evaluation.metrics import embedding_metric

from .test_metrics import as_samples, embeddings, evaluate
from .test_template import metric_of, photographs, samples_of

LOST = dict(type='PackInputs')
KEPT = dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'role'))
FIELDS = dict(type='PackInputs', meta_keys=('sample_idx',), algorithm_keys=('role',))


def pipeline(pack):
    return [dict(type='LoadImageFromFile'), pack]


@pytest.fixture(autouse=True)
def in_scope_of_mmpretrain():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def probes_and_gallery(inshop, pack, **options):
    part = dict(type='mmarcface.IdentityFolder', data_root=str(inshop / 'Img' / 'img'))
    return ProbesAndGallery(part, part, pipeline=pipeline(pack), **options)


def in_shop(inshop, pack, **options):
    return InShop(str(inshop), **dict(split='test') | options, pipeline=pipeline(pack))


def filtered(inshop, pack):
    part = dict(type='mmarcface.InShop', data_root=str(inshop), split='test')
    return FilteredDataset(part, pipeline=pipeline(pack))


def once(inshop, pack, **options):
    return RepeatDataset(in_shop(inshop, pack, **options), times=1)


def alone(inshop, pack, **options):
    return ConcatDataset([in_shop(inshop, pack, **options)])


class Embedder(BaseModel):
    """The mean of each channel as embedding."""

    def forward(self, inputs, data_samples, mode):
        for image, sample in zip(inputs, data_samples, strict=True):
            sample.embedding = image.float().mean((1, 2)) - 127.5
        return data_samples


def by_hand(dataset, metric):
    metric.dataset_meta = dataset.metainfo
    for place in range(len(dataset)):
        packed = dataset[place]
        (sample,) = Embedder()([packed['inputs']], [packed['data_samples']], 'predict')
        metric.process(None, [sample.to_dict()])
    return metric.evaluate(len(dataset))


def by_runner(dataset, metric, tmp_path):
    runner = Runner(
        Embedder(),
        str(tmp_path / 'work'),
        test_dataloader=DataLoader(dataset, 4, collate_fn=pseudo_collate),
        test_cfg=dict(),
        test_evaluator=Evaluator(metric),
        default_scope='mmpretrain',
        experiment_name=f'{tmp_path.name}{id(dataset)}',
    )
    return runner.test()


@pytest.mark.parametrize(
    'data_set', [in_shop, probes_and_gallery, filtered, once, alone], ids=lambda f: f.__name__
)
@pytest.mark.parametrize('metric', [RetrievalMetric, IdentificationMetric])
def test_lost_roles_are_refused(data_set, metric, inshop):
    with pytest.raises(ValueError, match=r'sample 0 arrives without: .* meta_keys of PackInputs'):
        by_hand(data_set(inshop, LOST), metric())
    expected = by_hand(data_set(inshop, KEPT), metric())
    assert expected
    assert by_hand(data_set(inshop, FIELDS), metric()) == expected


@pytest.mark.parametrize('lazy', [in_shop, once, alone], ids=lambda f: f.__name__)
def test_data_sets_that_load_late_have_roles_too(lazy, inshop):
    with pytest.raises(ValueError, match='arrives without'):
        by_hand(lazy(inshop, LOST, lazy_init=True), RetrievalMetric())


def test_a_plain_runner_refuses_at_the_first_batch(inshop, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Embedder, 'forward', lambda *a, f=Embedder.forward, **k: seen.append(1) or f(*a, **k)
    )
    with pytest.raises(ValueError, match='arrives without'):
        by_runner(in_shop(inshop, LOST), RetrievalMetric(), tmp_path)
    assert len(seen) == 1
    found = by_runner(in_shop(inshop, KEPT), RetrievalMetric(), tmp_path)
    assert found == by_hand(in_shop(inshop, KEPT), RetrievalMetric())


def test_a_role_that_one_sample_lost_is_refused(inshop):
    dataset, metric = in_shop(inshop, KEPT), RetrievalMetric()
    metric.dataset_meta = dataset.metainfo
    samples = as_samples(*embeddings(18, 6), ['query'] * 6 + ['gallery'] * 12)
    del samples[7]['role']
    with pytest.raises(ValueError, match='sample 7 arrives without'):
        metric.process(None, samples)


@pytest.mark.parametrize('metric', [VerificationMetric(num_folds=2), RetrievalMetric()])
def test_roles_matter_only_where_they_decide_figures(inshop, metric):
    dataset = in_shop(inshop, LOST)
    if isinstance(metric, VerificationMetric):
        assert by_hand(dataset, metric)
    # Without roles nothing can be lost.
    train = InShop(str(inshop), pipeline=pipeline(LOST))
    assert 'roles' not in train.metainfo
    assert by_hand(train, metric)


@pytest.mark.parametrize(
    ('wrap', 'message'),
    [
        (lambda root: RepeatDataset(in_shop(root, KEPT), times=2), 'has 36 samples and 18 dist'),
        (
            lambda root: ConcatDataset([in_shop(root, KEPT), in_shop(root, KEPT)]),
            'has 36 samples and 18 distinct .* evaluate a data set that is not wrapped',
        ),
        (
            lambda root: ConcatDataset(
                [in_shop(root, KEPT, split=part) for part in ('query', 'gallery')],
                ignore_keys='roles',
            ),
            "sample 0 arrives as 'gallery': a wrapper .* InShop with split='test'",
        ),
        (lambda root: in_shop(root, KEPT, split='query'), 'the gallery is empty'),
    ],
    ids=['repeated', 'joined', 'query and gallery joined', 'query alone'],
)
def test_wrapped_sets_are_refused(wrap, message, inshop):
    with pytest.raises(ValueError, match=message):
        by_hand(wrap(inshop), RetrievalMetric())


@pytest.mark.parametrize('places', [range(1, 19), [0] * 18, ['a'] * 18, [0.5] * 18, [None] * 18])
def test_sample_idx_must_be_places(places):
    samples = as_samples(*embeddings(18, 6))
    samples = [sample | dict(sample_idx=i) for sample, i in zip(samples, places, strict=True)]
    with pytest.raises(ValueError, match='sample_idx'):
        evaluate(RetrievalMetric(), samples)


@pytest.fixture
def lfw(tmp_path):
    """Twelve people with four images each, in LFW's layout, with three folds of pairs."""
    images = {f'p{person:02d}': 4 for person in range(12)}
    for name, number in images.items():
        (tmp_path / 'lfw' / name).mkdir(parents=True)
        for i in range(1, number + 1):
            color = np.full((8, 8, 3), [10 * int(name[1:]), 40 * i, 200], np.uint8)
            cv2.imwrite(str(tmp_path / 'lfw' / name / f'{name}_{i:04d}.png'), color)
    write_pairs(tmp_path / 'pairs.txt', make_pairs(images, 3, 12, seed=0), 3)
    return tmp_path


class Part:
    """A wrapper of another project, which keeps the metainfo of the whole for a part."""

    def __init__(self, dataset, places):
        self.dataset, self.places, self.metainfo = dataset, list(places), dataset.metainfo

    def __len__(self):
        return len(self.places)

    def __getitem__(self, place):
        packed = self.dataset[self.places[place]]
        packed['data_samples'].set_metainfo(dict(sample_idx=place))
        return packed


def pairs_of(root):
    return LFW(str(root), extension='.png', pipeline=pipeline(LOST))


def sets_of(root):
    part = dict(type='mmarcface.LFW', data_root=str(root), extension='.png')
    return VerificationSets(dict(a=part, b=part), pipeline=pipeline(LOST))


@pytest.mark.parametrize('whole', [pairs_of, sets_of], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    'part',
    [
        lambda places: places[:20],
        lambda places: places[10:],
        lambda places: places[::-1],
        lambda places: [*places[12:], *places[:12]],
    ],
    ids=['first', 'last', 'reversed', 'another order'],
)
def test_pairs_of_other_samples_are_refused(whole, part, lfw):
    dataset = whole(lfw)
    places = range(len(dataset))
    expected = by_hand(dataset, VerificationMetric())
    assert by_hand(Part(dataset, places), VerificationMetric()) == expected
    with pytest.raises(ValueError, match=r'pairs.* (must name samples|have two labels)'):
        by_hand(Part(dataset, part(places)), VerificationMetric())


def test_joined_sets_of_pairs_are_refused(lfw):
    joined = ConcatDataset([pairs_of(lfw), pairs_of(lfw)], ignore_keys=['pairs', 'classes'])
    with pytest.raises(ValueError, match=r'distinct sample_idx .* as VerificationSets'):
        by_hand(joined, VerificationMetric())
    assert by_hand(ConcatDataset([pairs_of(lfw)]), VerificationMetric()) == by_hand(
        pairs_of(lfw), VerificationMetric()
    )


def test_templates_of_other_samples_are_refused():
    vectors, templates = photographs()
    samples = samples_of(vectors, templates)
    joined = samples + [sample | dict(sample_idx=sample['sample_idx'] + 90) for sample in samples]
    with pytest.raises(ValueError, match='templates are of 90 samples, and the data set has 180'):
        evaluate(metric_of(templates), joined)
    with pytest.raises(ValueError, match="metainfo has 'templates', such as IJB"):
        evaluate(TemplateVerificationMetric(), samples)


@pytest.mark.parametrize(
    ('metric', 'assumed'),
    [
        (RetrievalMetric, 'samples are taken to have no roles'),
        (VerificationMetric, 'it is taken to have no pairs of its own'),
    ],
)
def test_what_is_assumed_of_an_unknown_data_set_is_said(metric, assumed, monkeypatch):
    lines = []
    monkeypatch.setattr(embedding_metric, 'print_log', lambda text, *_: lines.append(text))
    samples = as_samples(*embeddings())
    evaluate(metric(), samples)
    (line,) = lines
    assert 'dataset_meta' in line
    assert assumed in line
    known = metric()
    known.dataset_meta = dict(classes=())
    evaluate(known, samples)
    assert len(lines) == 1
