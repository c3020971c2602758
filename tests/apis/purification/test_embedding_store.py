"""Embeddings in files, by a net of which each is known, and by one of which all bits are to be."""

import logging
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.models import ImageClassifier
from torch import nn

from mmarcface.apis.purification.embedding_store import BATCHES_IN_BLOCK, EmbeddingStore
from mmarcface.datasets import ORLFaces
from mmarcface.models import ArcFaceHead, EmbeddingRetriever, IResNet
from tests.apis.colors import (
    PIPELINE,
    PREPROCESSOR,
    Told,
    known_model,
    random_colors,
    write_colors,
)

BATCH = 2
BLOCK = BATCHES_IN_BLOCK * BATCH
SIZES = (30, 1, 40)
NUMBER = sum(SIZES)


@pytest.fixture
def colors(tmp_path):
    found = random_colors(SIZES)
    write_colors(tmp_path / 'data', found)
    return np.array([color for own in found for color in own], float) - 128


@pytest.fixture
def dataset(colors, tmp_path):
    return Told(str(tmp_path / 'data'))


@pytest.fixture
def warnings(monkeypatch):
    said = []
    logger = MMLogger.get_current_instance()

    def keep(level, message, *args, **kwargs):
        if level >= logging.WARNING:
            said.append(message)

    monkeypatch.setattr(logger, 'log', keep)
    return said


def blocks(folder):
    return sorted(folder.glob('block*.npy'), key=lambda p: int(re.search(r'\d+', p.name)[0]))


def test_blocks_are_the_embeddings_in_order(dataset, colors, tmp_path):
    model = known_model()
    model.train()
    found = EmbeddingStore(model, dataset, tmp_path / 'state', BATCH)
    assert model.training
    assert model.image_encoder.seen == [2] * 35 + [1]
    assert len(found) == 3
    places, parts = zip(*found, strict=True)
    assert places == (slice(0, 32), slice(32, 64), slice(64, 71))
    np.testing.assert_array_equal(torch.cat(parts).numpy(), colors)
    files = blocks(tmp_path / 'state')
    assert [np.load(file).shape for file in files] == [(32, 3), (32, 3), (7, 3)]
    assert {np.load(file).dtype for file in files} == {np.dtype('float32')}
    assert {p.name for p in (tmp_path / 'state').iterdir()} == {
        'made_from', *(file.name for file in files)
    }  # fmt: skip


