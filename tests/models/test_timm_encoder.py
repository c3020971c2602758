"""Models of timm as encoders, beside timm itself."""

import sys

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from mmarcface.models import ArcFaceHead, EmbeddingRetriever, TimmEncoder

timm = pytest.importorskip('timm')
SWIN = 'swin_tiny_patch4_window7_224'


# A CNN, two transformers, and a net whose pooled features are wider than its maps.
@pytest.mark.parametrize(
    ('name', 'size', 'dim', 'width'),
    [
        ('resnet10t', 64, None, 512),
        ('vit_tiny_patch16_224', 64, None, 192),
        (SWIN, (64, 32), 24, 24),
        ('mobilenetv3_small_050', (64, 48), None, 1024),
        ('convnext_atto', 64, 24, 24),
    ],
)
def test_each_trains_and_embeds_from_one_line(name, size, dim, width):
    torch.manual_seed(0)
    encoder = dict(
        type='mmarcface.TimmEncoder', model_name=name, input_size=size, embedding_dim=dim
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = EmbeddingRetriever(encoder, ArcFaceHead(3, width))
    assert model.image_encoder.embedding_dim == width
    images = torch.randn(4, 3, *model.image_encoder.input_size)
    samples = [DataSample().set_gt_label(label) for label in (0, 1, 2, 0)]
    model.init_weights()
    loss = model.train().loss(images, samples)['loss']
    loss.backward()
    assert loss.isfinite()
    assert next(model.image_encoder.parameters()).grad.abs().sum() > 0
    embeddings = model.eval().embed(images)
    assert embeddings.shape == (4, width)
    # An embedding does not depend on the other images.
    torch.testing.assert_close(model.embed(images[:1]), embeddings[:1], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_numbers_are_those_of_timm():
    torch.manual_seed(0)
    net = TimmEncoder(SWIN, input_size=(64, 32), drop_path_rate=0.0).eval()
    theirs = timm.create_model(SWIN, num_classes=0, img_size=(64, 32)).eval()
    theirs.load_state_dict(net.model.state_dict())
    # It leaves what timm has initialized, or fetched, as it is.
    net.init_weights()
    images = torch.randn(2, 3, 64, 32)
    assert net(images)[0].equal(theirs(images))


def test_fixed_statistics():
    net = TimmEncoder('resnet10t', 8, 32, norm_eval=True)
    before = {name: value.clone() for name, value in net.named_buffers()}
    net.train()(torch.randn(1, 3, 32, 32))[0].sum().backward()
    assert before
    assert all(value.equal(before[name]) for name, value in net.named_buffers())
    with pytest.raises(ValueError, match='a batch of one image has no batch statistics'):
        TimmEncoder('resnet10t', 8, 32)(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r'\(32, 32\).* this TimmEncoder .* got \(64, 64\)'):
        net(torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(model_name='vit_tiny'), "a model of timm .*, got 'vit_tiny'; similar ones are .*vit"),
        (dict(model_name='resnet10t', embedding_dim=0), 'embedding_dim must be at least 1, got 0'),
        (dict(model_name='resnet10t', window=3), 'cannot build resnet10t .*window'),
        (dict(model_name='resnet10t', input_size=(0, 8)), r'input_size must be at least 1, got'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TimmEncoder(**arguments)


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ImportError, match='TimmEncoder needs timm: pip install timm'):
        TimmEncoder('resnet10t')
