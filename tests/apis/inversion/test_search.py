import json
import logging
import math
import os
import pickle
import subprocess
import sys
import time
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.registry import DefaultScope
from mmpretrain import get_model
from mmpretrain.models.heads import ArcFaceClsHead, ClsHead, LinearClsHead
from PIL import Image
from torch import nn

from mmarcface.apis import (
    Inversion,
    InversionSettings,
    invert,
    read_embeddings,
    save_inversion,
)
from mmarcface.apis.inversion import descent
from mmarcface.apis.inversion.model import InversionModel
from mmarcface.apis.inversion.search import _is_better, _Search
from mmarcface.apis.inversion.state import SearchState, WorkItem
from mmarcface.functional.inversion import BN_PRIORS, batch_norm_layers
from mmarcface.models import ArcFaceHead, SoftmaxHead
from mmarcface.models.heads.centers import class_centers
from mmarcface.registry import MODELS
from tests.conftest import ROOT
from tests.models.test_heads import HEADS

SIZE = 12
WIDTH = 6
CLASSES = 5
QUICK = dict(steps=8, schedule='cosine', center_weight=20.0, tv_weight=0.01, clip=True)
QUICK |= dict(progress=False)


class Tiny(nn.Sequential):
    """Two convolutions with BN, whose statistics are those of some noise."""

    def __init__(self, channels=3, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            super().__init__(
                nn.Conv2d(channels, 8, 3, stride=2),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 8, 3),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(8 * 9, WIDTH),
            )
            for _ in range(20):
                self(torch.randn(16, channels, SIZE, SIZE) / 2)
        self.eval()


class Edgy(nn.Sequential):
    """A net of edges that has seen smooth images only, to which noise is far from all of them."""

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(
                nn.Conv2d(3, 8, 3, stride=2),
                nn.BatchNorm2d(8, momentum=None),
                nn.ReLU(),
                nn.Conv2d(8, 8, 3, stride=2),
                nn.BatchNorm2d(8, momentum=None),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(32, WIDTH),
            )
            with torch.no_grad():
                self[0].weight -= self[0].weight.mean((2, 3), keepdim=True)
            for _ in range(5):
                coarse = torch.randn(16, 3, 3, 3) / 10
                self(nn.functional.interpolate(coarse, size=24, mode='bicubic'))
        self.eval()


def weight(seed=1):
    return torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(seed))


def search(targets=(0, 1), model=None, head='given', **changes):
    """Invert the tiny net, with cosines to the weight as classes."""
    model = Tiny() if model is None else model
    head = weight() if isinstance(head, str) else head
    return invert(model, targets, head=head, **QUICK | dict(input_size=SIZE) | changes)


def config(model, people=(1, 2), size=SIZE):
    pipeline = [
        dict(type='mmarcface.LoadImageFromFile'),
        dict(type='Resize', scale=(size, size), interpolation='area'),
        dict(type='PackInputs'),
    ]
    return Config(
        dict(
            model=model,
            data_preprocessor=dict(mean=[120.0, 130, 140], std=[60.0, 70, 80], to_rgb=True),
            test_dataloader=dict(
                dataset=dict(type='mmarcface.ORLFaces', people=people, pipeline=pipeline)
            ),
        )
    )


def built(model, size=SIZE):
    """A model with BN statistics of noise, as mmpretrain makes it from a config."""
    torch.manual_seed(0)
    model = get_model(config(model, size=size))
    model.train()
    for _ in range(3):
        model.extract_feat(torch.randn(4, 3, size, size))
    return model.eval()


RETRIEVER = dict(
    type='mmarcface.EmbeddingRetriever',
    image_encoder=dict(
        type='mmarcface.IResNet', depth=18, embedding_dim=WIDTH, input_size=16, base_channels=4
    ),
    head=dict(type='mmarcface.ArcFaceHead', num_classes=CLASSES, in_channels=WIDTH),
)
RESNET = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=64),
)
EFFICIENTNET = dict(
    type='ImageClassifier',
    backbone=dict(type='EfficientNet', arch='b0'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=1280),
)


def embed(model, images):
    """Unit embeddings, (N, D), of what an inversion gave, apart from its own code."""
    with torch.no_grad():
        rgb = torch.from_numpy(images[..., ::-1].copy()).permute(0, 3, 1, 2).float()
        return nn.functional.normalize(model((rgb - 127.5) / 127.5))


# What is found.


# The terms and weights of DeepInversion.
DEEP_INVERSION = dict(
    schedule='cosine',
    bn_weight=0.01,
    bn_variant='deepinversion',
    tv_weight=1e-4,
    tv_variant='deepinversion',
    l2_weight=1e-5,
    halvings=1,
    clip=True,
)


@pytest.mark.parametrize(
    'settings', [dict(preset='paper'), dict(preset='small'), DEEP_INVERSION], ids=str
)
def test_objective_falls(settings):
    given = dict(head=weight(), input_size=SIZE, steps=40, lr=0.05, progress=False)
    found = invert(Tiny(), (0, 1), **given | settings)
    history = found.history
    assert history['step'] == list(range(40))
    assert history['objective'][-1] < 0.7 * history['objective'][0]
    assert found.images.shape == (2, SIZE, SIZE, 3)
    assert found.images.dtype == np.uint8
    assert found.labels == [0, 1]


def test_images_come_nearer_to_their_targets():
    vectors = nn.functional.normalize(weight()[:3])
    found = search(vectors, head=None, steps=80, target_weight=20.0)
    cosines = (embed(Tiny(), found.images) * vectors).sum(1)
    noise = np.random.default_rng(0).integers(0, 256, found.images.shape, np.uint8)
    before = (embed(Tiny(), noise) * vectors).sum(1)
    assert (cosines > before + 0.3).all()
    np.testing.assert_allclose(found.terms['cosine'], cosines, atol=1e-5)
    np.testing.assert_allclose(found.terms['target'], 2 - 2 * cosines, atol=1e-5)
    assert found.labels is None
    assert 'center' not in found.terms


