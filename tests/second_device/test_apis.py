"""What scripts and notebooks call, with the model on the device."""

import copy
import shutil

import cv2
import numpy as np
import pytest
import torch

from mmarcface import apis
from mmarcface.apis import (
    ImageRetrievalInferencer,
    InversionEvaluator,
    VerificationInferencer,
    export_model,
    get_model,
    invert,
    purify,
    save_inversion,
    save_purification,
)
from mmarcface.apis.inversion.state import SearchState
from mmarcface.datasets import ORLFaces
from mmarcface.evaluation.thresholds import Thresholds, save_thresholds
from mmarcface.fingerprints import fingerprint_model
from mmarcface.functional.calibration import calibrate
from mmarcface.manifest import describe_model
from tests.apis.colors import Told, known_model, random_colors, write_colors
from tests.apis.inversion.test_search import RESNET, RETRIEVER, Tiny, built, config, weight

from .same import check_same

QUICK = dict(steps=6, progress=False)
PEOPLE = (1, 2, 3, 4)


def pair(device, model=RETRIEVER, size=16):
    """A model on the CPU, and its copy on the device, with the config that it was built from."""
    of_cpu = built(model, size)
    return of_cpu, copy.deepcopy(of_cpu).to(device)


@pytest.fixture
def gallery(orl, tmp_path):
    for person in PEOPLE[:2]:
        shutil.copytree(orl / f's{person}', tmp_path / 'gallery' / f's{person}')
    return tmp_path / 'gallery'


def photograph(orl, person, number=1):
    return str(orl / f's{person}' / f'{number}.pgm')


def with_thresholds(model, tmp_path):
    """A checkpoint, as one was saved on the device, with thresholds beside it."""
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    found = calibrate(np.linspace(0, 1, 100), np.arange(100) > 40, 0.1)
    beside = path.with_name('epoch_1.thresholds.json')
    contract = describe_model(model).contract
    found = Thresholds(fingerprint_model(model), contract, dict(verification=[found]))
    save_thresholds(beside, found)
    return path


# Search.


def test_search_in_a_folder(device, gallery, orl, tmp_path, monkeypatch):
    of_cpu, model = pair(device)
    cache = str(tmp_path / 'cache.pth')
    given = dict(prototype=str(gallery), prototype_cache=cache)
    query = photograph(orl, 2, 7)
    found = ImageRetrievalInferencer(model, device=device, **given)(query, topk=5)
    # What the device wrote serves the CPU, and back.
    monkeypatch.setattr(
        'mmarcface.models.retrievers.gallery._embed', lambda *_: pytest.fail('embedded again')
    )
    for one in (of_cpu, model):
        again = ImageRetrievalInferencer(one, **given)(query, topk=5)
        assert [m['sample_idx'] for m in again[0]] == [m['sample_idx'] for m in found[0]]
        check_same(
            [float(m['match_score']) for m in again[0]],
            [float(m['match_score']) for m in found[0]],
        )
    assert next(model.parameters()).device == device


@pytest.mark.parametrize('kind', ['on the device', 'on the CPU', 'file'])
def test_search_among_embeddings(device, kind, orl, tmp_path):
    of_cpu, model = pair(device)
    vectors = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    prototype = vectors
    if kind == 'on the device':
        prototype = vectors.to(device)
    elif kind == 'file':
        prototype = str(tmp_path / 'gallery.pth')
        of_cpu.prototype = vectors
        of_cpu.prepare_prototype()
        of_cpu.dump_prototype(prototype)
    found, expected = (
        ImageRetrievalInferencer(one, prototype=given)(photograph(orl, 1), topk=4)[0]
        for one, given in ((model, prototype), (of_cpu, vectors))
    )
    check_same([m['sample_idx'] for m in found], [m['sample_idx'] for m in expected])
    model.dump_prototype(str(tmp_path / 'again.pth'))
    again = torch.load(tmp_path / 'again.pth', weights_only=True)
    assert again['embeddings'].device.type == 'cpu'


# Verification.


