from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DefaultScope
from torch import nn

from mmarcface.engine import AdaptiveMarginsHook, MarginScheduleHook
from mmarcface.models import ArcFaceHead, MagFaceHead, SphereFaceHead, SphereFaceRHead


class Labels(BaseDataset):
    def __init__(self, labels):
        self.labels = labels
        super().__init__(serialize_data=False)

    def load_data_list(self):
        return [dict(gt_label=label) for label in self.labels]


class Loader:
    """Ten batches an epoch."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return 10


def runner_of(head, dataset=None, iteration=0):
    model = nn.Module()
    model.head = head
    return SimpleNamespace(model=model, train_dataloader=Loader(dataset), iter=iteration)


def expected_margins(counts):
    rarity = [n**-0.25 for n in counts]
    low, high = min(rarity), max(rarity)
    return [0.05 + 0.45 * (r - low) / (high - low) for r in rarity]


@pytest.mark.parametrize(
    ('wrap', 'counts'),
    [
        (lambda d: d, [1, 2, 5]),
        (lambda d: RepeatDataset(d, times=3), [3, 6, 15]),
        (lambda d: ConcatDataset([d, d]), [2, 4, 10]),
    ],
    ids=['plain', 'repeated', 'concatenated'],
)
def test_rare_classes_get_the_larger_margins(wrap, counts):
    head = ArcFaceHead(4, 8)
    with DefaultScope.overwrite_default_scope('mmengine'):
        dataset = wrap(Labels([0, 1, 1, 2, 2, 2, 2, 2]))
    AdaptiveMarginsHook().before_train(runner_of(head, dataset))
    # Class 3 has no image: mmpretrain's hook counts one class too few then.
    assert head.margins.values.tolist() == pytest.approx([*expected_margins(counts), 0.5])


def test_margins_that_must_be_one_are_not_made_several():
    with pytest.raises(ValueError, match='the same for all classes'):
        AdaptiveMarginsHook(1.0, 2.0).before_train(
            runner_of(SphereFaceRHead(2, 8), Labels([0, 0, 1]))
        )


def test_wrapped_models_are_unwrapped():
    head = ArcFaceHead(2, 8)
    runner = runner_of(head, Labels([0, 0, 1]))
    runner.model = nn.DataParallel(runner.model)
    AdaptiveMarginsHook(0.1, 0.4).before_train(runner)
    assert head.margins.values.tolist() == pytest.approx([0.1, 0.4])


def test_labels_beyond_the_head_are_named():
    with pytest.raises(ValueError, match=r'2 classes and the data label 5: .*num_classes to 6'):
        AdaptiveMarginsHook().before_train(runner_of(ArcFaceHead(2, 8), Labels([0, 5])))


def test_margins_beyond_what_the_loss_allows_are_refused():
    with pytest.raises(ValueError, match=r'margin must be in \[1, 10\], got 0.05'):
        AdaptiveMarginsHook().before_train(runner_of(SphereFaceHead(2, 8), Labels([0, 0, 1])))


@pytest.mark.parametrize('hook', [AdaptiveMarginsHook(), MarginScheduleHook(epochs=1)])
@pytest.mark.parametrize('head', [MagFaceHead(2, 8), None])
def test_heads_without_margins_of_classes_are_refused(hook, head):
    runner = runner_of(head, Labels([0, 1]))
    with pytest.raises(ValueError, match='needs a head with one margin a class'):
        hook.before_train(runner) if isinstance(hook, AdaptiveMarginsHook) else (
            hook.before_train_iter(runner, 0)
        )


@pytest.mark.parametrize(
    ('iteration', 'share'), [(0, 0.2), (5, 0.4), (10, 0.6), (20, 1.0), (99, 1.0)]
)
def test_margins_rise_over_the_first_epochs(iteration, share):
    """Two epochs of ten iterations, from any iteration that a resume starts at."""
    arc, sphere = ArcFaceHead(2, 8, margin=[0.5, 0.3]), SphereFaceHead(2, 8, margin=3.0)
    hook = MarginScheduleHook(epochs=2, start=0.2)
    for head in (arc, sphere):
        hook.before_train_iter(runner_of(head, iteration=iteration), 0)
    labels = torch.tensor([1, 0])
    assert arc.margins(labels).tolist() == pytest.approx([0.3 * share, 0.5 * share])
    # Without a margin the factor on the angle is 1.
    assert sphere.margins(labels).tolist() == pytest.approx([1 + 2 * share] * 2)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(epochs=0), 'epochs must be above 0, got 0'),
        (dict(epochs='2'), "epochs must be a finite number above 0, got '2'"),
        (dict(epochs=float('nan')), 'got nan'),
        (dict(epochs=1, start=1.5), r'start must be in \[0, 1\], got 1.5'),
        (dict(epochs=1, start=True), 'start must be a finite number .* got True'),
    ],
)
def test_wrong_schedules(arguments, message):
    with pytest.raises(ValueError, match=message):
        MarginScheduleHook(**arguments)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(margin_min='0.1'), "margin_min must be a finite number, got '0.1'"),
        (dict(margin_max=float('nan')), 'margin_max must be a finite number, got nan'),
        (dict(margin_min=0.5, margin_max=0.1), 'margin_min <= margin_max, got 0.5 and 0.1'),
        (dict(power=0.25), 'power must be below 0, got 0.25'),
        (dict(power=None), 'power must be a finite number below 0, got None'),
    ],
)
def test_wrong_margins_are_refused_before_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveMarginsHook(**arguments)


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        ([0, -1], 'gt_label must be at least 0, got -1'),
        ([0, [1, 2]], r'gt_label must be an integer in Labels, got \[1, 2\] at place 1'),
        ([], 'a class with images, got none'),
    ],
)
def test_labels_that_cannot_be_counted(labels, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveMarginsHook().before_train(runner_of(ArcFaceHead(2, 8), Labels(labels)))