def test_terms_are_those_of_the_images():
    found = search(steps=3, tv_weight=0.5, l2_weight=0.25, bn_weight=2.0, center_weight=3.0)
    terms = found.terms
    normalized = (found.images.astype(float) - 127.5) / 127.5
    l2 = (normalized**2).sum((1, 2, 3))
    variation = (np.diff(normalized, axis=1) ** 2).sum((1, 2, 3))
    variation += (np.diff(normalized, axis=2) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(terms['l2'], l2, rtol=1e-5)
    np.testing.assert_allclose(terms['total_variation'], variation, rtol=1e-5)
    cosines = (embed(Tiny(), found.images) @ nn.functional.normalize(weight()).T).numpy()
    np.testing.assert_allclose(terms['cosine'], cosines[[0, 1], [0, 1]], atol=1e-5)
    np.testing.assert_allclose(terms['center'], 2 - 2 * cosines[[0, 1], [0, 1]], atol=1e-5)
    for row in range(2):
        # ArcFace with s = 64, m = 0.5.
        logits = 64 * cosines[row]
        logits[row] = 64 * math.cos(math.acos(cosines[row, row]) + 0.5)
        loss = np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[row]
        assert terms['target'][row] == pytest.approx(loss, abs=1e-3)
        parts = [terms[name][row] for name in ('target', 'center', 'bn', 'total_variation', 'l2')]
        assert terms['objective'][row] == pytest.approx(
            np.dot(parts, [1, 3, 2, 0.5, 0.25]), rel=1e-5
        )
    assert terms['bn'][0] == terms['bn'][1] > 0
    assert terms['restart'] == [0, 0]


EDGY = dict(
    small=dict(preset='small'),
    paper=dict(preset='paper'),
    fast=dict(preset='paper', lr=1.0, bn_variant='standardized'),
    deepinversion=DEEP_INVERSION,
    gray=dict(preset='small', gray=True, restarts=2),
    moved=dict(preset='small', jitter=1, flip=True),
)


def edgy(kind, **changes):
    given = dict(head=weight(), input_size=24, steps=40, progress=False)
    return invert(Edgy(), range(4), **given | EDGY[kind] | changes)


def objective_of(found):
    return float(np.mean(found.terms['objective']))


@pytest.mark.parametrize('kind', EDGY)
def test_search_stays_where_it_was_best(kind):
    found = edgy(kind)
    objectives = found.history['objective']
    assert found.history['step'] == list(range(40))
    assert found.converged
    if kind != 'moved':
        # As seen by other moves the best would be another.
        assert objective_of(found) <= 1.05 * min(objectives[20:])
        assert objectives[-1] == min(objectives[20:])
    assert objective_of(found) < 0.6 * objectives[0]
    # No jumps are left.
    least = np.minimum.accumulate(objectives[20:])
    assert (objectives[20:] <= 1.5 * least).all() or kind == 'moved'


@pytest.mark.parametrize('kind', ['small', 'gray'])
def test_without_its_guard_the_search_is_thrown_off(kind, monkeypatch):
    """By the first steps at full resolution; or the test above would test nothing."""
    guarded = objective_of(edgy(kind))
    monkeypatch.setattr(descent, 'JUMP', math.inf)
    found = edgy(kind)
    assert objective_of(found) > 1.5 * guarded
    objectives = found.history['objective']
    assert max(objectives[20:]) > 3 * objectives[19]


@pytest.mark.parametrize(('kind', 'at'), [('small', 12), ('small', 24), ('moved', 16)])
def test_goes_on_where_steps_were_undone(kind, at, tmp_path):
    expected = edgy(kind)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, at)
        with pytest.raises(KeyboardInterrupt):
            edgy(kind, state=tmp_path, state_interval=4)
    assert torch.load(tmp_path / 'batch0_restart0.pth')['running']['step'] == at
    resumed = edgy(kind, state=tmp_path)
    np.testing.assert_array_equal(resumed.images, expected.images)
    np.testing.assert_array_equal(resumed.frames, expected.frames)
    assert resumed.terms == expected.terms
    assert resumed.history == expected.history


def test_paper_is_judged_by_pixels_that_are_valid():
    """Its images are those of 8 bits; cut off at the end only, they are others than it found."""
    found = edgy('paper')
    assert objective_of(found) <= 1.05 * min(found.history['objective'])
    assert objective_of(found) < 0.7 * objective_of(edgy('paper', clip=False))


@pytest.fixture
def warned(monkeypatch):
    """What the search warned of."""
    messages = []

    def print_log(message, logger, level=logging.INFO):
        if level == logging.WARNING:
            messages.append(message)

    monkeypatch.setattr('mmarcface.apis.inversion.search.print_log', print_log)
    return messages


def test_what_got_no_better_says_so(warned, tmp_path):
    """Than gray, which nothing is nearer to than what it starts from."""
    nothing = dict(target_weight=0.0, center_weight=0.0, bn_weight=0.0, tv_weight=0.0)
    found = search(**nothing, l2_weight=1.0, init_std=0.0)
    assert found.converged is False
    (message,) = warned
    assert 'for 2 of 2 targets, the first of them target 0, got no better than its sta' in message
    assert 'the objective of its batch was 0 and is 0.0' in message
    assert save_inversion(found, tmp_path)['converged'] is False
    assert json.loads((tmp_path / 'report.json').read_text())['converged'] is False
    warned.clear()
    assert search(**nothing, l2_weight=1.0).report()['converged'] is True
    assert not warned


def test_what_got_no_better_is_named(warned, monkeypatch):
    """Of three batches the second, in its first restart; unless another did better."""
    run = _Search.run

    def fail(search, unit, *rest):
        result = run(search, unit, *rest)
        if unit == WorkItem(1, 0):
            result['ended_at'] = result['began_at']
            result['terms']['objective'] = [1e9, 1e9]
        return result

    monkeypatch.setattr(_Search, 'run', fail)
    assert not search([0, 1, 2, 3, 4, 0], batch_size=2).converged
    (message,) = warned
    assert 'for 2 of 6 targets, the first of them target 2, got no better' in message
    warned.clear()
    assert search([0, 1, 2, 3, 4, 0], batch_size=2, restarts=2).converged
    assert not warned