def test_verification(device, orl, tmp_path):
    of_cpu, model = pair(device)
    pairs = [(photograph(orl, p), photograph(orl, q, 2)) for p, q in ((1, 1), (1, 2), (3, 3))]
    pairs.append((cv2.imread(pairs[0][0]), pairs[0][0]))
    assert fingerprint_model(of_cpu) == fingerprint_model(model)
    checkpoint = with_thresholds(model, tmp_path)
    given = dict(pretrained=str(checkpoint))
    found = VerificationInferencer(config(RETRIEVER, size=16), device=device, **given)
    assert next(found.model.parameters()).device == device
    # The checkpoint may have come from a GPU, and go to a machine without one.
    expected = VerificationInferencer(config(RETRIEVER, size=16), device='cpu', **given)
    check_same(found(pairs, batch_size=2), expected(pairs))
    with pytest.raises(ValueError, match='thresholds of another model'):
        VerificationInferencer(
            built(RETRIEVER | dict(test_cfg=dict(flip=True)), 16).to(device),
            thresholds=checkpoint.with_name('epoch_1.thresholds.json'),
        )


# Inversion.


def check_images(found, expected):
    assert found.labels == expected.labels
    assert found.terms.keys() == expected.terms.keys()
    assert found.images.shape == expected.images.shape
    # On a GPU, roundings grow from step to step.
    assert np.mean(abs(found.images.astype(int) - expected.images)) < 2
    assert found.history['objective'][0] == pytest.approx(
        expected.history['objective'][0], rel=0.01
    )


@pytest.mark.parametrize(
    ('net', 'preset'),
    [(RETRIEVER, 'paper'), (RETRIEVER, 'small'), (RESNET, 'small')],
    ids=['paper', 'small', 'net of mmpretrain'],
)
def test_inversion_of_classes(device, net, preset, tmp_path):
    size = 16 if net is RETRIEVER else 32
    of_cpu, model = pair(device, net, size)
    given = QUICK | dict(preset=preset, companions=[0, 2], input_size=size)
    found = invert(model, [1, 3], **given)
    check_images(found, invert(of_cpu, [1, 3], **given))
    assert next(model.parameters()).device == device
    save_inversion(found, tmp_path / 'out', ['a', 'b'])
    assert (tmp_path / 'out' / 'report.json').exists()


@pytest.mark.parametrize(
    'kind', ['embeddings', 'embeddings of the CPU', 'list of embeddings', 'labels', 'photographs']
)
def test_inversion_of_other_targets(device, kind, orl):
    of_cpu, model = pair(device)
    vectors = weight()[:2]
    given = {
        'embeddings': (vectors.to(device), vectors),
        'embeddings of the CPU': (vectors, vectors),
        'list of embeddings': (list(vectors.to(device)), vectors),
        'labels': (torch.tensor([1, 3], device=device), [1, 3]),
        'photographs': ([photograph(orl, 1), photograph(orl, 2)],) * 2,
    }[kind]
    settings = dict(QUICK, steps=2, preset='small', clip=True, flip=True, jitter=1)
    settings |= dict(gray=True, restarts=2) if kind == 'labels' else {}
    found, expected = (
        invert(one, targets, **settings)
        for one, targets in zip((model, of_cpu), given, strict=True)
    )
    check_images(found, expected)


@pytest.mark.parametrize('where', ['the device', 'the CPU'])
@pytest.mark.parametrize('kind', ['tensor', 'linear'])
def test_inversion_with_a_head_from_elsewhere(device, kind, where):
    model, head = Tiny(), weight()
    if kind == 'linear':
        head = torch.nn.Linear(*reversed(head.shape))
        torch.nn.init.normal_(head.weight)
    given = QUICK | dict(input_size=12, preset='small')
    expected = invert(model, [0, 1], head=head, **given)
    moved = copy.deepcopy(head).to(device if where == 'the device' else 'cpu')
    check_images(invert(model.to(device), [0, 1], head=moved, **given), expected)


@pytest.mark.parametrize('first', ['the device', 'the CPU'])
def test_an_inversion_goes_on_where_it_was(device, first, tmp_path, monkeypatch):
    """Also on another device than it began on."""
    of_cpu, model = pair(device)
    settings = QUICK | dict(preset='small', state_interval=2, restarts=2)
    expected = invert(of_cpu, [1, 3], **settings)
    save = SearchState.save

    def save_and_stop(self, *args):
        save(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SearchState, 'save', save_and_stop)
        one = model if first == 'the device' else of_cpu
        with pytest.raises(KeyboardInterrupt):
            invert(one, [1, 3], state=tmp_path, **settings)
    for _ in range(2):
        check_images(invert(model, [1, 3], state=tmp_path, **settings), expected)
    check_images(invert(of_cpu, [1, 3], state=tmp_path, **settings), expected)


# InversionEvaluator.


