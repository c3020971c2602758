"""The hook in real trainings on the ORL photographs, on one process and on two."""

import copy
import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dist import is_main_process
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from mmarcface.engine import SubCenterHook
from mmarcface.functional.subcenter import angles_to_subcenters, subcenter_cosines, subcenter_counts
from mmarcface.models import ArcFaceHead, EmbeddingRetriever, SoftmaxHead, SubCenterArcFaceHead

CLASSES, WIDTH, WAYS, BATCH, IN_EPOCH = 6, 8, 3, 12, 5
KEYS = ['dominant_share', 'dead', 'angle_p10', 'angle_p50', 'angle_p90']


def runner_of(folder: Path, world: int, hook: SubCenterHook, train_cfg: dict) -> Runner:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 14, WIDTH))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = EmbeddingRetriever(
            encoder,
            head=SubCenterArcFaceHead(CLASSES, WIDTH, WAYS),
            data_preprocessor=dict(mean=[128.0] * 3, std=[128.0] * 3),
        )
    pipeline = [
        dict(type='mmarcface.LoadImageFromFile'),
        dict(type='mmpretrain.Resize', scale=(12, 14)),
        dict(type='mmpretrain.PackInputs'),
    ]
    loader = dict(
        batch_size=BATCH // world,
        dataset=dict(
            type='mmarcface.ORLFaces', people=list(range(1, CLASSES + 1)), pipeline=pipeline
        ),
        # Both processes together then have the batches that one has.
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    return Runner(
        model if world == 1 else MMDistributedDataParallel(model),
        str(folder),
        loader,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02)),
        custom_hooks=[hook],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1000)),
        visualizer=dict(
            type='Visualizer',
            vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
        ),
        default_scope='mmpretrain',
        train_cfg=train_cfg,
        # Else a visualizer of the same second is taken for this one.
        experiment_name='-'.join(folder.parts[-2:]),
    )


# Interval, loop, and the steps at which to log.
CASES = {
    'epochs': (None, dict(by_epoch=True, max_epochs=2), [5, 10]),
    'iterations-with-a-rest': (4, dict(by_epoch=False, max_iters=10), [4, 8, 10]),
    'every-iteration': (1, dict(by_epoch=True, max_epochs=2), list(range(1, 11))),
}


def train_on(rank: int, world: int, folder: str) -> tuple[dict, dict]:
    batches, logs = {}, {}
    for case, (interval, train_cfg, _) in CASES.items():
        runner = runner_of(Path(folder, case), world, SubCenterHook(interval), train_cfg)
        model = runner.model.module if world > 1 else runner.model
        kept = batches[case] = []

        def keep(embeddings, labels, kept=kept, head=model.head):
            kept.append((embeddings.clone(), labels, head.weight.detach().clone()))

        model.head.observers.append(keep)
        runner.train()
        assert model.head.observers == [keep]
        if is_main_process():
            logs[case] = runner.log_dir, runner.timestamp
            for key in KEYS:
                assert runner.message_hub.get_scalar(f'subcenters/{key}').current() >= 0
    return batches, logs


def by_loops(batches, interval: int) -> dict[int, list[float]]:
    """By step the five figures, one sample at a time."""
    expected, counts, dominant = {}, np.zeros((CLASSES, WAYS), int), None
    angles, hits = [], []
    for step, batch in enumerate(batches, 1):
        cosines = [
            [float(e @ w / e.norm() / w.norm()) for w in weight.view(CLASSES, WAYS, WIDTH)[label]]
            for embeddings, labels, weight in batch
            for e, label in zip(embeddings.double(), labels, strict=True)
            for weight in [weight.double()]
        ]
        labels = [int(label) for _, labels, _ in batch for label in labels]
        for row, label in zip(cosines, labels, strict=True):
            counts[label, np.argmax(row)] += 1
        for row, label in zip(cosines, labels, strict=True):
            center = (counts if dominant is None else dominant)[label].argmax()
            hits.append(np.argmax(row) == center)
            angles.append(np.degrees(np.arccos(row[center])))
        if step % interval == 0 or step == len(batches):
            dead = sum((row == 0).sum() for row in counts if row.any())
            percentiles = np.percentile(angles, [10, 50, 90], method='inverted_cdf')
            expected[step] = [np.mean(hits), dead, *percentiles]
            dominant = np.array(
                counts
                if dominant is None
                else [row if row.any() else old for row, old in zip(counts, dominant, strict=True)]
            )
            counts, angles, hits = np.zeros((CLASSES, WAYS), int), [], []
    return expected


def test_figures_are_those_of_all_samples(on_processes, tmp_path):
    results = on_processes(train_on, str(tmp_path))
    for case, (folder, stamp) in results[0][1].items():
        interval, _, steps = CASES[case]
        batches = list(zip(*(kept[case] for kept, _ in results), strict=True))
        check_log(by_loops(batches, interval or IN_EPOCH), steps, Path(folder), stamp)