def test_seed_decides():
    first, same, other = (search(seed=seed).images for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert (first != other).mean() > 0.5


@pytest.mark.parametrize('head', ['tensor', nn.Linear(WIDTH, CLASSES), None])
def test_global_random_numbers_are_not_touched(head):
    targets = weight() if head is None else [0, 1]
    head = weight() if isinstance(head, str) else head
    torch.manual_seed(1)
    np.random.seed(1)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    search(targets, head=head, restarts=2, jitter=1, flip=True)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize('fails', [False, True])
def test_model_is_left_as_it_was(fails, monkeypatch):
    model, head = Tiny(), SoftmaxHead(CLASSES, WIDTH)
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    head.bias.requires_grad_(False)
    model[3].weight.grad = torch.ones_like(model[3].weight)
    head.train()
    modules = [*model.modules(), *head.modules()]
    parameters = [*model.parameters(), *head.parameters()]
    before = [m.training for m in modules], [p.requires_grad for p in parameters]
    weights = [v.clone() for m in (model, head) for v in m.state_dict().values()]
    if fails:
        monkeypatch.setattr(InversionModel, 'class_loss', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            search(model=model, head=head)
    else:
        search(model=model, head=head)
    assert ([m.training for m in modules], [p.requires_grad for p in parameters]) == before
    for value, expected in zip(
        [v for m in (model, head) for v in m.state_dict().values()], weights, strict=True
    ):
        assert torch.equal(value, expected)
    assert (model[3].weight.grad == 1).all()
    assert model[0].weight.grad is None
    assert not any(m._forward_pre_hooks for m in modules)


# Targets.


@pytest.mark.parametrize(
    'labels',
    [
        (2, 0),
        torch.tensor([2, 0]),
        torch.tensor([2, 0], dtype=torch.uint8),
        np.array([2, 0], np.int32),
        [np.int64(2), np.int64(0)],
    ],
)
def test_kinds_of_labels(labels):
    found = search(labels, steps=2)
    np.testing.assert_array_equal(found.images, search([2, 0], steps=2).images)
    assert found.labels == [2, 0]


def test_kinds_of_embeddings():
    vectors = weight()[:2]
    expected = search(vectors, head=None, steps=2).images
    for same in (vectors.numpy(), vectors.tolist(), 100 * vectors.double(), [*vectors.numpy()]):
        np.testing.assert_array_equal(search(same, head=None, steps=2).images, expected)
    assert (search(-vectors, head=None, steps=2).images != expected).any()


def test_images_as_targets(orl, tmp_path):
    model = built(RETRIEVER, size=16)
    paths = [orl / 's1' / '1.pgm', orl / 's2' / '1.pgm']
    arrays = [cv2.imread(str(path)) for path in paths]
    embeddings = []
    for array in arrays:
        small = cv2.resize(array, (16, 16), interpolation=cv2.INTER_AREA)[..., ::-1]
        mean, std = np.array([120.0, 130, 140]), np.array([60.0, 70, 80])
        normal = torch.from_numpy(((small - mean) / std).transpose(2, 0, 1)).float()
        with torch.no_grad():
            embeddings.append(model.extract_feat(normal[None])[-1][0])
    expected = invert(model, torch.stack(embeddings), **QUICK)
    for targets in (paths, [str(path) for path in paths], arrays, [paths[0], arrays[1]]):
        found = invert(model, targets, **QUICK)
        # Equal but for rounding of the embeddings.
        assert abs(found.images.astype(int) - expected.images).max() <= 2
        assert found.labels is None
    (tmp_path / 'no.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'no\.png'):
        invert(model, [tmp_path / 'no.png'], **QUICK)
    with pytest.raises(FileNotFoundError, match=r'missing\.png'):
        invert(model, ['missing.png'], **QUICK)
    with pytest.raises(ValueError, match='images as targets need the test pipeline'):
        search(arrays)


# Models and heads.


@pytest.mark.parametrize('model', [RETRIEVER, RESNET, EFFICIENTNET], ids=['ours', 'r18', 'b0'])
def test_models_of_mmpretrain(model):
    size = 16 if model is RETRIEVER else 32
    model = built(model, size)
    given = {} if size == 16 else dict(input_size=(size, size + 1))
    found = invert(model, [1, 3], **QUICK | dict(steps=6, lr=0.1), **given)
    assert found.images.shape == (2, size, given.get('input_size', (16, 16))[1], 3)
    assert found.history['objective'][-1] < found.history['objective'][0]
    rgb = torch.from_numpy(found.images[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    mean, std = torch.tensor([120.0, 130, 140]), torch.tensor([60.0, 70, 80])
    normal = (rgb - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        embeddings = nn.functional.normalize(model.extract_feat(normal)[-1])
    centers = model.head.weight if hasattr(model.head, 'weight') else model.head.fc.weight
    cosines = (embeddings * nn.functional.normalize(centers[[1, 3]])).sum(1)
    np.testing.assert_allclose(found.terms['cosine'], cosines.detach(), atol=1e-4)
    wrapped = invert(nn.DataParallel(model), [1], **QUICK | dict(steps=1), **given)
    assert wrapped.labels == [1]


def test_activation_checkpointing_changes_nothing():
    plain, checkpointed = built(RETRIEVER, 16), built(RETRIEVER, 16)
    checkpointed.image_encoder.with_cp = True
    expected = invert(plain, [1, 3], **QUICK).images
    np.testing.assert_array_equal(invert(checkpointed, [1, 3], **QUICK).images, expected)


def test_heads_of_a_bare_module():
    linear = nn.Linear(WIDTH, CLASSES)
    ours = SoftmaxHead(CLASSES, WIDTH)
    theirs = LinearClsHead(CLASSES, WIDTH)
    for layer in (ours, theirs.fc):
        layer.load_state_dict(linear.state_dict())
    images = [search(head=head).images for head in (linear, ours, theirs)]
    np.testing.assert_array_equal(images[0], images[1])
    assert abs(images[0].astype(int) - images[2]).max() <= 2

    arcface = ArcFaceHead(CLASSES, WIDTH)
    with torch.no_grad():
        arcface.weight.copy_(weight())
    given = [weight(), nn.Parameter(weight()), arcface]
    expected, *others = (search(head=head).images for head in given)
    for other in others:
        np.testing.assert_array_equal(other, expected)
    assert (expected != images[0]).any()
    without_bias = nn.Linear(WIDTH, CLASSES, bias=False)
    search(head=without_bias, steps=1)


@pytest.mark.parametrize('name', HEADS)
def test_every_head_gives_the_term_of_a_class(name):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = MODELS.build(dict(type=f'mmarcface.{name}', num_classes=CLASSES, in_channels=WIDTH))
    with torch.no_grad():
        head.weight.copy_(torch.randn_like(head.weight))
    head.train()
    buffers = {key: value.clone() for key, value in head.state_dict().items()}
    state = torch.get_rng_state()
    changes = dict(steps=30, lr=0.05, schedule='constant', clip=False)
    changes |= dict(center_weight=0.0, bn_weight=0.0, tv_weight=0.0, l2_weight=0.0)
    found = search([0, 4], head=head, **changes)
    assert found.history['target'][-1] < found.history['target'][0]
    assert found.history['objective'] == found.history['target']
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in head.state_dict().items():
        assert torch.equal(value, buffers[key]), key
    again = search([0, 4], head=head, **changes)
    np.testing.assert_array_equal(again.images, found.images)
    assert again.terms == found.terms


# Settings.


def test_gray_images_are_gray():
    found = search(gray=True, mean=[100.0, 120, 140], std=[50.0, 60, 70], steps=3)
    assert (found.images == found.images[..., :1]).all()
    assert found.images.std() > 10
    colored = search(mean=[100.0, 120, 140], std=[50.0, 60, 70], steps=3).images
    assert (colored != colored[..., :1]).any()


@pytest.mark.parametrize('gray', [False, True])
def test_one_channel(gray):
    found = search(model=Tiny(channels=1), gray=gray)
    assert found.images.shape == (2, SIZE, SIZE, 3)
    assert (found.images == found.images[..., :1]).all()
    again = search(model=Tiny(channels=1), gray=not gray)
    np.testing.assert_array_equal(found.images, again.images)


@pytest.mark.parametrize('gray', [False, True])
def test_clip_keeps_pixels_valid(gray, tmp_path):
    """Seen at the last state before the end, which has the pixels as they are."""
    channels = dict(mean=[100.0, 120, 140], std=[50.0, 60, 70])
    mean, std = (np.array(values).reshape(3, 1, 1) for values in channels.values())
    if gray:
        mean, std = mean.mean(), std.mean()
    outside = {}
    for clip in (True, False):
        state = tmp_path / str(clip)
        with pytest.raises(KeyboardInterrupt):
            interrupted(state, at=8, clip=clip, gray=gray, init_std=5.0, **channels)
        (path,) = state.glob('*.pth')
        pixels = torch.load(path)['running']['pixels'].numpy() * std + mean
        outside[clip] = max(pixels.max() - 255, -pixels.min())
    assert outside[True] < 1e-3
    assert outside[False] > 20


def stop_after(patch, at):
    save = SearchState.save

    def save_and_stop(search_state, unit, step, *rest):
        save(search_state, unit, step, *rest)
        if step >= at:
            raise KeyboardInterrupt

    patch.setattr(SearchState, 'save', save_and_stop)


def interrupted(state, at, **changes):
    """Stop a search as Ctrl-C does, when it has written ``at`` steps."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, at)
        return search(**dict(steps=20, state=state, state_interval=4) | changes)


def test_coarse_stages_are_coarse(tmp_path):
    """With two halvings the first quarter of the steps has a quarter of the resolution."""
    for at, side in ((4, 3), (8, 6), (12, 12), (16, 12)):
        with pytest.raises(KeyboardInterrupt):
            interrupted(tmp_path, at, halvings=2)
        (path,) = tmp_path.glob('*.pth')
        saved = torch.load(path)['running']
        assert saved['step'] == at
        # Resized in the step after.
        assert saved['pixels'].shape == (2, 3, side, side)


def test_scale_of_steps():
    twice = InversionSettings(steps=100, halvings=2)
    assert [twice.scale(step) for step in (0, 24, 25, 49, 50, 99)] == [4, 4, 2, 2, 1, 1]
    assert {InversionSettings(steps=9).scale(step) for step in range(9)} == {1}
    # More stages than steps, or than pixels.
    assert [InversionSettings(steps=1, halvings=9).scale(0)] == [1]
    found = search(steps=20, halvings=9)
    assert found.images.shape == (2, SIZE, SIZE, 3)


def test_learning_rate():
    cosine = InversionSettings(steps=100, lr=0.4, schedule='cosine')
    rates = [cosine.learning_rate(step) for step in (0, 50, 99)]
    assert rates == [0.4, pytest.approx(0.2), pytest.approx(0, abs=1e-3)]
    constant = InversionSettings(steps=100, lr=0.4)
    assert constant.learning_rate(99) == 0.4


MOVES = [(y, x, flip) for y in (-1, 0, 1) for x in (-1, 0, 1) for flip in (False, True)]


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        (dict(), [(0, 0, False)]),
        (dict(jitter=1), [move for move in MOVES if not move[2]]),
        (dict(flip=True), [(0, 0, False), (0, 0, True)]),
    ],
)
def test_jitter_and_flip_move_what_the_model_sees(changes, expected):
    model, seen = Tiny(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    # Without a step that changes the image.
    found = search(weight()[:1], model, head=None, lr=0.0, init_std=0.2, steps=60, **changes)
    # A probe, the steps, and the result.
    assert len(seen) == 62
    start = InversionModel.of(Tiny(), None, SIZE).from_pixels(torch.from_numpy(found.images))
    moved = {}
    for y, x, flip in MOVES:
        image = np.roll(start.numpy(), (y, x), (2, 3))
        moved[y, x, flip] = image[..., ::-1] if flip else image
    made = set()
    for image in seen[1:61]:
        # But for the rounding of pixels.
        near = [move for move, one in moved.items() if abs(image.numpy() - one).max() < 0.005]
        assert len(near) == 1
        made |= set(near)
    assert sorted(made) == sorted(expected)


@pytest.mark.parametrize('variant', BN_PRIORS)
def test_bn_prior_brings_statistics_nearer(variant):
    changes = dict(steps=100, lr=0.05, center_weight=0.0, tv_weight=0.0, l2_weight=0.0)
    changes |= dict(bn_variant=variant, init_std=1.0, clip=True)
    ends = [search(**changes, bn_weight=weight).terms['bn'][0] for weight in (1e-6, 5.0)]
    assert ends[1] < 0.6 * ends[0]
    assert 'bn' not in search(bn_weight=0.0, steps=1).terms


def test_weight_zero_does_without_bn():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 10 * 10, WIDTH))
    found = search(model=model, bn_weight=0)
    assert 'bn' not in found.terms
    assert 'bn' not in found.history
    with pytest.raises(ValueError, match='has no batch normalization with running statistics'):
        search(model=model)
    untrained = nn.Sequential(nn.BatchNorm2d(3), *model)
    with pytest.raises(ValueError, match='as before any training'):
        search(model=untrained)


def test_best_restart_of_each_image_is_kept(tmp_path):
    """Of ten images, one by one, against what the state says of every restart."""
    targets = [0, 1, 2, 3, 4] * 2
    changes = dict(restarts=4, steps=4, lr=0.02, state=tmp_path, init_std=1.5, seed=1)
    found = search(targets, **changes)
    results = [torch.load(tmp_path / f'batch0_restart{r}.pth')['result'] for r in range(4)]
    objectives = np.array([result['terms']['objective'] for result in results])
    best = objectives.argmin(0)
    # Or the test would not tell the best from the first.
    assert len(set(best.tolist())) > 2
    assert found.terms['restart'] == best.tolist()
    for row, restart in enumerate(best):
        np.testing.assert_array_equal(found.images[row], results[restart]['images'][row])
        for name in ('objective', 'cosine', 'target', 'bn', 'l2'):
            assert found.terms[name][row] == results[restart]['terms'][name][row]
    # The first restart is the search without others.
    alone = search(targets, **changes | dict(restarts=1, state=None))
    np.testing.assert_array_equal(alone.images, results[0]['images'])
    np.testing.assert_array_equal(alone.terms['objective'], objectives[0])


def test_batches():
    found = search([0, 1, 2, 3, 4], batch_size=3)
    assert found.images.shape[0] == 5
    assert found.labels == [0, 1, 2, 3, 4]
    assert all(len(values) == 5 for values in found.terms.values())
    bn = found.terms['bn']
    assert bn[0] == bn[1] != bn[2] == bn[3] == bn[4]
    # A batch knows nothing of the others.
    np.testing.assert_array_equal(search([0, 1], batch_size=3).images, found.images[:2])
    other = search([3, 3, 2, 3, 4], batch_size=3)
    np.testing.assert_array_equal(other.images[2:], found.images[2:])
    assert (other.images[0] != found.images[0]).any()
    cosines = embed(Tiny(), found.images) * nn.functional.normalize(weight())
    np.testing.assert_allclose(found.terms['cosine'], cosines.sum(1), atol=1e-5)


WRONG = dict(
    steps=[0, -1, 1.5, True, '3', None],
    restarts=[0, 2.0],
    batch_size=[0, None],
    halvings=[-1, 0.5],
    jitter=[-1, 0.5],
    lr=[-0.1, math.nan, math.inf, '1', None, True],
    init_std=[-1, math.nan],
    target_weight=[-1, math.nan],
    center_weight=[-1, math.inf],
    bn_weight=[-0.1, None],
    tv_weight=[-1],
    l2_weight=[-1],
    schedule=['linear', None],
    bn_variant=['best'],
    tv_variant=[2],
    flip=['no', 2],
    clip=['no', None],
    gray=['no', 0.5],
    state_interval=[0, -1, 1.5],
    preset=['best', None],
)


@pytest.mark.parametrize(('name', 'value'), [(n, v) for n, vs in WRONG.items() for v in vs])
def test_wrong_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f'^{name} must be .*got {value!r}'):
        search(**{name: value})


def test_an_objective_without_terms_is_refused():
    names = ('target', 'center', 'bn', 'tv', 'l2')
    with pytest.raises(ValueError, match='one of the weights must be above 0, got 0 for each'):
        search(**{f'{name}_weight': 0 for name in names})


def test_unknown_settings_are_refused():
    with pytest.raises(TypeError, match=r"there is no setting 'step'; there are steps, lr, .*gray"):
        search(step=3)


def test_progress_is_shown_or_not(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    search(progress=False)
    assert capsys.readouterr().out == ''
    search(progress=True)
    shown = capsys.readouterr().out
    assert '100%' in shown
    for term in ('total', 'target', 'center', 'bn', 'tv', 'l2'):
        assert f'{term} ' in shown


# What is refused.


@pytest.mark.parametrize(
    ('targets', 'message'),
    [
        ([0, 5], r'target classes must be in \[0, 5\), got 5'),
        ([-1], r'target classes must be in \[0, 5\), got -1'),
        ([], 'there are no targets'),
        (np.zeros((0, WIDTH)), 'there are no targets'),
        ([True, False], r'targets must be classes .* got torch.bool of shape \(2,\)'),
        ([0.5, 1.0], r'targets must be classes .* got torch.float64 of shape \(2,\)'),
        ([[0, 1], [2, 3]], r'targets must be classes .* got torch.int64 of shape \(2, 2\)'),
        (np.int64(3), r'targets must be classes .* shape \(\)'),
        (np.zeros((2, 4, 4, 3), np.uint8), r'targets must be classes .*torch.uint8 of shape'),
        (np.ones((2, WIDTH + 1)), 'target embeddings are 7 wide and those of the model 6'),
        ([[1.0] * WIDTH, [math.nan] * WIDTH], 'target embedding 1 has the norm nan'),
        ([[1.0] * WIDTH, [math.inf] * WIDTH], 'target embedding 1 has the norm inf'),
        ([[0.0] * WIDTH], 'target embedding 0 has the norm 0.0: it must be finite and not zero'),
        (np.ones((1, WIDTH), complex), 'targets must be classes'),
        ('face.png', 'targets must be classes'),
        (['a', 3], 'images as targets need the test pipeline'),
        (None, 'targets must be classes'),
        ([None], 'targets must be classes'),
        ([[0.0], [0.0, 1.0]], 'targets must be classes'),
        ({1, 2}, 'targets must be classes'),
    ],
)
def test_wrong_targets(targets, message):
    with pytest.raises(ValueError, match=message):
        search(targets)


def test_models_that_do_not_fit():
    with pytest.raises(ValueError, match=r'Tiny has no head, and so no classes: give head='):
        search(head=None)
    with pytest.raises(ValueError, match=r'classes of the head are 7 wide and the embed.* 6'):
        search(head=torch.ones(CLASSES, 7))
    with pytest.raises(ValueError, match=r'Tiny does not take images of \(13, 15\) \(height'):
        search(input_size=(13, 15))
    with pytest.raises(ValueError, match='Tiny does not say how large its images are'):
        search(input_size=None)
    with pytest.raises(ValueError, match=r'input_size must be positive, got \(0, 12\)'):
        search(input_size=(0, 12))
    retriever = built(RETRIEVER, 16)
    with pytest.raises(ValueError, match=r'does not take images of .* input_size that this IRes'):
        invert(retriever, [0], input_size=20, **QUICK)
    with pytest.raises(ValueError, match='add a pooling neck'):
        search(weight(), nn.Sequential(*list(Tiny())[:5], nn.Flatten(2)), head=None)
    with pytest.raises(ValueError, match='Sequential has no parameters: nothing was learned'):
        search(model=nn.Sequential(nn.Flatten()))
    broken = Tiny()
    broken[0].weight.data[0] = math.nan
    with pytest.raises(ValueError, match='gives embeddings that are not finite'):
        search(model=broken)
    with pytest.raises(ValueError, match=r'the center of class 1 is zero: it was never learned'):
        search(head=weight() * torch.tensor([1.0, 0, 1, 1, 1])[:, None])
    with pytest.raises(ValueError, match='the weight of the head is not finite'):
        search(head=weight() / 0)
    for wrong in (nn.Conv2d(3, 3, 3), weight()[0], weight().long(), [1.0]):
        with pytest.raises(TypeError, match='head must be a classification head, a linear layer'):
            search(head=wrong, input_size=SIZE)
    for name in ('mean', 'std'):
        with pytest.raises(ValueError, match=rf'{name} must have one value or 3, one a channel'):
            search(**{name: [1.0, 2.0]})
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match='std must be positive'):
            search(std=[wrong])


@pytest.mark.parametrize('given', [dict(mean=[100.0, 120, 140]), dict(std=[50.0]), dict(std=(58,))])
def test_mean_and_std_come_together(given):
    (name,) = given
    message = rf'mean and std must be given together for Tiny, .* got {name} alone'
    with pytest.raises(ValueError, match=message):
        search(**given)
    raw = Tiny()
    raw.data_preprocessor = nn.Module()
    with pytest.raises(ValueError, match=message):
        search(model=raw, **given)
    # A model that normalizes has the other.
    built_in = InversionModel.of(built(RETRIEVER, 16), **given)
    own = dict(mean=[120, 130, 140], std=[60, 70, 80]) | given
    for key, values in own.items():
        wanted = torch.tensor(values, dtype=torch.float).expand(3)
        assert torch.equal(getattr(built_in, key).flatten(), wanted)
    both = InversionModel.of(Tiny(), None, SIZE, np.array([100.0]), np.array([50.0]))
    assert both.mean.flatten().tolist() == [100] * 3


def test_scale_of_a_bare_weight(monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmarcface.apis.inversion.model.print_log', lambda message, _: said.append(message)
    )

    def losses(**given):
        return search(steps=1, lr=0.0, **given).history['target']

    def head(**given):
        built = ArcFaceHead(CLASSES, WIDTH, **given)
        built.weight.data = weight()
        return built

    assert losses(scale=8) == losses(head=head(scale=8.0)) != losses(head=head())
    assert not said
    assert losses() == losses(head=head())
    (message,) = said
    assert 'ArcFace with a scale of 64: give scale= for' in message
    for other in (head(), nn.Linear(WIDTH, CLASSES), LinearClsHead(CLASSES, WIDTH), None):
        with pytest.raises(ValueError, match='scale is for a head given as its weight alone, got'):
            search(head=other, scale=8.0)
    for wrong in (0, -1.0, math.nan, math.inf, '16', True):
        with pytest.raises(ValueError, match=rf'^scale must be .* got {wrong!r}'):
            search(scale=wrong)


def test_divergence_is_told_with_its_step():
    for targets, head in (([0], 'given'), (weight()[:1], None)):
        with pytest.raises(ValueError, match=r'the search diverged at step [1-9]\d? \(.*lower lr'):
            search(targets, head=head, lr=1e30, clip=False, steps=30)


def test_companions_are_searched_for_and_not_returned():
    """As targets of the same batch, behind the others."""
    alone, beside = search([0, 1]), search([0, 1], companions=[2, 3, 4])
    together = search([0, 1, 2, 3, 4])
    np.testing.assert_array_equal(beside.images, together.images[:2])
    assert (beside.images != alone.images).any()
    assert beside.terms['bn'] == together.terms['bn'][:2]
    assert beside.labels == [0, 1]
    assert beside.frames.shape[1] == 2
    few = search([0, 1, 0], companions=[2, 3], batch_size=2)
    assert few.images.shape[0] == 3
    of_embeddings = search(weight()[:2], companions=[2, 3, 4])
    assert (of_embeddings.images != search(weight()[:2]).images).any()
    with pytest.raises(ValueError, match=r'target classes must be in \[0, 5\), got 5'):
        search([0, 1], companions=[5])


def test_heads_of_mmpretrain_have_centers():
    head = ArcFaceClsHead(CLASSES, WIDTH, num_subcenters=2)
    assert class_centers(head).shape == (CLASSES, 2, WIDTH)
    found = search(head=head)
    assert {'center', 'cosine'} <= set(found.terms)


def test_pull_to_centers_that_there_are_not_is_refused():
    class Headless(ClsHead):
        def forward(self, feats):
            return feats[-1]

    with pytest.raises(ValueError, match=r'Headless has no centers .* center_weight=0'):
        search(head=Headless())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.double])
def test_models_of_other_types(dtype):
    found = search(model=Tiny().to(dtype))
    assert np.isfinite(found.terms['objective']).all()


def test_last_batch_is_no_remainder():
    """Of 5 in batches of at most 4: 2 and 3, not 4 and 1."""
    bn = search([0, 1, 2, 3, 4], batch_size=4).terms['bn']
    assert [bn.count(value) for value in bn] == [2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ('objective', 'than', 'expected'),
    [(1, 2, True), (2, 1, False), (1, 1, False), (math.nan, 1, False), (1, math.nan, True)],
)
def test_nan_is_never_better(objective, than, expected):
    assert _is_better(objective, than) is expected


def test_a_given_std_counts_beside_the_own_mean():
    net = InversionModel.of(built(RETRIEVER, 16), std=[10.0, 20, 30])
    assert net.std.flatten().tolist() == [10, 20, 30]
    assert net.mean.flatten().tolist() == [120, 130, 140]


def test_autocast_and_no_grad_around_it():
    expected = search(weight()[:2], head=None)
    with torch.autocast('cpu', torch.bfloat16):
        found = search(weight()[:2], head=None)
    assert (found.images != expected.images).any()
    for name in ('objective', 'bn', 'total_variation'):
        np.testing.assert_allclose(found.terms[name], expected.terms[name], rtol=0.1)
    with torch.autocast('cpu', torch.bfloat16):
        assert search(steps=1).terms['objective'][0] > 0
    with torch.no_grad():
        found = search(weight()[:2], head=None)
    np.testing.assert_array_equal(found.images, expected.images)


# States.

HALFWAY = """
import sys
import torch
torch.set_num_threads(1)
from tests.apis.inversion.test_search import search
search(steps=int(sys.argv[2]), halvings=1, jitter=1, flip=True, restarts=2, state=sys.argv[1],
       state_interval=5)
"""


def test_killed_and_gone_on(tmp_path):
    """kill -9 in the middle of the second restart."""
    steps, state = 500, tmp_path / 'state'
    changes = dict(steps=steps, halvings=1, jitter=1, flip=True, restarts=2)
    program = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', HALFWAY, str(state), str(steps)],
        cwd=ROOT,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
    )
    second = state / 'batch0_restart1.pth'
    while not second.exists():
        assert program.poll() is None
        time.sleep(0.02)
    program.kill()
    program.wait()
    saved = torch.load(second)['running']
    assert 0 < saved['step'] < steps
    assert torch.load(state / 'batch0_restart0.pth')['result']['images'].shape == (2, 12, 12, 3)
    resumed = search(**changes, state=state, state_interval=500)
    expected = search(**changes)
    np.testing.assert_array_equal(resumed.images, expected.images)
    np.testing.assert_array_equal(resumed.frames, expected.frames)
    assert resumed.terms == expected.terms
    assert resumed.history == expected.history
    # Nothing is left to do.
    started = time.perf_counter()
    again = search(**changes, state=state)
    assert time.perf_counter() - started < 0.3 * expected.seconds
    np.testing.assert_array_equal(again.images, expected.images)
    assert again.seconds == resumed.seconds > 0


@pytest.mark.parametrize('at', [4, 8, 12, 16])
def test_interrupted_at_any_stage(tmp_path, at):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, at, halvings=2, jitter=1)
    changes = dict(steps=20, halvings=2, jitter=1)
    resumed = search(**changes, state=tmp_path)
    np.testing.assert_array_equal(resumed.images, search(**changes).images)


@pytest.mark.parametrize(
    'changes',
    [
        dict(steps=9),
        dict(tv_weight=0.5),
        dict(seed=1),
        dict(targets=[1, 0]),
        dict(targets=weight()[:2]),
        dict(model=Tiny(seed=1)),
        dict(head=weight(2)),
        dict(head=nn.Linear(WIDTH, CLASSES)),
        dict(input_size=(11, 12)),
        dict(mean=[100.0], std=[127.5]),
        dict(scale=8.0),
    ],
)
def test_states_of_another_search_are_refused(tmp_path, changes):
    search(state=tmp_path)
    with pytest.raises(ValueError, match=r'batch0_restart0.pth is of another inversion \(other'):
        search(**changes, state=tmp_path)


def test_states_of_another_margin_are_refused(tmp_path):
    heads = [ArcFaceHead(CLASSES, WIDTH), ArcFaceHead(CLASSES, WIDTH, margin=0.1)]
    heads += [ArcFaceHead(CLASSES, WIDTH, scale=8.0)]
    for head in heads:
        head.weight.data = weight()
    search(head=heads[0], state=tmp_path)
    for head in heads[1:]:
        with pytest.raises(ValueError, match='is of another inversion'):
            search(head=head, state=tmp_path)


def test_other_embeddings_are_another_search(tmp_path):
    search(weight()[:2], head=None, state=tmp_path)
    # The same directions.
    search(weight()[:2] * 2, head=None, state=tmp_path)
    with pytest.raises(ValueError, match='is of another inversion'):
        search(weight()[1:3], head=None, state=tmp_path)


@pytest.mark.parametrize('kind', ['cut short', 'empty', 'other', 'malicious', 'list'])
def test_damaged_states_are_refused(tmp_path, kind):
    search(state=tmp_path)
    path = tmp_path / 'batch0_restart0.pth'
    if kind == 'cut short':
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'other':
        torch.save(dict(steps=3), path)
    elif kind == 'list':
        torch.save([1, 2], path)
    else:
        torch.save(dict(identity=Malicious()), path)
    with pytest.raises(
        ValueError, match=r'(?s)restart0.pth is damaged .* delete it to start again'
    ):
        search(state=tmp_path)


class Malicious:
    def __reduce__(self):
        return os.system, ('touch was-here',)


# Processes.


def work_in_group(rank, world, state):
    found = search([0, 1, 2], batch_size=2, restarts=2, state=state, flip=True)
    alone = search([0], steps=2)
    return found.images, found.terms, found.labels, found.frames, found.history, alone.images


@pytest.fixture
def one_thread():
    """As the processes of a group have, since the sums of several threads round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures('one_thread')
def test_processes_share_the_work(on_processes, tmp_path):
    """Two batches, each from two starts; and one that leaves the second process without work."""
    expected = search([0, 1, 2], batch_size=2, restarts=2, flip=True)
    results = on_processes(work_in_group, tmp_path / 'state')
    for images, terms, labels, frames, history, alone in results:
        np.testing.assert_array_equal(alone, search([0], steps=2).images)
        np.testing.assert_array_equal(images, expected.images)
        np.testing.assert_array_equal(frames, expected.frames)
        assert terms == expected.terms
        assert history == expected.history
        assert labels == [0, 1, 2]
    assert len(list((tmp_path / 'state').glob('*'))) == 4


# Reports and files.


@pytest.mark.parametrize('targets', [[0, 3], weight()[:2]])
def test_report_is_json(targets):
    found = search(np.array(targets), bn_weight=0.0)
    report = found.report()
    assert json.loads(json.dumps(report)) == report
    assert report['number'] == 2
    assert report['means']['objective'] == pytest.approx(np.mean(found.terms['objective']))
    assert 'restart' not in report['means']
    assert report['settings'] == asdict(found.settings)
    assert report['settings']['steps'] == 8
    assert report['seed'] == 0
    assert report['labels'] == ([0, 3] if isinstance(targets, list) else None)


def test_history_and_frames_stay_short():
    found = search(steps=250)
    steps = found.history['step']
    assert steps[:3] == [0, 3, 6]
    assert steps[-1] == 249
    assert {len(values) for values in found.history.values()} == {len(steps)}
    assert len(found.frames) == 24
    assert found.frames.shape[1:] == (2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(found.frames[-1], found.images)
    assert (found.frames[0] != found.frames[-1]).mean() > 0.5


@pytest.mark.parametrize(('channels', 'to_rgb'), [(3, True), (3, False), (1, False), (1, True)])
def test_pixels_and_back(channels, to_rgb):
    model = Tiny(channels)
    model.data_preprocessor = nn.Module()
    model.data_preprocessor.to_rgb = to_rgb
    mean, std = [100.0, 120, 140][:channels], [50.0, 60, 70][:channels]
    net = InversionModel.of(model, None, SIZE, mean, std)
    pixels = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    if channels == 1:
        pixels = pixels[..., :1].expand(-1, -1, -1, 3)
    images = net.from_pixels(pixels)
    assert images.shape == (2, channels, SIZE, SIZE)
    # Blue comes last in RGB.
    blue = 2 if channels == 3 and to_rgb else 0
    expected = (pixels[1, 4, 5, 0].item() - mean[blue]) / std[blue]
    assert images[1, blue, 4, 5].item() == pytest.approx(expected, abs=1e-6)
    found = net.to_pixels(images)
    assert found.is_contiguous()
    assert torch.equal(found, pixels)
    # Rounded to the nearest, and what is outside to the ends.
    step = 1 / torch.tensor(std).view(-1, 1, 1)
    inner = (pixels > 0) & (pixels < 255)
    assert torch.equal(net.to_pixels(images + 0.4 * step)[inner], pixels[inner])
    assert torch.equal(net.to_pixels(images + 0.6 * step)[inner], (pixels + 1)[inner])
    assert (net.to_pixels(images + 300 * step) == 255).all()
    assert (net.to_pixels(images - 300 * step) == 0).all()


def test_preprocessors_say_what_a_pixel_is():
    net = InversionModel.of(built(RETRIEVER, 16))
    assert net.size == (16, 16)
    assert net.mean.flatten().tolist() == [120, 130, 140]
    assert net.std.flatten().tolist() == [60, 70, 80]
    assert net.rgb
    bare = InversionModel.of(Tiny(), weight(), SIZE)
    assert bare.mean.flatten().tolist() == bare.std.flatten().tolist() == [127.5] * 3
    assert list(batch_norm_layers(bare.model)) == ['1', '4']


# Embeddings of files.


def test_embeddings_are_read(tmp_path):
    vectors = weight()
    np.save(tmp_path / 'a.npy', vectors.double().numpy())
    torch.save(vectors.half(), tmp_path / 'b.pth')
    torch.save(dict(embeddings=vectors, fingerprint='x'), tmp_path / 'c.pth')
    # As tools/test.py --out writes them.
    dump = DumpResults(str(tmp_path / 'd.pkl'))
    samples = [
        dict(
            embedding=vector.clone(),
            gt_label=torch.tensor([3]),
            img_path='x.png',
            num_classes=5,
            scale_factor=(0.5, 2.0),
        )
        for vector in vectors
    ]
    dump.process(None, samples)
    dump.evaluate(size=CLASSES)
    for name in 'a.npy', 'b.pth', 'c.pth', 'd.pkl':
        found = read_embeddings(tmp_path / name)
        assert found.dtype == torch.float
        rtol = 1e-3 if name == 'b.pth' else 0
        torch.testing.assert_close(found, vectors, rtol=rtol, atol=rtol)
    torch.testing.assert_close(read_embeddings(str(tmp_path / 'a.npy')), vectors)


def test_wrong_embeddings_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'there are no embeddings .*a\.npy'):
        read_embeddings(tmp_path / 'a.npy')
    with pytest.raises(ValueError, match=r'must be in a file .pkl, .npy, .pth, got .*a\.csv'):
        read_embeddings(tmp_path / 'a.csv')
    for suffix in ('pkl', 'npy', 'pth'):
        path = tmp_path / f'a.{suffix}'
        for content in (b'', b'not this', b'\x80\x04', b'\x80\x04K', b'PK\x03\x04'):
            path.write_bytes(content)
            with pytest.raises(ValueError, match='cannot be read as embeddings'):
                read_embeddings(path)
    for content in ([Malicious()], Malicious(), [dict(embedding=Malicious())]):
        (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=r'it would run posix\.system'):
            read_embeddings(tmp_path / 'a.pkl')
        torch.save(content, tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='cannot be read as embeddings'):
            read_embeddings(tmp_path / 'a.pth')
        np.save(tmp_path / 'a.npy', np.array([content], object), allow_pickle=True)
        with pytest.raises(ValueError, match='cannot be read as embeddings'):
            read_embeddings(tmp_path / 'a.npy')
    assert not (tmp_path / 'was-here').exists()
    for content in ([1, 2], [], [dict(other=3)], dict(embedding=3), None):
        (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match='cannot be read as embeddings'):
            read_embeddings(tmp_path / 'a.pkl')
    for content in (dict(state_dict=weight()), [weight()], 3):
        torch.save(content, tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='holds no embeddings but'):
            read_embeddings(tmp_path / 'a.pth')
    for content in (weight()[0], weight().long(), weight().bool()):
        torch.save(content, tmp_path / 'a.pth')
        with pytest.raises(ValueError, match=r'must hold embeddings \(N, D\), numbers, got'):
            read_embeddings(tmp_path / 'a.pth')


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_predictions_are_refused_or_read(data, tmp_path):
    """Some bytes changed, or cut short: either a ValueError, or still numbers."""
    path = tmp_path / 'a.pkl'
    DumpResults(str(path)).compute_metrics([dict(embedding=row.clone()) for row in weight()])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read_embeddings(path)
    except ValueError:
        return
    assert found.dim() == 2
    assert found.dtype == torch.float


# A folder of an inversion.


def inversion_of(number=6, labels=(2, 2, 2, 7, 7, 7), frames=3):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (number, 8, 6, 3), np.uint8)
    return Inversion(
        images=images,
        labels=None if labels is None else list(labels),
        terms={'objective': [1.0] * number, 'restart': [0] * number},
        history=dict(step=[0, 1], objective=[2.0, 1.0]),
        frames=random.integers(0, 256, (frames, number, 8, 6, 3), np.uint8),
        settings=InversionSettings(),
        seed=3,
        seconds=1.5,
    )


def test_folder_has_all_that_was_found(tmp_path):
    found = inversion_of()
    report = save_inversion(found, tmp_path / 'a' / 'b', about=dict(config='net.py'))
    folder = tmp_path / 'a' / 'b'
    files = [f'label{label}_{number}' for label in (2, 7) for number in range(3)]
    assert report['files'] == [f'images/{name}.png' for name in files]
    assert {p.name for p in (folder / 'images').iterdir()} == {f'{name}.png' for name in files}
    for name, image in zip(report['files'], found.images, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(folder / name)), image)
    # Two rows of three, with gaps of two pixels.
    grid = cv2.imread(str(folder / 'grid.png'))
    assert grid.shape == (18, 22, 3)
    np.testing.assert_array_equal(grid[:8, 8:14], found.images[1])
    np.testing.assert_array_equal(grid[:8, 16:], found.images[2])
    gif = Image.open(folder / 'convergence.gif')
    assert gif.n_frames == 3
    assert gif.size == (22, 18)
    gif.seek(1)
    colors = np.asarray(gif.convert('RGB')).astype(int)
    # A GIF has 256 colors.
    assert abs(colors[:8, :6, ::-1] - found.frames[1, 0]).mean() < 20
    assert cv2.imread(str(folder / 'convergence.png')).std() > 1
    assert json.loads((folder / 'report.json').read_text()) == report
    assert report['config'] == 'net.py'
    assert report['number'] == 6
    assert report['seed'] == 3


@pytest.mark.parametrize(
    ('labels', 'names', 'files'),
    [
        (None, None, ['target0_0', 'target1_0', 'target2_0']),
        (None, ['ann', 'bob', 'ann'], ['ann_0', 'bob_0', 'ann_1']),
        ([4, 1, 4], None, ['label4_0', 'label1_0', 'label4_1']),
        ([4, 1, 4], ['x', 'y', 'z'], ['x_0', 'y_0', 'z_0']),
    ],
)
def test_names(tmp_path, labels, names, files):
    found = inversion_of(3, labels)
    report = save_inversion(found, tmp_path, names)
    assert report['files'] == [f'images/{name}.png' for name in files]
    for name, image in zip(report['files'], found.images, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / name)), image)
    save_inversion(found, tmp_path, names)


def test_grid_has_a_row_a_target(tmp_path):
    found = inversion_of(4, [1, 2, 1, 2])
    save_inversion(found, tmp_path)
    grid = cv2.imread(str(tmp_path / 'grid.png'))
    assert grid.shape == (18, 14, 3)
    for row, column, index in ((0, 0, 0), (0, 1, 2), (1, 0, 1), (1, 1, 3)):
        part = grid[row * 10 : row * 10 + 8, column * 8 : column * 8 + 6]
        np.testing.assert_array_equal(part, found.images[index])


def test_animation_of_a_part(tmp_path):
    found = inversion_of(4, [1, 2, 1, 2])
    for number, size in ((1, (6, 8)), (2, (14, 8)), (3, (14, 8))):
        found.frames = inversion_of(4).frames[:, :number]
        save_inversion(found, tmp_path)
        gif = Image.open(tmp_path / 'convergence.gif')
        assert (gif.n_frames, gif.size) == (3, size)


def test_judge_is_asked(tmp_path):
    asked = []

    def judge(images, identities):
        asked.append((images, identities))
        return dict(attack_accuracy=0.5)

    found = inversion_of()
    assert save_inversion(found, tmp_path, evaluator=judge)['attack_accuracy'] == 0.5
    assert asked[0][0] is found.images
    assert asked[0][1] == found.labels
    save_inversion(found, tmp_path, evaluator=judge, identities=[1, 2, 3, 4, 5, 6])
    assert asked[1][1] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match='the evaluator has to know whom the images are to show'):
        save_inversion(inversion_of(2, None), tmp_path / 'other', evaluator=judge)
    assert not (tmp_path / 'other').exists()


def test_wrong_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match='6 images have 2 names'):
        save_inversion(inversion_of(), tmp_path, ['a', 'b'])
    for wrong in ('../a', 'b/c', ''):
        with pytest.raises(ValueError, match='names must be those of files'):
            save_inversion(inversion_of(1, [1]), tmp_path, [wrong])
    assert not list(tmp_path.iterdir())