def test_judge(device, orl):
    of_cpu, model = pair(device)
    images = np.stack([cv2.imread(photograph(orl, p, n)) for p in PEOPLE for n in (1, 2)])
    labels = np.repeat(np.arange(4), 2)
    real = ORLFaces(PEOPLE)
    judges = [
        InversionEvaluator(one, real, device=where)
        for one, where in ((model, device), (of_cpu, 'cpu'))
    ]
    reports = [judge(images, labels) for judge in judges]
    check_same(*reports)
    given = torch.from_numpy(images), torch.from_numpy(labels)
    check_same(judges[0].evaluate(*given), reports[1])
    assert judges[0].pair_with_real(images, labels).keys() == {0, 1, 2, 3}
    with pytest.raises(ValueError, match='the judge is the model itself'):
        judges[0].refuse_same_weights(of_cpu)
    judges[0].refuse_same_weights(built(RESNET, 16).to(device))


def test_judge_of_another_kind(device, orl):
    of_cpu, model = pair(device, RESNET, 32)
    images = np.stack([cv2.imread(photograph(orl, p)) for p in PEOPLE])
    real = ORLFaces(PEOPLE)
    reports = [InversionEvaluator(one, real).evaluate(images, range(4)) for one in (model, of_cpu)]
    check_same(*reports)


# Purification.


@pytest.mark.parametrize('settings', [dict(threshold=60.0), dict()], ids=str)
def test_purification(device, settings, tmp_path):
    sizes = [30] * 8
    write_colors(tmp_path / 'data', random_colors(sizes))
    centers = np.random.default_rng(1).integers(-50, 50, (9, 3, 3)).tolist()
    dataset = Told(str(tmp_path / 'data'))
    if not settings:
        # Most samples are at their center, so that a threshold is there to find.
        shutil.rmtree(tmp_path / 'data')
        noise = np.random.default_rng(2)
        own = np.array(centers)[:8, 0][:, None] + noise.integers(-6, 7, (8, 30, 3)) + 128
        own[:, ::6] = noise.integers(80, 176, own[:, ::6].shape)
        write_colors(tmp_path / 'data', [list(map(tuple, colors)) for colors in own])
        dataset = Told(str(tmp_path / 'data'))
    results = [
        purify(
            known_model(centers).to(where),
            dataset,
            state=tmp_path / f'state {where.type}',
            relabel=True,
            **settings,
        )
        for where in (device, torch.device('cpu'))
    ]
    check_same(*(vars(found) for found in results))
    assert results[0].relabeled.any()
    save_purification(results[0], dataset, tmp_path / 'out')
    # Embeddings of the device serve the CPU.
    of_cpu = known_model(centers)
    again = purify(
        of_cpu, dataset, state=tmp_path / f'state {device.type}', relabel=True, **settings
    )
    assert not of_cpu.image_encoder.seen
    check_same(vars(again), vars(results[1]))


# Encoders without weights.


def test_encoders_that_are_no_nets(device):
    of_cpu, model = pair(
        device,
        dict(type='mmarcface.EmbeddingRetriever', image_encoder=dict(type='mmarcface.RawPixels')),
    )
    images = torch.randn(2, 3, 16, 16)
    check_same(model.embed(images.to(device)), of_cpu.embed(images), device)


def test_onnx(device, tmp_path):
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node('GlobalAveragePool', ['x'], ['y'])],
        'mean',
        [tensor('x', 1, ('N', 3, 8, 8))],
        [tensor('y', 1, ('N', 3, 1, 1))],
    )
    opset = [onnx.helper.make_opsetid('', 17)]
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=opset)
    onnx.save(model, tmp_path / 'mean.onnx')
    encoder = dict(type='mmarcface.OnnxBackbone', path=str(tmp_path / 'mean.onnx'))
    retriever = get_model(
        config(dict(type='mmarcface.EmbeddingRetriever', image_encoder=encoder)), device=device
    )
    images = torch.randn(2, 3, 8, 8)
    check_same(retriever.embed(images.to(device)), images.mean((2, 3)), device)


def test_export(device, tmp_path):
    of_cpu, model = pair(device)
    pixels = torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
    expected = export_model(of_cpu, tmp_path / 'cpu.ts', pixels)
    found = export_model(model, tmp_path / 'device.ts', pixels)
    assert found.contract == expected.contract
    nets = [torch.jit.load(tmp_path / name) for name in ('cpu.ts', 'device.ts')]
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(nets[1](images), nets[0](images))
    # The model stays where it is.
    assert {p.device for p in model.parameters()} == {device}


def test_every_api_is_tried():
    # Of files and names alone.
    others = {'list_models', 'read_embeddings', 'Inversion', 'InversionSettings'}
    assert set(apis.__all__) - others - {'Purification'} <= set(globals())
