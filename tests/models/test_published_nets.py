"""MobileFaceNet, IRNet and FaceViT: the numbers of the published nets, and what training needs."""

import gzip
import json
import math
import zlib
from pathlib import Path

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmpretrain.structures import DataSample
from torch import nn

from mmarcface.models import ArcFaceHead, EmbeddingRetriever, FaceViT, IRNet, MobileFaceNet
from mmarcface.registry import MODELS

PUBLISHED = {
    'mbf': lambda: MobileFaceNet(),
    'mbf_large': lambda: MobileFaceNet(scale=4, blocks=(2, 8, 12, 4)),
    'vit_t': lambda: FaceViT('t'),
    'vit_s': lambda: FaceViT('s'),
    'adaface_ir_18': lambda: IRNet(18),
    'adaface_ir_50': lambda: IRNet(50),
    'adaface_ir_se_50': lambda: IRNet(50, with_se=True),
}
TINY = dict(embed_dims=16, num_layers=3, num_heads=4)
SMALL = {
    'MobileFaceNet': lambda **o: MobileFaceNet(
        **dict(embedding_dim=16, input_size=32, scale=1) | o
    ),
    'IRNet': lambda **o: IRNet(**dict(depth=18, embedding_dim=16, input_size=32, dropout=0.0) | o),
    'FaceViT': lambda **o: FaceViT(
        **dict(arch=TINY, embedding_dim=16, input_size=32, patch_size=8, mask_ratio=0.0,
               drop_path_rate=0.0) | o
    ),
}  # fmt: skip
# Where each stage of the small nets begins, among its parameters by name; then what always trains.
STAGES = {
    'MobileFaceNet': [
        ('layers.0.',),
        ('layers.1.',),
        ('layers.2.', 'layers.3.'),
        ('layers.4.', 'layers.5.'),
        ('layers.6.', 'layers.7.'),
    ],
    'IRNet': [('input_layer.',), *[(f'body.{2 * k}.', f'body.{2 * k + 1}.') for k in range(4)]],
    'FaceViT': [('patch_embed.', 'pos_embed'), *[(f'blocks.{k}.',) for k in range(3)]],
}
FAMILIES = sorted(SMALL)


def golden():
    """Keys, shapes and first outputs, from the published modules; see the README beside it."""
    content = (Path(__file__).parent / 'golden' / 'outputs.json.gz').read_bytes()
    return json.loads(gzip.decompress(content))


def seeded(shapes):
    """Weights that need no file: drawn for each tensor, from a seed of its name."""
    state = {}
    for key, shape in shapes.items():
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        kind = key.rpartition('.')[2]
        if kind == 'num_batches_tracked':
            state[key] = torch.tensor(1)
        elif kind == 'running_var':
            state[key] = torch.rand(shape, generator=generator) + 0.5
        elif kind in ('running_mean', 'bias'):
            state[key] = torch.randn(shape, generator=generator) * 0.05
        elif len(shape) == 1:
            state[key] = torch.rand(shape, generator=generator) * 0.5 + 0.5
        else:
            fan_in = math.prod(shape[1:])
            state[key] = torch.randn(shape, generator=generator) / fan_in**0.5
    return state


@torch.no_grad()
@pytest.mark.parametrize('name', sorted(PUBLISHED))
def test_numbers_are_those_of_the_published_net(name):
    known, net = golden()[name], PUBLISHED[name]().eval()
    net.load_state_dict(seeded(known['shapes']), strict=True)
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(7))
    (embeddings,) = net(images)
    assert embeddings.shape == (2, known['width'])
    if name.startswith('adaface'):
        # Its modules give unit vectors, and their lengths beside them.
        embeddings = nn.functional.normalize(embeddings)
    first = torch.tensor(known['first'])
    torch.testing.assert_close(embeddings[:, : first.shape[1]], first, rtol=0, atol=1e-4)


# Millions of parameters that CVLface and InsightFace_Pytorch give, 512-d at 112 x 112.
@pytest.mark.parametrize(
    ('depth', 'inner_norm', 'millions'), [(101, True, 65.15), (50, False, 43.57)]
)
def test_size_of_ir_nets(depth, inner_norm, millions):
    with torch.device('meta'):
        net = IRNet(depth, inner_norm=inner_norm)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.02)


