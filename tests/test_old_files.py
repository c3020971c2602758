"""What an earlier version wrote is read as before; see old_files/README.md."""

import csv
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmarcface.apis import VerificationInferencer, get_model
from mmarcface.apis.embedding_files import read_embeddings
from mmarcface.engine.launch import build_runner
from mmarcface.evaluation.thresholds import load_thresholds
from mmarcface.registry import DATASETS
from tests.in_process import call_tool

OLD = Path(__file__).parent / 'old_files'
CHECKPOINT = 'work/epoch_10.pth'
PIPELINE = [
    dict(type='mmarcface.LoadImageFromFile'),
    dict(type='Resize', scale=(28, 28), interpolation='area'),
    dict(type='PackInputs'),
]


def loader(folder):
    return dict(
        batch_size=7,
        num_workers=0,
        dataset=dict(type='mmarcface.IdentityFolder', data_root=folder, pipeline=PIPELINE),
        sampler=dict(type='DefaultSampler', shuffle=folder == 'train'),
        collate_fn=dict(type='default_collate'),
    )


def config_of(**changes):
    model = dict(
        type='mmarcface.EmbeddingRetriever',
        image_encoder=dict(
            type='mmarcface.LeNetPlus', embedding_dim=8, base_channels=2, input_size=28
        ),
        head=dict(
            type='mmarcface.SubCenterArcFaceHead',
            num_classes=3,
            in_channels=8,
            num_subcenters=3,
            scale=8.0,
        ),
    )
    metrics = [
        dict(type='mmarcface.RetrievalMetric'),
        dict(type='mmarcface.VerificationMetric', far=[0.1]),
    ]
    return Config(
        dict(
            default_scope='mmpretrain',
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
            model=model | changes,
            train_dataloader=loader('train'),
            test_dataloader=loader('test'),
            test_cfg=dict(),
            test_evaluator=metrics,
            train_cfg=dict(by_epoch=True, max_epochs=10, val_interval=10),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9)),
            purification=dict(threshold=42.0, min_per_class=2),
            randomness=dict(seed=0),
            log_level='WARNING',
        )
    )


@pytest.fixture
def old(orl, tmp_path, monkeypatch):
    """In a folder with the images, the config and the files."""
    monkeypatch.chdir(tmp_path)
    for folder, people in dict(train=(3, 5, 7), test=(2, 9)).items():
        for person in people:
            shutil.copytree(orl / f's{person}', Path(folder, f's{person}'))
    for number in (1, 2):
        Path(f'train/s5/{number}.pgm').rename(f'train/s3/wrong{number}.pgm')
    for path in Path().rglob('*.pgm'):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    config_of().dump('net.py')
    Path('work').mkdir()
    for path in OLD.glob('epoch_10*'):
        shutil.copy(path, 'work')
    return tmp_path


def rows_of(path):
    with open(path, newline='') as file:
        return {row['sample']: row for row in csv.DictReader(file)}


def test_checkpoint_has_the_same_embeddings_and_figures(old):
    call_tool('test.py', 'net.py', CHECKPOINT, '--out', 'embeddings.pkl')
    embeddings = read_embeddings(OLD / 'embeddings.pkl')
    assert embeddings.shape == (20, 8)
    torch.testing.assert_close(read_embeddings('embeddings.pkl'), embeddings, rtol=1e-4, atol=1e-5)
    call_tool('test.py', 'net.py', CHECKPOINT, '--out', 'figures.json')
    figures = json.loads(Path('figures.json').read_text())
    assert figures == pytest.approx(json.loads((OLD / 'figures.json').read_text()), rel=1e-6)


def test_checkpoint_is_converted_with_its_config(old):
    call_tool('convert.py', 'weights', CHECKPOINT, 'new.safetensors')
    call_tool('test.py', 'new.py', 'new.safetensors', '--out', 'embeddings.pkl')
    expected = read_embeddings(OLD / 'embeddings.pkl')
    torch.testing.assert_close(read_embeddings('embeddings.pkl'), expected, rtol=1e-4, atol=1e-5)


