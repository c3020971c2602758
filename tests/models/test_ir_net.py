"""The older layout of IR nets, beside its published architecture written with functions."""

import pytest
import torch
import torch.nn.functional as F

from mmarcface.models import IRNet


def batch_norm(x, state, name):
    weight, bias = (state.get(f'{name}.{part}') for part in ('weight', 'bias'))
    mean, var = state[f'{name}.running_mean'], state[f'{name}.running_var']
    return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)


def insightface_pytorch_forward(x, state):
    """IR-SE-50 of InsightFace_Pytorch in evaluation."""
    x = batch_norm(F.conv2d(x, state['input_layer.0.weight'], padding=1), state, 'input_layer.1')
    x = F.prelu(x, state['input_layer.2.weight'])
    for index in range(24):
        stride = 2 if index in (0, 3, 7, 21) else 1
        layer, shortcut = f'body.{index}.res_layer', f'body.{index}.shortcut_layer'
        out = batch_norm(x, state, f'{layer}.0')
        out = F.conv2d(out, state[f'{layer}.1.weight'], padding=1)
        out = F.prelu(out, state[f'{layer}.2.weight'])
        out = F.conv2d(out, state[f'{layer}.3.weight'], stride=stride, padding=1)
        out = batch_norm(out, state, f'{layer}.4')
        gate = F.relu(F.conv2d(F.adaptive_avg_pool2d(out, 1), state[f'{layer}.5.fc1.weight']))
        out = out * torch.sigmoid(F.conv2d(gate, state[f'{layer}.5.fc2.weight']))
        if f'{shortcut}.0.weight' in state:
            x = F.conv2d(x, state[f'{shortcut}.0.weight'], stride=stride)
            x = batch_norm(x, state, f'{shortcut}.1')
        else:
            x = F.max_pool2d(x, 1, stride)
        x = out + x
    x = batch_norm(x, state, 'output_layer.0').flatten(1)
    x = F.linear(x, state['output_layer.3.weight'], state['output_layer.3.bias'])
    return batch_norm(x, state, 'output_layer.4')


@torch.no_grad()
# CurricularFace's last BN has neither weight nor bias.
@pytest.mark.parametrize('affine', [None, False])
def test_numbers_of_the_older_layout(affine):
    torch.manual_seed(0)
    net = IRNet(50, True, False, affine, embedding_dim=16, input_size=(32, 48)).eval()
    for name, value in net.state_dict().items():
        if 'running_mean' in name:
            value.normal_(0, 0.1)
        elif 'running_var' in name:
            value.uniform_(0.5, 2)
        elif value.ndim == 1:
            value.normal_(1, 0.2)
    x = torch.randn(2, 3, 32, 48)
    found, expected = net(x)[0], insightface_pytorch_forward(x, net.state_dict())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max())
    assert ('output_layer.4.weight' in net.state_dict()) == (affine is None)
