import math

import pytest
import torch
from mmpretrain.models.heads import ArcFaceClsHead
from mmpretrain.structures import DataSample

from mmarcface.models import ArcFaceHead, NormSoftmaxHead, SubCenterArcFaceHead


def samples(labels):
    return [DataSample().set_gt_label(label) for label in labels]


@pytest.mark.parametrize('num_subcenters', [1, 3])
def test_arcface_equals_mmpretrain_and_loads_its_weights(num_subcenters):
    torch.manual_seed(0)
    theirs = ArcFaceClsHead(7, 16, num_subcenters, margins=[0.1 * i for i in range(7)])
    kind = ArcFaceHead if num_subcenters == 1 else SubCenterArcFaceHead
    ours = kind(7, 16, margin=[0.1 * i for i in range(7)], num_subcenters=num_subcenters)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    feats, batch = (torch.randn(9, 16),), samples([0, 1, 2, 3, 4, 5, 6, 0, 1])
    torch.testing.assert_close(ours.loss(feats, batch)['loss'], theirs.loss(feats, batch)['loss'])
    torch.testing.assert_close(ours(feats), theirs(feats))


def test_norm_softmax_is_arcface_without_margin():
    norm, arc = NormSoftmaxHead(5, 8, scale=20.0), ArcFaceHead(5, 8, scale=20.0, margin=0.0)
    arc.load_state_dict(norm.state_dict())
    feats, batch = (torch.randn(4, 8),), samples([0, 1, 2, 3])
    torch.testing.assert_close(norm.loss(feats, batch), arc.loss(feats, batch))


def test_scores_at_inference_are_scaled_cosines():
    head = ArcFaceHead(2, 2, scale=10.0)
    head.weight.data = torch.tensor([[3.0, 0.0], [0.0, 0.1]])
    scores = head((torch.tensor([[5.0, 5.0]]),))
    assert scores.tolist() == [pytest.approx([10 / math.sqrt(2)] * 2)]


def test_predicts_as_a_classification_head():
    head = ArcFaceHead(4, 4)
    head.weight.data = torch.eye(4)
    predicted = head.predict((torch.eye(4)[[2, 0]],))
    assert [sample.pred_label.item() for sample in predicted] == [2, 0]


def test_margins_from_a_file(tmp_path):
    path = tmp_path / 'margins.txt'
    path.write_text('0.1\n0.2\n0.3\n')
    head = ArcFaceHead(3, 4, margin=str(path))
    assert head.margins(torch.tensor([2, 0])).tolist() == pytest.approx([0.3, 0.1])
    path.write_text('0.1\nhalf\n0.3\n')
    with pytest.raises(ValueError, match=r"margins.txt:2: a margin must be a number, got 'half'"):
        ArcFaceHead(3, 4, margin=str(path))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'margin': -0.1}, r'margin must be in \[0, 1.571\], got -0.1 for class 0'),
        ({'margin': [0.1, 2.0, 0.1]}, 'got 2.0 for class 1'),
        ({'margin': [0.1, 0.2]}, '3 classes, got 2 margins'),
        ({'num_subcenters': 0}, 'num_subcenters must be a whole number of at least 1, got 0'),
        ({'scale': 0.0}, 'scale must be positive and finite, got 0.0'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ArcFaceHead(3, 4, **arguments)


def test_wrong_labels():
    head, feats = ArcFaceHead(3, 4), (torch.randn(2, 4),)
    with pytest.raises(ValueError, match=r'\[0, 3\).*sample 1 of the batch has 3'):
        head.loss(feats, samples([0, 3]))
    with pytest.raises(ValueError, match='sample 1 of the batch has 2'):
        head.loss(feats, samples([0, [1, 2]]))
    with pytest.raises(ValueError, match='sample 0 of the batch has 0'):
        head.loss(feats, [DataSample(), DataSample()])
    mixed = [DataSample().set_gt_score(torch.tensor([0.5, 0.5, 0.0])) for _ in range(2)]
    with pytest.raises(ValueError, match='remove batch augments'):
        head.loss(feats, mixed)