def test_training_goes_on_from_the_checkpoint(old):
    config = config_of()
    config.update(work_dir='work', resume=True, load_from=CHECKPOINT)
    config.train_cfg.max_epochs = 11
    runner = build_runner(config)
    started, head = {}, runner.model.head.weight
    run_epoch = runner.train_loop.run_epoch

    def note_and_run():
        momentum = runner.optim_wrapper.optimizer.state[head]['momentum_buffer']
        started.update(iter=runner.iter, momentum=momentum.clone())
        run_epoch()

    runner.train_loop.run_epoch = note_and_run
    runner.train()
    content = torch.load(OLD / 'epoch_10.pth')
    assert started['iter'] == content['meta']['iter'] == 50
    parameters = [name for name, _ in runner.model.named_parameters()]
    place = parameters.index('head.weight')
    kept = content['optimizer']['state'][place]['momentum_buffer']
    assert kept.abs().max() > 0
    assert torch.equal(started['momentum'], kept)
    assert torch.load('work/epoch_11.pth')['meta']['iter'] == 55


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_keep_list_keeps_the_same_samples(old, suffix):
    data = DATASETS.build(
        dict(
            type='mmarcface.FilteredDataset',
            dataset=dict(type='mmarcface.IdentityFolder', data_root='train'),
            filter_file=str(OLD / f'keep.{suffix}'),
        )
    )
    infos = [data.get_data_info(place) for place in range(len(data))]
    found = {info['img_path'].split('train/')[1]: info['gt_label'] for info in infos}
    kept = rows_of(OLD / 'keep.csv')
    assert len(infos) == len(kept) == 21
    assert found == {name: int(row['label']) for name, row in kept.items()}
    assert not any('wrong' in name for name in found)
    assert data.metainfo['classes'] == ('s3', 's5', 's7')


def test_purification_takes_the_embeddings_and_gives_the_same_list(old):
    store = Path('lists', 'embeddings')
    store.mkdir(parents=True)
    for name in ('made_from', 'block0.npy'):
        shutil.copy(OLD / name, store)
    block = store / 'block0.npy'
    # Which shows where they are from.
    np.save(block, marked := np.load(block) * np.float32(2))
    call_tool('purify.py', 'net.py', CHECKPOINT, '--out', 'lists')
    assert np.array_equal(np.load(block), marked)
    rows, expected = rows_of('lists/keep.csv'), rows_of(OLD / 'keep.csv')
    assert rows.keys() == expected.keys()
    for name, row in expected.items():
        angles = float(rows[name].pop('angle')), float(row.pop('angle'))
        assert angles[0] == pytest.approx(angles[1], abs=1e-3)
        assert rows[name] == row


def test_gallery_is_taken_without_embedding_it_again(old):
    shutil.copy(OLD / 'gallery.pth', old)
    content = torch.load('gallery.pth')
    expected = F.normalize(read_embeddings(OLD / 'embeddings.pkl'))
    torch.testing.assert_close(F.normalize(content['embeddings']), expected)
    changes = dict(prototype=loader('test'), prototype_cache='gallery.pth')
    before = Path('gallery.pth').stat().st_mtime_ns
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*is out of date')
        model = get_model(config_of(**changes), CHECKPOINT)
        model.prepare_prototype()
    assert Path('gallery.pth').stat().st_mtime_ns == before
    torch.testing.assert_close(model.prototype_vecs, expected)


def test_thresholds_are_those_of_the_checkpoint(old):
    verify = VerificationInferencer(config_of(), pretrained=CHECKPOINT)
    sets = load_thresholds(OLD / 'epoch_10.thresholds.json').sets
    ((chosen,),) = sets.values()
    assert verify.threshold == chosen.threshold
    assert verify.far == chosen.wanted_far == 0.1
    gallery = torch.load(OLD / 'gallery.pth')
    places = {sample['img_path']: place for place, sample in enumerate(gallery['samples'])}
    pair = 'test/s2/1.pgm', 'test/s9/4.pgm'
    one, other = F.normalize(gallery['embeddings'])[[places[path] for path in pair]]
    assert verify([pair])[0]['similarity'] == pytest.approx(float(one @ other), abs=1e-5)
