"""Images of unequal size, wherever they become a batch."""

import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmpretrain import ImageRetrievalInferencer, get_model
from torch.utils.data import DataLoader

from mmarcface.apis import InversionEvaluator, VerificationInferencer
from mmarcface.apis.purification.embedding_store import EmbeddingStore
from mmarcface.datasets import IdentityFolder
from mmarcface.datasets.image_sizes import (
    EqualSizeCollate,
    refuse_unequal_sizes,
    require_equal_sizes,
)
from mmarcface.engine.launch import build_runner
from tests.engine.test_inversion import loader, tiny

PIPELINE = [dict(type='mmarcface.LoadImageFromFile'), dict(type='PackInputs')]
SIZES = {'a/0.png': (28, 24), 'a/1.png': (28, 24), 'b/0.png': (24, 28), 'b/1.png': (28, 24)}
FOUND = r'a/0\.png is 3 x 28 x 24 and \S*b/0\.png is 3 x 24 x 28 .*'
ADVICE = r"dict\(type='Resize', scale=\(24, 28\)\)"


@pytest.fixture
def faces(tmp_path):
    for name, size in SIZES.items():
        path = tmp_path / 'faces' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, size, np.uint8))
    return tmp_path / 'faces'


def config_of(faces, collate='default_collate', pipeline=PIPELINE, **more) -> Config:
    config = tiny(work_dir=str(faces.with_name('work')))
    for name in ('train_dataloader', 'test_dataloader'):
        config[name] = loader(())
        config[name].dataset = dict(
            type='mmarcface.IdentityFolder', data_root=str(faces), pipeline=pipeline
        )
        config[name].update(
            collate_fn=dict(type=collate),
            sampler=dict(type='DefaultSampler', shuffle=False),
            **more,
        )
    return config


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('collate', ['default_collate', 'pseudo_collate'])
def test_in_training_and_testing(faces, collate, workers):
    """mmpretrain's preprocessor would pad what pseudo_collate gives it."""
    runner = build_runner(config_of(faces, collate, num_workers=workers))
    with pytest.raises(ValueError, match=FOUND + ADVICE):
        runner.train()
    if not workers:
        with pytest.raises(ValueError, match=FOUND + ADVICE):
            runner.test()


def test_the_advice_works(faces):
    resize = dict(type='Resize', scale=(24, 28))
    build_runner(config_of(faces, pipeline=[PIPELINE[0], resize, PIPELINE[1]])).train()


def test_in_galleries_and_inferencers(faces):
    config = config_of(faces)
    paths = [str(faces / name) for name in SIZES]
    with pytest.raises(ValueError, match=FOUND + ADVICE):
        ImageRetrievalInferencer(get_model(config), prototype=str(faces))
    with pytest.raises(ValueError, match=FOUND + ADVICE):
        ImageRetrievalInferencer(get_model(config), prototype=paths)
    padding = DataLoader(
        IdentityFolder(str(faces), pipeline=PIPELINE), batch_size=4, collate_fn=pseudo_collate
    )
    with pytest.raises(ValueError, match=FOUND + ADVICE):
        ImageRetrievalInferencer(get_model(config), prototype=padding)
    one_size = ImageRetrievalInferencer(get_model(config), prototype=[paths[0], paths[3]])
    with pytest.raises(ValueError, match=r'3 x 28 x 24 and .* is 3 x 24 x 28'):
        one_size(paths, batch_size=4)
    verify = VerificationInferencer(get_model(config), threshold=0.5)
    with pytest.raises(ValueError, match=r'3 x 28 x 24 and .* is 3 x 24 x 28'):
        verify([(paths[0], paths[2])])
    judge = InversionEvaluator(
        get_model(config), dict(type='mmarcface.IdentityFolder', data_root=str(faces))
    )
    with pytest.raises(ValueError, match=FOUND):
        _ = judge.reference


def test_in_purification(faces, tmp_path):
    dataset = IdentityFolder(str(faces), pipeline=PIPELINE)
    with pytest.raises(ValueError, match=FOUND + ADVICE):
        EmbeddingStore(get_model(config_of(faces)), dataset, tmp_path / 'embeddings', batch_size=4)


def test_samples_of_any_kind():
    equal = [dict(inputs=torch.zeros(3, 4, 5)), dict(inputs=torch.ones(3, 4, 5))]
    assert refuse_unequal_sizes(equal) is equal
    for other in ([], [1, 2], [dict(inputs='text'), dict()], [torch.ones(1), torch.ones(2)]):
        assert refuse_unequal_sizes(other) is other
    message = 'image 1 of the batch is 3 x 4 x 5 and image 3 of the batch is 1 x 4 x 5'
    with pytest.raises(ValueError, match=message):
        refuse_unequal_sizes([{}, *equal, dict(inputs=torch.ones(1, 4, 5))])


def test_a_loader_is_changed_once():
    samples = DataLoader([0, 1], collate_fn=default_collate)
    collate = require_equal_sizes(samples).collate_fn
    assert isinstance(collate, EqualSizeCollate)
    assert require_equal_sizes(samples).collate_fn is collate
    assert re.match('tensor', str(next(iter(samples))))
