import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mmarcface.models import ArcFaceHead, EmbeddingRetriever, IResNet


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
        ({'embedding_dim': 0}, 'embedding_dim must be at least 1, got 0'),
        ({'input_size': (112, 0)}, r'input_size must be at least 1, got \(112, 0\)'),
        ({'depth': '50'}, "depth must be one of .*, got '50'"),
        ({'depth': [50]}, r'depth must be one of .*, got \[50\]'),
        ({'dropout': '0.1'}, "dropout must be a finite number .*, got '0.1'"),
        ({'embedding_dim': 512.0}, 'embedding_dim must be a whole number .*, got 512.0'),
        ({'base_channels': True}, 'base_channels must be a whole number .*, got True'),
        ({'input_size': '112'}, "input_size must be a whole number, or two .*, got '112'"),
        ({'input_size': (3, 112, 112)}, 'or two for height and width, got'),
        ({'frozen_stages': 5}, r'frozen_stages must be in \[-1, 4\], got 5'),
        ({'frozen_stages': -2}, 'got -2'),
        ({'frozen_stages': 1.0}, 'frozen_stages must be a whole number .*, got 1.0'),
        ({'frozen_stages': True}, 'frozen_stages must be a whole number .*, got True'),
        ({'frozen_stages': None}, 'frozen_stages must be a whole number .*, got None'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        IResNet(**arguments)


STEM = ('conv1', 'bn1', 'prelu')


def small(**options) -> IResNet:
    torch.manual_seed(0)
    return IResNet(18, 16, 32, base_channels=4, **options)


def train(net: IResNet) -> set[str]:
    """The parameters and buffers that two steps of training changed."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, weight_decay=0.1)
    for _ in range(2):
        net.train()
        loss = net(torch.randn(4, 3, 32, 32))[0].square().mul(torch.arange(16)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = net.state_dict()
    return {name for name, value in before.items() if not after[name].equal(value)}


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3, 4])
def test_what_is_frozen_does_not_change_and_all_else_does(frozen_stages, with_cp):
    net = small(frozen_stages=frozen_stages, with_cp=with_cp)
    frozen = (*STEM, *(f'layer{k}' for k in range(1, frozen_stages + 1)))
    frozen = frozen if frozen_stages >= 0 else ()
    changed = train(net)
    for name in net.state_dict():
        is_frozen = name.split('.')[0] in frozen
        # As in insightface's nets this weight never trains.
        assert (name in changed) == (not is_frozen and name != 'features.weight'), name
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == (
            name.split('.')[0] in frozen or name == 'features.weight'
        )
    for name, module in net.named_children():
        assert module.training == (name not in frozen), name


@pytest.mark.parametrize('with_cp', [False, True])
def test_fixed_statistics_still_train_weights(with_cp):
    net = small(norm_eval=True, with_cp=with_cp)
    changed = train(net)
    buffers = {name for name, _ in net.named_buffers()}
    assert not changed & buffers
    assert changed == set(net.state_dict()) - buffers - {'features.weight'}
    assert net.training
    assert net.dropout.training


def test_frozen_from_the_first_forward_and_after_evaluation():
    """Without a call of train(), and after validation, as a Runner switches."""
    net = small(frozen_stages=2, norm_eval=True)
    before = copy.deepcopy(net.state_dict())
    net(torch.randn(4, 3, 32, 32))
    for mode in (False, True):
        assert net.train(mode) is net
        net(torch.randn(4, 3, 32, 32))
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


def test_freezing_changes_no_number_and_no_key():
    plain, frozen = small(), small(frozen_stages=2, norm_eval=True)
    randomise_statistics(plain)
    frozen.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(2, 3, 32, 32)
    expected = plain.eval()(x)[0]
    assert frozen.eval()(x)[0].equal(expected)
    # All statistics are fixed, and dropout is 0.
    assert frozen.train()(x)[0].equal(expected)


def test_gradients_of_a_frozen_net_do_not_depend_on_checkpointing():
    gradients = []
    for with_cp in (False, True):
        net = small(frozen_stages=2, with_cp=with_cp)
        torch.manual_seed(2)
        net(torch.randn(4, 3, 32, 32))[0].square().mul(torch.arange(16)).sum().backward()
        gradients.append({name: p.grad for name, p in net.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_one_image_needs_no_statistics_where_they_are_fixed():
    one = torch.randn(1, 3, 32, 32)
    for options in (dict(), dict(frozen_stages=4)):
        with pytest.raises(ValueError, match='a batch of one image has no batch statistics'):
            small(**options)(one)
    assert small(norm_eval=True)(one)[0].shape == (1, 16)
    assert small(frozen_stages=1, norm_eval=True)(one)[0].shape == (1, 16)
    # As a hook does that sets BN layers to evaluation.
    net = small()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    assert net(one)[0].shape == (1, 16)


def step_of_one_process(rank, world):
    net = small(frozen_stages=2)
    if world > 1:
        # Without find_unused_parameters, which frozen ones do not need.
        net = nn.parallel.DistributedDataParallel(net, broadcast_buffers=False)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    for step in range(2):
        torch.manual_seed(step)
        optimizer.zero_grad()
        net(torch.randn(4, 3, 32, 32))[0].square().mul(torch.arange(16)).sum().backward()
        optimizer.step()
    return dict((net.module if world > 1 else net).state_dict())


def test_frozen_stages_train_on_processes(on_processes):
    expected = step_of_one_process(0, 1)
    for found in on_processes(step_of_one_process):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