def check_log(expected: dict[int, list[float]], steps: list[int], folder: Path, stamp: str):
    assert list(expected) == steps

    lines = map(json.loads, (folder / 'vis_data' / 'scalars.json').read_text().splitlines())
    logged = {line['step']: line for line in lines if 'subcenters/dead' in line}
    assert list(logged) == steps
    for step, (share, dead, *angles) in expected.items():
        line = [logged[step][f'subcenters/{key}'] for key in KEYS]
        assert line[0] == pytest.approx(share)
        assert line[1] == dead
        assert line[2:] == pytest.approx(angles, abs=0.06)

    events = EventAccumulator(str(folder / 'vis_data'))
    events.Reload()
    assert [event.step for event in events.Scalars('subcenters/angle_p50')] == steps
    said = (folder / f'{stamp}.log').read_text()
    assert said.count('nearest to the dominant one') == len(steps)
    share, dead, *_ = expected[steps[-1]]
    assert f'{100 * share:.1f}% of ' in said
    assert f' {dead} of ' in said


def observing(head: nn.Module) -> tuple[SubCenterHook, SimpleNamespace]:
    model = nn.Module()
    model.head = head
    runner = SimpleNamespace(model=model, train_dataloader=range(5), iter=0)
    hook = SubCenterHook()
    hook.before_train(runner)
    return hook, runner


def batch_of(number: int, dtype=torch.float) -> tuple[torch.Tensor, list[DataSample]]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (number,), generator=generator)
    samples = [DataSample().set_gt_label(label) for label in labels]
    return torch.randn(number, WIDTH, generator=generator).to(dtype), samples


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.half])
def test_angles_are_exact_in_half_precision(dtype):
    head = SubCenterArcFaceHead(CLASSES, WIDTH)
    hook, _ = observing(head)
    embeddings, samples = batch_of(200, dtype)
    with torch.autocast('cpu', torch.bfloat16):
        head.loss((embeddings,), samples)
    labels = torch.cat([sample.gt_label for sample in samples])
    cosines = subcenter_cosines(embeddings.double(), head.weight.detach().double(), labels, WAYS)
    counts = subcenter_counts(cosines, labels, CLASSES)
    assert torch.equal(hook.counts, counts)
    angles = angles_to_subcenters(cosines, counts.argmax(1)[labels])
    expected = torch.bincount((10 * angles).long(), minlength=1800)
    # On an edge between two bins a rounding decides.
    assert (hook.histogram.cumsum(0) - expected.cumsum(0)).abs().max() <= 1


def test_opposite_and_zero_embeddings_are_counted():
    head = SubCenterArcFaceHead(2, 2, num_subcenters=2)
    hook, _ = observing(head)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]))
    embeddings = torch.tensor([[-2.0, 0], [0, 0], [3, 0]])
    hook.observe(embeddings, torch.zeros(3, dtype=torch.long))
    # Of equally near centers the first counts; half a turn is in the last bin.
    assert hook.counts.tolist() == [[3, 0], [0, 0]]
    assert hook.histogram.nonzero().flatten().tolist() == [0, 900, 1799]
    hook.observe(embeddings[:0], torch.empty(0, dtype=torch.long))
    assert hook.counts.sum() == 3


def test_observer_stays_out_of_copies_files_and_gradients():
    head = SubCenterArcFaceHead(CLASSES, WIDTH)
    plain = copy.deepcopy(head)
    hook, runner = observing(head)
    # What no copy could be made of.
    hook.thing = (i for i in ())
    for copied in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert copied.observers == []
        assert torch.equal(copied.weight, head.weight)
    assert head.observers == [hook.observe]
    assert head.state_dict().keys() == plain.state_dict().keys()

    seen = []
    head.observers.append(lambda e, y: seen.append((e.requires_grad, torch.is_grad_enabled(), y)))
    embeddings, samples = batch_of(20)
    gradients = []
    for one in (head, plain):
        given = embeddings.clone().requires_grad_()
        one.loss((given,), samples)['loss'].backward()
        gradients += [given.grad, one.weight.grad]
    assert torch.equal(gradients[0], gradients[2])
    assert torch.equal(gradients[1], gradients[3])
    [(of_embeddings, enabled, labels)] = seen
    assert not of_embeddings
    assert not enabled
    assert labels.tolist() == [int(sample.gt_label) for sample in samples]
    hook.after_train(runner)
    assert len(head.observers) == 1


def test_nothing_is_seen_of_a_batch_that_the_head_refuses():
    head = SubCenterArcFaceHead(CLASSES, WIDTH)
    hook, _ = observing(head)
    with pytest.raises(ValueError, match='label'):
        head.loss((torch.ones(1, WIDTH),), [DataSample().set_gt_label(CLASSES)])
    assert not hook.counts.any()


@pytest.mark.parametrize(
    'head',
    [ArcFaceHead(3, 4), SoftmaxHead(3, 4), nn.Linear(4, 3), None],
    ids=lambda head: type(head).__name__,
)
def test_heads_without_subcenters_are_refused(head):
    with pytest.raises(ValueError, match=r'num_subcenters=3; .* num_subcenters=1') as error:
        observing(head)
    assert 'SubCenterArcFaceHead' in str(error.value)
    assert type(head).__name__ in str(error.value)


def test_other_margin_heads_may_have_subcenters():
    hook, _ = observing(ArcFaceHead(3, 4, num_subcenters=2))
    assert hook.counts.shape == (3, 2)


def test_wrong_interval():
    for interval, rule in ((0, 'at least 1'), (0.5, 'a whole number of at least 1')):
        with pytest.raises(ValueError, match=f'interval must be {rule}, got {interval}'):
            SubCenterHook(interval)
