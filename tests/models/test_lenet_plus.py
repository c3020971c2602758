import pytest
import torch
from torch import nn

from mmarcface.models import LeNetPlus
from mmarcface.registry import MODELS


def test_is_registered():
    assert isinstance(MODELS.build(dict(type='mmarcface.LeNetPlus', base_channels=1)), LeNetPlus)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_layers_are_those_of_the_paper():
    net = LeNetPlus(in_channels=1, with_bn=False)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    shapes = [(m.in_channels, m.out_channels, *m.kernel_size) for m in convolutions]
    assert shapes == [
        (1, 32, 5, 5), (32, 32, 5, 5), (32, 64, 5, 5), (64, 64, 5, 5), (64, 128, 5, 5),
        (128, 128, 5, 5),
    ]  # fmt: skip
    # Weights and biases, a slope for each channel, and 3 x 3 x 128 numbers to 2.
    by_hand = sum(i * o * 25 + o + o for i, o, *_ in shapes) + (1152 + 1) * 2
    assert parameters(net) == by_hand == 797_602
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def test_batch_normalization_follows_each_convolution():
    layers = list(LeNetPlus(base_channels=2).layers)
    places = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    assert len(places) == 6
    for place in places:
        assert isinstance(layers[place + 1], nn.BatchNorm2d)
        # It takes the mean away, and with it a bias.
        assert layers[place].bias is None


@pytest.mark.parametrize(
    ('arguments', 'shape'),
    [
        ({}, (3, 28, 28)),
        (dict(embedding_dim=3, in_channels=1), (1, 28, 28)),
        (dict(input_size=(8, 33), with_bn=False), (3, 8, 33)),
    ],
)
def test_embeds(arguments, shape):
    net = LeNetPlus(base_channels=2, **arguments)
    (embeddings,) = net(torch.randn(4, *shape))
    assert embeddings.shape == (4, arguments.get('embedding_dim', 2))
    embeddings.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_halves_give_embeddings_in_full_precision():
    net = LeNetPlus(base_channels=2).eval()
    images = torch.randn(2, 3, 28, 28)
    with torch.autocast('cpu', torch.bfloat16):
        (embeddings,) = net(images)
    assert embeddings.dtype == torch.float
    torch.testing.assert_close(embeddings, net(images)[0], rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(embedding_dim=0), 'embedding_dim must be at least 1, got 0'),
        (dict(in_channels=0), 'in_channels must be at least 1, got 0'),
        (dict(base_channels=-1), 'base_channels must be at least 1, got -1'),
        (dict(input_size=(28, 7)), r'input_size must be at least 8, got \(28, 7\)'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LeNetPlus(**arguments)


@pytest.mark.parametrize('shape', [(1, 28, 28), (3, 28, 32), (3, 112, 112)])
def test_wrong_images(shape):
    with pytest.raises(ValueError, match=r'images must be \(3, 28, 28\).*got ') as error:
        LeNetPlus(base_channels=1)(torch.zeros(2, *shape))
    assert str(shape) in str(error.value)