def test_layers_of_deep_and_older_ir_nets():
    with torch.device('meta'):
        deep = IRNet(200).state_dict()
        old = IRNet(50, with_se=True, inner_norm=False).state_dict()
    assert deep['body.0.res_layer.1.weight'].shape == (64, 64, 1, 1)
    assert deep['body.65.res_layer.7.weight'].shape == (2048, 512, 1, 1)
    assert deep['output_layer.3.weight'].shape == (512, 2048 * 49)
    assert old['body.0.res_layer.2.weight'].shape == (64,)
    assert old['body.0.res_layer.5.fc1.weight'].shape == (4, 64, 1, 1)
    assert old['output_layer.4.weight'].shape == (512,)
    assert 'output_layer.4.weight' not in deep
    assert 'body.0.res_layer.2.running_mean' not in old


@pytest.mark.parametrize('family', FAMILIES)
def test_odd_and_rectangular_sizes(family):
    net = SMALL[family](input_size=(37, 21)).eval()
    assert net(torch.randn(2, 3, 37, 21))[0].shape == (2, 16)
    assert net.input_size == (37, 21)
    assert net.embedding_dim == 16
    with pytest.raises(ValueError, match=rf'\(37, 21\).*this {family} .*got \(21, 37\)'):
        net(torch.randn(2, 3, 21, 37))


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(family, dtype):
    """Embeddings stay fp32 and finite under autocast; a net that is cast gives its own type."""
    net = SMALL[family]().eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = nn.functional.normalize(net(images)[0])
        last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
        with torch.autocast('cpu', dtype):
            embedding = net(images)[0]
            last.weight.mul_(1e12)
            large = net(images)[0]
    assert embedding.dtype == large.dtype == torch.float32
    assert (nn.functional.normalize(embedding) * expected).sum(1).min() > 0.98
    assert large.isfinite().all()
    assert large.abs().max() > torch.finfo(torch.float16).max
    if dtype == torch.bfloat16:
        assert SMALL[family]().eval().to(dtype)(images.to(dtype))[0].dtype == dtype