@pytest.mark.parametrize('number', [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_any_number_of_samples(dataset, colors, tmp_path, number):
    some = Told(dataset.data_root, indices=number)
    found = EmbeddingStore(known_model(), some, tmp_path / 'state', BATCH)
    assert len(found) == -(-number // BLOCK) == len(blocks(tmp_path / 'state'))
    rows = torch.cat([part for _, part in found])
    np.testing.assert_array_equal(rows.numpy(), colors[:number])


@pytest.mark.parametrize('workers', [0, 2])
def test_workers(dataset, colors, tmp_path, workers):
    found = EmbeddingStore(known_model(), dataset, tmp_path / 'state', 3, workers)
    rows = torch.cat([part for _, part in found])
    np.testing.assert_array_equal(rows.numpy(), colors)


def test_rows(dataset, colors, tmp_path):
    found = EmbeddingStore(known_model(), dataset, tmp_path / 'state', BATCH)
    for places in ([0], [31, 32], [5, 6, 70], [40], list(range(NUMBER)), []):
        rows = list(found.select(torch.tensor(places, dtype=torch.long)))
        together = [i for here, _ in rows for i in here.tolist()]
        assert together == list(range(len(places)))
        for here, inside in rows:
            wanted = colors[[places[i] for i in here.tolist()]]
            np.testing.assert_array_equal(inside.numpy(), wanted)


def test_only_what_is_missing_is_embedded(dataset, colors, tmp_path, warnings):
    model, state = known_model(), tmp_path / 'state'

    def embed():
        del model.image_encoder.seen[:]
        found = EmbeddingStore(model, dataset, state, BATCH)
        rows = torch.cat([part for _, part in found])
        np.testing.assert_array_equal(rows.numpy(), colors)
        return sum(model.image_encoder.seen)

    assert embed() == NUMBER
    assert embed() == 0
    (state / 'block1.npy').unlink()
    # As a process leaves it that is killed while it writes.
    (state / 'block1.npy.partial').write_bytes(b'half')
    stays = (state / 'block0.npy').stat().st_mtime_ns
    assert embed() == BLOCK
    assert (state / 'block0.npy').stat().st_mtime_ns == stays
    (state / 'block2.npy').unlink()
    assert embed() == NUMBER - 2 * BLOCK
    assert warnings == []


def test_a_break_costs_one_block(dataset, colors, tmp_path):
    model, state = known_model(), tmp_path / 'state'

    def stop(module, inputs):
        if sum(module.seen) == BLOCK + 4:
            raise KeyboardInterrupt

    handle = model.image_encoder.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        EmbeddingStore(model, dataset, state, BATCH)
    assert [file.name for file in blocks(state)] == ['block0.npy']
    handle.remove()
    del model.image_encoder.seen[:]
    found = EmbeddingStore(model, dataset, state, BATCH)
    assert sum(model.image_encoder.seen) == NUMBER - BLOCK
    np.testing.assert_array_equal(torch.cat([part for _, part in found]).numpy(), colors)


def test_what_is_of_others_is_replaced(dataset, colors, tmp_path, warnings):
    model, state = known_model(), tmp_path / 'state'
    root = Path(dataset.data_root)
    first = root / 'c0' / '000.png'

    def embed(dataset=dataset, batch=BATCH):
        del model.image_encoder.seen[:], warnings[:]
        found = EmbeddingStore(model, dataset, state, batch)
        said = len(warnings)
        for message in warnings:
            assert 'are of other weights, images or transforms: embedding again' in message
            assert str(state) in message
        return torch.cat([part for _, part in found]).numpy(), sum(model.image_encoder.seen), said

    embed()
    with torch.no_grad():
        model.image_encoder.scale.fill_(2)
    rows, seen, said = embed()
    assert (seen, said) == (NUMBER, 1)
    np.testing.assert_array_equal(rows, 2 * colors)

    os.utime(first, (1, 1))
    assert embed()[1:] == (NUMBER, 1)
    assert embed()[1:] == (0, 0)
    assert embed(Told(str(root), turned=True))[1:] == (NUMBER, 1)
    flip = dict(type='mmcv.RandomFlip', prob=1.0)
    pipeline = [PIPELINE[0], flip, PIPELINE[1]]
    assert embed(Told(str(root), pipeline=pipeline))[1:] == (NUMBER, 1)
    # Blocks of another size, of which there are fewer.
    rows, seen, said = embed(batch=2 * BATCH)
    assert (seen, said) == (NUMBER, 1)
    assert len(blocks(state)) == 2
    np.testing.assert_array_equal(rows, 2 * colors)
    # Fewer samples leave no files of the others behind.
    assert embed(Told(str(root), indices=5))[1:] == (5, 1)
    assert len(blocks(state)) == 1
    model.data_preprocessor.mean += 1
    assert embed(Told(str(root), indices=5))[1:] == (5, 1)


def test_an_embedding_that_is_not_finite(dataset, tmp_path):
    for value in (float('nan'), float('inf')):
        model = known_model()
        with torch.no_grad():
            model.image_encoder.scale.fill_(value)
        with pytest.raises(ValueError, match='embedding of sample 0 is not finite: did training'):
            EmbeddingStore(model, dataset, tmp_path / 'state', BATCH)

    def spoil(module, inputs, outputs):
        if sum(module.seen) == BLOCK + 10:
            outputs[0][1, 2] = float('nan')

    model = known_model()
    model.image_encoder.register_forward_hook(spoil)
    with pytest.raises(ValueError, match=f'embedding of sample {BLOCK + 9} is not finite'):
        EmbeddingStore(model, dataset, tmp_path / 'state', BATCH)
    # What was right stays.
    assert [file.name for file in blocks(tmp_path / 'state')] == ['block0.npy']


def test_no_samples(dataset, tmp_path):
    with pytest.raises(ValueError, match='the data set, Told, has no samples'):
        EmbeddingStore(known_model(), dataset.get_subset([]), tmp_path / 'state')


def test_classifier_of_mmpretrain(dataset, colors, tmp_path):
    class Halved(nn.Module):
        def forward(self, feats):
            return (feats[-1] / 2,)

    encoder = known_model().image_encoder
    head = dict(type='mmpretrain.ArcFaceClsHead', num_classes=3, in_channels=3, num_subcenters=2)
    model = ImageClassifier(
        backbone=encoder,
        neck=Halved(),
        head=head,
        data_preprocessor=dict(PREPROCESSOR, type='mmpretrain.ClsDataPreprocessor'),
    )
    found = EmbeddingStore(model, dataset, tmp_path / 'state', BATCH)
    rows = torch.cat([part for _, part in found])
    np.testing.assert_array_equal(rows.numpy(), colors / 2)
    del encoder.seen[:]
    EmbeddingStore(model, dataset, tmp_path / 'state', BATCH)
    assert not encoder.seen
    model.data_preprocessor.mean += 1
    EmbeddingStore(model, dataset, tmp_path / 'state', BATCH)
    assert sum(encoder.seen) == NUMBER


def test_nets_of_the_same_weights_are_told_apart(dataset, colors, tmp_path):
    class Opposite(nn.Module):
        def forward(self, feats):
            return (-feats[-1],)

    head = dict(type='mmpretrain.ArcFaceClsHead', num_classes=3, in_channels=3, num_subcenters=2)
    preprocessor = dict(PREPROCESSOR, type='mmpretrain.ClsDataPreprocessor')
    encoder = known_model().image_encoder
    model = ImageClassifier(backbone=encoder, head=head, data_preprocessor=preprocessor)
    for neck, sign in (None, 1), (Opposite(), -1):
        model.neck = neck
        rows = torch.cat(
            [part for _, part in EmbeddingStore(model, dataset, tmp_path / 's', BATCH)]
        )
        np.testing.assert_array_equal(rows.numpy(), sign * colors)


def faces():
    pipeline = [
        dict(type='mmarcface.LoadImageFromFile'),
        dict(type='mmpretrain.Resize', scale=(24, 28)),
        dict(type='mmpretrain.PackInputs'),
    ]
    return ORLFaces(people=(1, 2, 3, 4, 5), pipeline=pipeline)


def small_net():
    torch.manual_seed(0)
    encoder = IResNet(18, 8, (28, 24), 4)
    preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
    test_cfg = dict(flip=True)
    head = ArcFaceHead(5, 8, num_subcenters=2)
    return EmbeddingRetriever(encoder, head, test_cfg=test_cfg, data_preprocessor=preprocessor)


def embed_on(rank, world, folder):
    torch.set_num_threads(1)
    found = EmbeddingStore(small_net(), faces(), folder, 1)
    assert len(found) == 4
    return torch.cat([part for _, part in found])


def test_processes_make_the_same_files(on_processes, tmp_path):
    results = on_processes(embed_on, str(tmp_path / 'state'))
    model = small_net().eval()
    with torch.no_grad():
        rows = [
            model.embed(model.data_preprocessor(dict(inputs=[sample['inputs']]))['inputs'])
            for sample in faces()
        ]
    for result in results:
        assert torch.equal(result, torch.cat(rows))
    files = blocks(tmp_path / 'state')
    assert len(files) == 4
    together = np.concatenate([np.load(file) for file in files])
    np.testing.assert_array_equal(together, torch.cat(rows).numpy())
