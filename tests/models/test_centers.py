"""Centers of heads, whoever wrote them."""

import pytest
import torch
from mmpretrain.models.heads import ArcFaceClsHead, LinearClsHead, VisionTransformerClsHead
from torch import nn

from mmarcface.models import SoftmaxHead, SubCenterArcFaceHead
from mmarcface.models.heads.centers import class_centers, longest_centers

ROWS = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 5], [1, 1, 1]])


@pytest.mark.parametrize(
    ('head', 'name'),
    [
        (SubCenterArcFaceHead(2, 3, num_subcenters=2), 'weight'),
        (SoftmaxHead(4, 3), 'weight'),
        (ArcFaceClsHead(2, 3, num_subcenters=2), 'norm_product.weight'),
        (LinearClsHead(4, 3), 'fc.weight'),
        (nn.Linear(3, 4), 'weight'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_centers_of_heads(head, name):
    number = getattr(head, 'num_subcenters', 1)
    with torch.no_grad():
        head.get_parameter(name).copy_(ROWS)
    assert torch.equal(class_centers(head), ROWS.view(-1, number, 3))
    assert not class_centers(head).requires_grad
    assert torch.equal(longest_centers(head), ROWS[[1, 2]] if number == 2 else ROWS)


@pytest.mark.parametrize('kind', [SubCenterArcFaceHead, ArcFaceClsHead])
def test_scores_are_the_cosines_with_the_nearest_center(kind):
    """So the centers of a class are together in the weight, as the heads themselves take it."""
    torch.manual_seed(0)
    head, embeddings = kind(4, 3, num_subcenters=3).eval(), torch.randn(5, 3)
    nn.init.normal_(next(head.parameters()))
    directions = nn.functional.normalize(class_centers(head), dim=2)
    cosines = torch.einsum('nd,ckd->nck', nn.functional.normalize(embeddings), directions)
    scores = head((embeddings,))
    torch.testing.assert_close(scores / scores.max(), cosines.amax(2) / cosines.max())


@pytest.mark.parametrize(
    'head',
    [None, nn.Identity(), nn.Conv2d(3, 3, 1), VisionTransformerClsHead(4, 3)],
    ids=lambda value: type(value).__name__,
)
def test_heads_without_centers(head):
    assert class_centers(head) is None
    assert longest_centers(head) is None


def test_longest_center_is_that_of_most_samples():
    """With a tenth of the labels wrong, after weight decay has had its time."""
    torch.manual_seed(0)
    means = torch.randn(10, 8)
    net = nn.Sequential(
        nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16), nn.BatchNorm1d(16)
    )
    head = SubCenterArcFaceHead(10, 16, num_subcenters=3, scale=16.0, margin=0.3)
    optimizer = torch.optim.SGD(
        [*net.parameters(), *head.parameters()], lr=0.1, momentum=0.9, weight_decay=0.01
    )
    true = torch.randint(10, (1000,))
    images = means[true] + 0.5 * torch.randn(1000, 8)
    labels = torch.where(torch.rand(1000) < 0.1, torch.randint(10, (1000,)), true)
    for step in range(1500):
        optimizer.param_groups[0]['lr'] = 0.1 if step < 1200 else 0.01
        batch = torch.randint(1000, (128,))
        optimizer.zero_grad()
        head.class_loss(net(images[batch]), labels[batch])['loss'].backward()
        optimizer.step()
    with torch.no_grad():
        embeddings = nn.functional.normalize(net.eval()(means))
    cosines = nn.functional.normalize(longest_centers(head)) @ embeddings.T
    assert (cosines.argmax(1) == torch.arange(10)).sum() >= 9
    assert cosines.diagonal().median() > 0.9
