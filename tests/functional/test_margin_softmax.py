import math

import numpy as np
import pytest
import torch
from mmpretrain.models.heads import ArcFaceClsHead
from mmpretrain.structures import DataSample
from pytorch_metric_learning import losses

from mmarcface.functional.margin_softmax import class_cosines, margin_softmax
from mmarcface.functional.margins import arcface


def naive(embeddings, weight, labels, margin, scale, num_subcenters):
    """The loss, sample by sample and class by class, in float64."""
    total = 0.0
    unit = lambda v: v / np.linalg.norm(v)  # noqa: E731
    centres = weight.reshape(-1, num_subcenters, weight.shape[1])
    for embedding, label in zip(embeddings, labels, strict=True):
        logits = []
        for index, subcenters in enumerate(centres):
            cosine = max(float(unit(embedding) @ unit(centre)) for centre in subcenters)
            if index == label:
                theta = math.acos(cosine)
                if theta < math.pi - margin:
                    cosine = math.cos(theta + margin)
                else:
                    cosine -= margin * math.sin(margin)
            logits.append(scale * cosine)
        total += math.log(sum(math.exp(x) for x in logits)) - logits[label]
    return total / len(labels)


@pytest.mark.parametrize('num_subcenters', [1, 3])
def test_equals_a_naive_loop(num_subcenters):
    torch.manual_seed(0)
    x = torch.randn(6, 5, dtype=torch.float64)
    w = torch.randn(4 * num_subcenters, 5, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    loss = margin_softmax(x, w, y, lambda c: arcface(c, 0.5), 8.0, num_subcenters)
    expected = naive(x.numpy(), w.numpy(), y.tolist(), 0.5, 8.0, num_subcenters)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('num_subcenters', [1, 3])
@pytest.mark.parametrize('easy_margin', [False, True])
def test_loss_and_gradients_equal_mmpretrain(num_subcenters, easy_margin):
    torch.manual_seed(0)
    x = torch.randn(16, 32)
    y = torch.randint(0, 10, (16,))
    peer = ArcFaceClsHead(10, 32, num_subcenters, margins=0.5, easy_margin=easy_margin)
    ours_x, peer_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = peer.norm_product.weight.detach().clone().requires_grad_()
    ours = margin_softmax(
        ours_x, weight, y, lambda c: arcface(c, 0.5, easy_margin), 64.0, num_subcenters
    )
    samples = [DataSample().set_gt_label(label) for label in y]
    theirs = peer.loss((peer_x,), samples)['loss']
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours_x.grad, peer_x.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weight.grad, peer.norm_product.weight.grad, rtol=1e-4, atol=1e-4)


def test_loss_equals_pytorch_metric_learning():
    torch.manual_seed(0)
    x, y = torch.randn(16, 32), torch.randint(0, 10, (16,))
    peer = losses.ArcFaceLoss(10, 32, margin=math.degrees(0.5), scale=64)
    ours = margin_softmax(x, peer.W.detach().T, y, lambda c: arcface(c, 0.5), 64.0)
    torch.testing.assert_close(ours, peer(x, y), rtol=1e-5, atol=1e-5)


def test_finite_where_cosines_are_one():
    w = torch.eye(4, 8)
    x = torch.cat([w, -w]).requires_grad_()
    w.requires_grad_()
    for labels in (torch.arange(8) % 4, (torch.arange(8) + 1) % 4):
        loss = margin_softmax(x, w, labels, lambda c: arcface(c, 0.5))
        gradients = torch.autograd.grad(loss, (x, w))
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in gradients)


def test_gradcheck():
    torch.manual_seed(0)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 2, 0])
    assert torch.autograd.gradcheck(
        lambda x, w: margin_softmax(x, w, y, lambda c: arcface(c, 0.5), 4.0, 3), (x, w)
    )


def test_autocast_keeps_the_loss_in_fp32():
    torch.manual_seed(0)
    x, w = torch.randn(8, 16), torch.randn(5, 16)
    y = torch.arange(8) % 5
    expected = margin_softmax(x, w, y, lambda c: arcface(c, 0.5))
    with torch.autocast('cpu', torch.bfloat16):
        loss = margin_softmax(x, w, y, lambda c: arcface(c, 0.5))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_empty_batch_is_zero():
    x = torch.empty(0, 4, requires_grad=True)
    loss = margin_softmax(x, torch.randn(3, 4), torch.empty(0, dtype=torch.long), lambda c: c)
    assert loss.item() == 0
    loss.backward()


@pytest.mark.parametrize('label', [-1, 3])
def test_label_outside_the_classes_names_the_sample(label):
    labels = torch.tensor([0, label])
    with pytest.raises(ValueError, match=rf'\[0, 3\).*sample 1 of the batch has {label}'):
        margin_softmax(torch.randn(2, 4), torch.randn(3, 4), labels, lambda c: c)


def test_subcenters_of_a_class_lie_together():
    w = torch.eye(4)
    cosines = class_cosines(torch.eye(4), w, 2)
    assert cosines.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