def train(net, images=8):
    """The parameters and buffers that two steps of training changed, and the gradients."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(1)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        net.train()
        optimizer.zero_grad()
        net(torch.randn(images, 3, 32, 32))[0].square().mul(torch.arange(16)).sum().backward()
        optimizer.step()
    after = net.state_dict()
    return {name for name, value in before.items() if not after[name].equal(value)}


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 'all'])
def test_what_is_frozen_does_not_change_and_all_else_does(family, frozen_stages):
    stages = STAGES[family]
    if frozen_stages == 'all':
        frozen_stages = len(stages) - 1
    torch.manual_seed(0)
    net = SMALL[family](frozen_stages=frozen_stages)
    frozen = tuple(prefix for stage in stages[: frozen_stages + 1] for prefix in stage)
    changed = train(net)
    for name in net.state_dict():
        is_frozen = bool(frozen) and name.startswith(frozen)
        # Nothing is masked, and a bias before BN has a gradient of rounding errors.
        if name == 'mask_token' or name == 'output_layer.3.bias':
            continue
        assert (name in changed) == (not is_frozen), name
    for name, parameter in net.named_parameters():
        if bool(frozen) and name.startswith(frozen):
            assert parameter.grad is None, name
    with pytest.raises(ValueError, match=rf'frozen_stages must be in \[-1, {len(stages) - 1}\]'):
        SMALL[family](frozen_stages=len(stages))


@pytest.mark.parametrize('family', FAMILIES)
def test_fixed_statistics_still_train_weights(family):
    torch.manual_seed(0)
    net = SMALL[family](norm_eval=True)
    before = [value.clone() for value in net.buffers()]
    net.train()(torch.randn(4, 3, 32, 32))[0].tanh().mul(torch.arange(16)).sum().backward()
    assert all(torch.equal(*values) for values in zip(before, net.buffers(), strict=True))
    norms = [m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert norms
    assert all(m.weight.grad.abs().max() > 0 for m in norms if m.affine)
    assert net(torch.randn(1, 3, 32, 32))[0].shape == (1, 16)


@pytest.mark.parametrize('family', FAMILIES)
def test_frozen_after_evaluation_and_in_an_average(family):
    net = SMALL[family](frozen_stages=1, norm_eval=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    model = EmbeddingRetriever(net, ArcFaceHead(3, 16))
    model.eval()
    model.train()
    net(torch.randn(4, 3, 32, 32))
    average = ExponentialMovingAverage(model)
    average.train()
    average.module.image_encoder(torch.randn(4, 3, 32, 32))
    for state in (net.state_dict(), average.module.image_encoder.state_dict()):
        for name, value in before.items():
            assert state[name].equal(value), name


@pytest.mark.parametrize('family', FAMILIES)
def test_one_image_has_no_batch_statistics(family):
    with pytest.raises(ValueError, match='a batch of one image has no batch statistics'):
        SMALL[family]()(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize('family', ['IRNet', 'FaceViT'])
def test_checkpointing_changes_neither_gradients_nor_statistics(family):
    options = dict(mask_ratio=0.5, drop_path_rate=0.5) if family == 'FaceViT' else {}
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        net = SMALL[family](with_cp=with_cp, frozen_stages=1, **options)
        torch.manual_seed(2)
        net(torch.randn(4, 3, 32, 32))[0].square().mul(torch.arange(16)).sum().backward()
        gradients = {n: p.grad for n, p in net.named_parameters() if p.requires_grad}
        results.append(gradients | dict(net.named_buffers()))
    plain, checkpointed = results
    assert plain.keys() == checkpointed.keys()
    for name, value in plain.items():
        torch.testing.assert_close(value, checkpointed[name])


def seen_tokens(net, images):
    """The tokens that reach the first block and the embedding layer."""
    seen = []
    net.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net.feature.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(images)
    return seen


def test_patches_are_left_out_in_training_alone():
    torch.manual_seed(0)
    net = SMALL['FaceViT'](input_size=96, mask_ratio=0.3)
    images = torch.randn(40, 3, 96, 96)
    inside, outside = seen_tokens(net, images)
    # 144 patches, of which 100 are left.
    assert inside.shape == (40, 100, 16)
    tokens = outside.view(40, 144, 16)
    masked = (tokens == net.mask_token).all(2)
    assert (masked.sum(1) == 44).all()
    # Each patch has its turn, and each image others.
    often = masked.float().mean(0)
    assert often.min() > 0.05
    assert often.max() < 0.6
    assert len({tuple(row.tolist()) for row in masked}) == 40
    # What is not left out keeps its place.
    all_tokens = net.patch_embed(images) + net.pos_embed
    first, place = inside[0], (~masked[0]).nonzero().squeeze(1)
    distance = torch.cdist(first, all_tokens[0]).argmin(1)
    assert sorted(distance.tolist()) == place.tolist()

    inside, outside = seen_tokens(net.eval(), images)
    assert inside.shape == (40, 144, 16)
    assert not (outside.view(40, 144, 16) == net.mask_token).all(2).any()


def test_nothing_is_masked_without_a_share():
    """Then no process waits for the gradient of the token, and no number is drawn."""
    net = SMALL['FaceViT']()
    assert not net.mask_token.requires_grad
    images = torch.randn(4, 3, 32, 32)
    inside, _ = seen_tokens(net, images)
    assert inside.shape == (4, 16, 16)


def test_stochastic_depth_rises_from_block_to_block():
    torch.manual_seed(0)
    net = SMALL['FaceViT'](drop_path_rate=0.6)
    x = torch.randn(4000, 2, 16)
    left_out = []
    for block in net.blocks:
        attention = block.drop_path(block.attn(block.norm1(x)))
        left_out.append((attention == 0).all(2).all(1).float().mean().item())
    assert left_out[0] == 0
    assert left_out[1:] == pytest.approx([0.3, 0.6], abs=0.03)
    assert block.eval().drop_path(x).equal(x)


def test_dropout_of_an_ir_net():
    torch.manual_seed(0)
    net = SMALL['IRNet'](dropout=0.4)
    seen = []
    net.output_layer[2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(torch.randn(64, 3, 32, 32))
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.4, abs=0.02)


def step_of_one_process(rank, world, family):
    torch.manual_seed(0)
    options = dict(mask_ratio=0.5) if family == 'FaceViT' else {}
    net = SMALL[family](frozen_stages=1, **options)
    if world > 1:
        # Without find_unused_parameters.
        net = nn.parallel.DistributedDataParallel(net, broadcast_buffers=False)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.01)
    for step in range(2):
        torch.manual_seed(step)
        optimizer.zero_grad()
        net(torch.randn(4, 3, 32, 32))[0].square().mul(torch.arange(16)).sum().backward()
        optimizer.step()
    return dict((net.module if world > 1 else net).state_dict())


@pytest.mark.parametrize('family', FAMILIES)
def test_they_train_on_processes(on_processes, family):
    expected = step_of_one_process(0, 1, family)
    for found in on_processes(step_of_one_process, family):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize(
    ('family', 'arguments', 'message'),
    [
        ('MobileFaceNet', dict(scale=0), 'scale must be at least 1, got 0'),
        ('MobileFaceNet', dict(blocks=(1, 2, 3)), r'blocks must be four numbers .*\(1, 2, 3\)'),
        ('MobileFaceNet', dict(blocks=(0, 4, 6, 2)), 'blocks must be four numbers'),
        ('MobileFaceNet', dict(embedding_dim='512'), "embedding_dim must be .*, got '512'"),
        ('IRNet', dict(depth=100), 'depth must be one of .*101.* with inner_norm=True, got 100'),
        ('IRNet', dict(depth=18, inner_norm=False), r'\[50, 101, 152\] with inner_norm=False'),
        ('IRNet', dict(depth='50'), "depth must be one of .*, got '50'"),
        ('IRNet', dict(dropout=1), r'dropout must be in \[0, 1\), got 1'),
        ('IRNet', dict(input_size=0), 'input_size must be at least 1, got 0'),
        ('FaceViT', dict(arch='h'), r"arch must be one of \['t', 's', 'b', 'l'\] or a dict .*'h'"),
        ('FaceViT', dict(arch=TINY | dict(num_heads=5)), 'num_heads must divide embed_dims, 16'),
        ('FaceViT', dict(arch=dict(embed_dims=16)), 'a dict of embed_dims, num_layers, num_heads'),
        ('FaceViT', dict(arch=TINY | dict(num_layers=0)), 'num_layers must be at least 1, got 0'),
        ('FaceViT', dict(patch_size=33), r'patch_size must be at most input_size, .*got 33'),
        ('FaceViT', dict(mask_ratio=1), r'mask_ratio must be in \[0, 1\), got 1'),
        ('FaceViT', dict(mask_ratio=0.99), 'mask_ratio must leave at least one of 16 patches'),
        ('FaceViT', dict(drop_path_rate=-0.1), r'drop_path_rate must be in \[0, 1\), got -0.1'),
    ],
)
def test_wrong_arguments(family, arguments, message):
    with pytest.raises(ValueError, match=message):
        SMALL[family](**arguments)


# Each is one line of a config.
OTHERS = {
    'ViT': dict(
        type='mmpretrain.VisionTransformer',
        arch='deit-tiny',
        img_size=32,
        patch_size=8,
        out_type='cls_token',
    ),
    'Swin': dict(type='mmpretrain.SwinTransformer', arch='tiny', img_size=64, pad_small_map=True),
    'ConvNeXt': dict(type='mmpretrain.ConvNeXt', arch='atto'),
    'MobileNetV3': dict(type='mmpretrain.MobileNetV3', arch='small'),
    'timm': dict(type='mmpretrain.TIMMBackbone', model_name='resnet18'),
}


@pytest.mark.parametrize('name', OTHERS)
def test_nets_of_mmpretrain_and_timm(name):
    if name == 'timm':
        pytest.importorskip('timm')
    encoder = OTHERS[name]
    size = encoder.get('img_size', 64)
    # The loss takes vectors; what has maps gets a neck, as in mmpretrain's recipes.
    neck = dict(type='mmpretrain.GlobalAveragePooling')
    parts = [encoder, neck] if name in ('Swin', 'MobileNetV3', 'timm') else encoder
    model = MODELS.build(dict(type='mmarcface.EmbeddingRetriever', image_encoder=parts)).eval()
    images = torch.randn(4, 3, size, size)
    with torch.no_grad():
        embeddings = model.embed(images)
        mirrored = model.embed(images.flip(-1))
        model.flip = True
        torch.testing.assert_close(model.embed(images), embeddings + mirrored)
    assert embeddings.shape[0] == 4
    assert embeddings.isfinite().all()
    model.head = ArcFaceHead(3, embeddings.shape[1])
    samples = [DataSample().set_gt_label(label) for label in (0, 1, 2, 0)]
    loss = model.train().loss(images, samples)['loss']
    loss.backward()
    assert loss.isfinite()
    assert sum(p.grad.abs().sum() for p in model.image_encoder.parameters() if p.requires_grad) > 0
