import pytest
import torch
import torch.nn.functional as F

from mmarcface.models import IResNet


def batch_norm(x, state, name):
    return F.batch_norm(
        x,
        *(state[f'{name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')),
        eps=1e-5,
    )


def insightface_forward(x, state, blocks_per_stage):
    """arcface_torch's iresnet in evaluation, written from its published architecture."""
    x = F.conv2d(x, state['conv1.weight'], padding=1)
    x = F.prelu(batch_norm(x, state, 'bn1'), state['prelu.weight'])
    for stage, num_blocks in enumerate(blocks_per_stage, 1):
        for index in range(num_blocks):
            block = f'layer{stage}.{index}'
            stride = 1 if index else 2
            out = F.conv2d(
                batch_norm(x, state, f'{block}.bn1'), state[f'{block}.conv1.weight'], padding=1
            )
            out = F.prelu(batch_norm(out, state, f'{block}.bn2'), state[f'{block}.prelu.weight'])
            out = F.conv2d(out, state[f'{block}.conv2.weight'], stride=stride, padding=1)
            out = batch_norm(out, state, f'{block}.bn3')
            if index == 0:
                x = F.conv2d(x, state[f'{block}.downsample.0.weight'], stride=stride)
                x = batch_norm(x, state, f'{block}.downsample.1')
            x = out + x
    x = batch_norm(x, state, 'bn2').flatten(1)
    return batch_norm(F.linear(x, state['fc.weight'], state['fc.bias']), state, 'features')


def randomise_statistics(net):
    torch.manual_seed(1)
    for name, value in net.state_dict().items():
        if 'running_mean' in name:
            value.normal_(0, 0.1)
        elif 'running_var' in name:
            value.uniform_(0.5, 2)


@torch.no_grad()
def test_numbers_are_those_of_insightface():
    net = IResNet(18).eval()
    randomise_statistics(net)
    x = torch.randn(2, 3, 112, 112)
    expected = insightface_forward(x, net.state_dict(), (2, 2, 2, 2))
    torch.testing.assert_close(net(x)[0], expected, rtol=1e-4, atol=1e-4)


# Parameters of insightface's models, with 512-d embeddings at 112 x 112.
@pytest.mark.parametrize(
    ('depth', 'millions'), [(18, 24.03), (34, 34.14), (50, 43.59), (100, 65.16)]
)
def test_size_is_that_of_insightface(depth, millions):
    with torch.device('meta'):
        net = IResNet(depth)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_state_dict_keys_are_those_of_insightface():
    with torch.device('meta'):
        keys = set(IResNet(200).state_dict())
    stem = {'conv1.weight', 'prelu.weight', 'fc.weight', 'fc.bias'}
    norms = {'bn1', 'bn2', 'features'}
    for stage, number in enumerate((6, 26, 60, 6), 1):
        for index in range(number):
            block = f'layer{stage}.{index}'
            stem |= {f'{block}.{k}.weight' for k in ('conv1', 'conv2', 'prelu')}
            norms |= {f'{block}.bn{i}' for i in (1, 2, 3)}
        stem.add(f'layer{stage}.0.downsample.0.weight')
        norms.add(f'layer{stage}.0.downsample.1')
    parts = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    assert keys == stem | {f'{norm}.{part}' for norm in norms for part in parts}


@pytest.mark.parametrize('with_se', [False, True])
def test_checkpointing_changes_neither_gradients_nor_statistics(with_se):
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        net = IResNet(18, 16, 32, base_channels=8, with_se=with_se, with_cp=with_cp)
        x = torch.randn(4, 3, 32, 32, requires_grad=True)
        net(x)[0].square().mul(torch.arange(16)).sum().backward()
        statistics = list(net.buffers())
        results.append(
            [x.grad, *(p.grad for p in net.parameters() if p.requires_grad), *statistics]
        )
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_embedding_is_fp32_and_finite_where_half_precision_overflows():
    net = IResNet(18, 16, 32, base_channels=8).eval()
    net.fc.weight.data.fill_(1e4)
    with torch.autocast('cpu', torch.float16):
        embedding = net(torch.randn(2, 3, 32, 32))[0]
    assert embedding.dtype == torch.float32
    assert embedding.isfinite().all()
    assert embedding.abs().max() > torch.finfo(torch.float16).max


def test_odd_and_rectangular_sizes():
    net = IResNet(18, 16, (37, 21), base_channels=8).eval()
    assert net(torch.randn(2, 3, 37, 21))[0].shape == (2, 16)
    with pytest.raises(ValueError, match=r'\(37, 21\).*got \(21, 37\)'):
        net(torch.randn(2, 3, 21, 37))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'depth': 19}, 'depth must be one of .*, got 19'),
        ({'dropout': 1.0}, r'dropout must be in \[0, 1\), got 1.0'),
        ({'embedding_dim': 0}, 'embedding_dim must be positive, got 0'),
        ({'input_size': (112, 0)}, 'input_size must be positive, got 0'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        IResNet(**arguments)
