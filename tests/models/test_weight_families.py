"""Names and shapes of weights tell which net they are of, with which settings."""

import pytest
import torch

from mmarcface.models import FaceViT, IResNet, IRNet, MobileFaceNet
from mmarcface.models.weights.families import FAMILIES
from mmarcface.models.weights.finding import find_net

from .test_published_nets import golden

# What the authors' names mean.
PUBLISHED = {
    'mbf': (MobileFaceNet, dict(scale=2, blocks=(1, 4, 6, 2))),
    'mbf_large': (MobileFaceNet, dict(scale=4, blocks=(2, 8, 12, 4))),
    'vit_t': (FaceViT, dict(arch='t', patch_size=9)),
    'vit_s': (FaceViT, dict(arch='s', patch_size=9)),
    'adaface_ir_18': (IRNet, dict(depth=18, with_se=False, inner_norm=True)),
    'adaface_ir_50': (IRNet, dict(depth=50, with_se=False, inner_norm=True)),
    'adaface_ir_se_50': (IRNet, dict(depth=50, with_se=True, inner_norm=True)),
}


@pytest.mark.parametrize('name', PUBLISHED)
@pytest.mark.parametrize('prefix', ['', 'module.net.'])
def test_published_nets_are_recognized(name, prefix):
    net, settings = PUBLISHED[name]
    shapes = golden()[name]['shapes']
    weights = {f'{prefix}{k}': torch.empty(s, device='meta') for k, s in shapes.items()}
    found = find_net(dict(epoch=1, state_dict=weights))
    assert (found.family.net, found.where, found.prefix) == (net, 'state_dict', prefix)
    assert found.weights.keys() == shapes.keys()
    expected = settings | dict(embedding_dim=512, input_size=112)
    assert found.family.settings(found.weights, None) == expected


NETS = [
    *[IResNet(depth, 64, 48, 8) for depth in (18, 34, 50, 100, 200)],
    IResNet(18, 64, 112, 4, with_se=True),
    *[MobileFaceNet(32, 64, scale, blocks) for scale in (1, 3) for blocks in ((1,) * 4, (2,) * 4)],
]
with torch.device('meta'):
    NETS += [IRNet(depth) for depth in (18, 34, 50, 101, 152, 200)]
    NETS += [IRNet(depth, inner_norm=False, with_se=True) for depth in (50, 101, 152)]
    NETS += [IRNet(101, inner_norm=False, affine=False), IRNet(50, affine=True)]
    NETS += [FaceViT(arch) for arch in 'tsbl'] + [FaceViT('t', 16, 48, 8)]
WITHOUT_SQUARE = dict(IResNet=(24, 48), MobileFaceNet=(24, 48), IRNet=(24, 48), FaceViT=(27, 50))


@pytest.mark.parametrize('net', NETS, ids=lambda net: type(net).__name__)
def test_settings_make_a_net_of_the_same_shapes(net):
    weights = net.state_dict()
    found = find_net(weights)
    settings = found.family.settings(found.weights, None)
    with torch.device('meta'):
        again = found.family.net(**settings)
    assert type(again) is type(net)
    assert again.input_size == net.input_size
    shapes, expected = (
        {k: v.shape for k, v in one.items()} for one in (again.state_dict(), weights)
    )
    assert shapes == expected


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.net.__name__)
def test_images_that_are_not_square(family):
    size = WITHOUT_SQUARE[family.net.__name__]
    with torch.device('meta'):
        weights = family.net(embedding_dim=16, input_size=size).state_dict()
    assert family.settings(weights, size)['input_size'] == size
    with pytest.raises(ValueError, match='give another --input-size HEIGHT WIDTH'):
        family.settings(weights, (112, 112))
    if family.net is MobileFaceNet:
        # Its last convolution has the shape of the map.
        assert family.settings(weights, None)['input_size'] == (32, 48)
    else:
        with pytest.raises(ValueError, match=r'are not square: .*; give --input-size HEIGHT W'):
            family.settings(weights, None)


@pytest.mark.parametrize(
    ('net', 'change', 'message'),
    [
        (FaceViT, {'pos_embed': (1, 144, 300)}, r'wide, got 300 with 12 blocks'),
        (FaceViT, {'blocks.12.norm1.weight': (256,)}, r'wide, got 256 with 13 blocks'),
        (MobileFaceNet, {'layers.0.layers.0.weight': (100, 3, 3, 3)}, 'multiple of 64 ch.*got 100'),
        (IRNet, {'body.24.res_layer.1.weight': (512, 512, 3, 3)}, r'stages, got \(3, 4, 14, 4\)'),
        (IRNet, {'body.24.res_layer.0.weight': (512,)}, 'body.24.res_layer.1.weight is missing'),
        (IRNet, {'output_layer.3.weight': (512, 25000)}, 'multiple of 512 columns.*got 25000'),
    ],
)  # fmt: skip
def test_what_is_no_net_of_a_family(net, change, message):
    with torch.device('meta'):
        weights = net().state_dict() | {key: torch.empty(shape) for key, shape in change.items()}
    family = next(family for family in FAMILIES if family.net is net)
    with pytest.raises(ValueError, match=message):
        family.settings(weights, None)
