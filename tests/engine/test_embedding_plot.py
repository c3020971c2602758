"""The hook on one process and on two, with real files of both backends."""

import csv
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer
from mmpretrain.structures import DataSample
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from mmarcface.engine import EmbeddingPlotHook
from mmarcface.models import ArcFaceHead, EmbeddingRetriever, SubCenterArcFaceHead
from mmarcface.registry import HOOKS

SIZE, CLASSES = 7, ('ann', 'ben', 'cyd')
VECTORS = np.random.default_rng(0).normal(size=(SIZE, 2)).astype(np.float32)
LABELS = np.arange(SIZE) % 3


def retriever(head: nn.Module | None) -> EmbeddingRetriever:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return EmbeddingRetriever(nn.Flatten(), head=head)


def runner_of(model: nn.Module, folder: Path, *backends, classes=CLASSES, size: int = SIZE):
    class Data(list):
        metainfo = dict(classes=classes) if classes else {}

    backends = [backend(save_dir=str(folder)) for backend in backends]
    visualizer = Visualizer(vis_backends=None)
    visualizer._vis_backends = {type(backend).__name__: backend for backend in backends}
    return SimpleNamespace(
        model=model,
        iter=40,
        hooks=[],
        visualizer=visualizer,
        val_dataloader=SimpleNamespace(dataset=Data(range(size))),
        train_dataloader=SimpleNamespace(dataset=Data(range(size))),
    )


def sample(index: int) -> DataSample:
    made = DataSample(metainfo=dict(sample_idx=index)).set_gt_label(int(LABELS[index]))
    made.embedding = torch.from_numpy(VECTORS[index])
    return made


def validate(hook, runner, indices=range(SIZE), metrics=None):
    hook.before_val_epoch(runner)
    for index in indices:
        hook.after_val_iter(runner, 0, None, [sample(index)])
    hook.after_val_epoch(runner, metrics)


def validate_on(rank: int, world: int, folder: str):
    head = ArcFaceHead(3, 2)
    torch.manual_seed(0)
    nn.init.normal_(head.weight)
    model = retriever(head)
    if world > 1:
        model = MMDistributedDataParallel(model)
    runner = runner_of(model, Path(folder), LocalVisBackend, TensorboardVisBackend)
    hook = EmbeddingPlotHook()
    # As a distributed sampler has it: in turns, and the first again where images run out.
    shard = [index % SIZE for index in range(rank, -(-SIZE // world) * world, world)]
    validate(hook, runner, shard, {'accuracy/top1': 71.0})
    panel = hook.panel
    drawn = panel and [torch.from_numpy(v) for v in (panel.embeddings, panel.labels, panel.centers)]
    return panel and (*drawn, panel.accuracy, head.weight.detach())


def test_embeddings_of_all_processes_are_drawn(on_processes, tmp_path):
    first, *others = on_processes(validate_on, str(tmp_path))
    assert others in ([], [None])
    vectors, labels, centers, accuracy, weight = first
    np.testing.assert_array_equal(vectors, VECTORS)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(centers, weight)
    assert accuracy == 71

    (picture,) = (tmp_path / 'vis_image').glob('*.png')
    assert picture.name == 'embeddings_40.png'
    image = cv2.imread(str(picture))[..., ::-1]
    assert image.std() > 5

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (logged,) = events.Images('embeddings')
    assert logged.step == 40
    encoded = np.frombuffer(logged.encoded_image_string, np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1], image)

    (table,) = tmp_path.rglob('tensors.tsv')
    np.testing.assert_allclose(np.loadtxt(table, delimiter='\t'), VECTORS, rtol=1e-6)
    with (table.parent / 'metadata.tsv').open() as file:
        assert [name for (name,) in csv.reader(file)] == [CLASSES[label] for label in LABELS]


@pytest.mark.parametrize(
    'head', [None, nn.Linear(3, 2), ArcFaceHead(3, 5)], ids=['none', 'of others', 'other length']
)
def test_heads_without_centers(head, tmp_path):
    hook = EmbeddingPlotHook()
    runner = runner_of(SimpleNamespace(head=head), tmp_path, LocalVisBackend, classes=None)
    validate(hook, runner)
    assert hook.panel.centers.shape == (3, 2)
    assert hook.panel.accuracy is None
    assert len(list(tmp_path.rglob('*.png'))) == 1


def test_sub_centers_are_drawn(tmp_path):
    hook = EmbeddingPlotHook()
    head = SubCenterArcFaceHead(3, 2, num_subcenters=4)
    validate(hook, runner_of(retriever(head), tmp_path, LocalVisBackend))
    assert hook.panel.centers.shape == (12, 2)
    assert hook.panel.num_subcenters == 4


def test_few_points_of_many(tmp_path):
    runner = runner_of(retriever(None), tmp_path, LocalVisBackend)
    drawn = []
    for indices in (range(SIZE), reversed(range(SIZE))):
        hook = EmbeddingPlotHook(max_points=4)
        validate(hook, runner, indices)
        drawn.append(hook.panel.embeddings.tolist())
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 4
    assert all(vector in VECTORS.tolist() for vector in drawn[0])


def test_interval(tmp_path):
    runner = runner_of(retriever(None), tmp_path, LocalVisBackend)
    hook = EmbeddingPlotHook(interval=3)
    found = []
    for runner.iter in range(1, 8):
        validate(hook, runner)
        assert not hook.kept
        found = sorted(path.stem for path in tmp_path.rglob('*.png'))
    assert found == ['embeddings_3', 'embeddings_6']


@pytest.mark.parametrize('name', ['interval', 'max_points'])
def test_wrong_arguments(name):
    for value, rule in ((0, 'at least 1'), (1.5, 'a whole number of at least 1')):
        with pytest.raises(ValueError, match=f'{name} must be {rule}, got {value}'):
            HOOKS.build({'type': 'mmarcface.EmbeddingPlotHook', name: value})


def test_samples_without_embeddings(tmp_path):
    hook = EmbeddingPlotHook()
    runner = runner_of(retriever(None), tmp_path)
    hook.before_val_epoch(runner)
    with pytest.raises(ValueError, match='needs embedding, sample_idx in every sample'):
        hook.after_val_iter(runner, 0, None, [DataSample().set_gt_label(1)])
