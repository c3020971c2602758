"""The recipes' training steps, and whole trainings with every hook, beside the CPU."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch.utils._pytree import tree_leaves

from mmarcface import engine
from mmarcface.apis import get_model
from mmarcface.engine.launch import build_runner, train_unless_done
from mmarcface.registry import MODELS
from tests.conftest import ROOT
from tests.engine.test_inversion import HOOK, loader, tiny

from .same import check_same

# Recipes of each family of models, what makes them small, and the size of their images.
FAMILIES = {
    'IResNet': ('arcface/iresnet18-arcface_orl.py', dict(base_channels=8), (3, 56, 48)),
    # What is random differs between devices.
    'IRNet': (
        'arcface/iresnet18-arcface_orl.py',
        dict(type='mmarcface.IRNet', depth=18, embedding_dim=128, input_size=(56, 48), dropout=0.0),
        (3, 56, 48),
    ),
    'MobileFaceNet': (
        'mobilefacenet/mobilefacenet-arcface_orl-40e.py',
        dict(blocks=(1, 1, 1, 1)),
        (3, 56, 48),
    ),
    'FaceViT': (
        'face_vit/face-vit-arcface_glyphs.py',
        dict(arch=dict(embed_dims=16, num_layers=2), mask_ratio=0.0, drop_path_rate=0.0),
        (3, 32, 32),
    ),
    'LeNet++': ('mnist/lenet-arcface_mnist.py', dict(), (3, 28, 28)),
    'ResNet of mmpretrain with a neck': (
        'arcface/resnet50-arcface_inshop.py',
        dict(depth=18, stem_channels=8, base_channels=8, init_cfg=None),
        (3, 32, 32),
    ),
}


def model_of(family):
    """The recipe's model and optimizer, and three batches as its loader gives them."""
    recipe, changes, shape = FAMILIES[family]
    config = Config.fromfile(ROOT / 'configs' / recipe)
    encoder = config.model.image_encoder
    if changes.get('type'):
        config.model.image_encoder = changes
    else:
        (encoder[0] if isinstance(encoder, list) else encoder).update(changes)
    if 'stem_channels' in changes:
        config.model.head.update(in_channels=64)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        config.model.setdefault('data_preprocessor', config.data_preprocessor)
        model = MODELS.build(config.model)
    batches = []
    for _ in range(3):
        images = torch.randint(256, (4, *shape), dtype=torch.uint8)
        labels = torch.randint(model.head.num_classes, (4,)).tolist()
        samples = [DataSample().set_gt_label(label) for label in labels]
        pairs = zip(images, samples, strict=True)
        batches.append(pseudo_collate([dict(inputs=i, data_samples=s) for i, s in pairs]))
    return model, batches


def steps_of(model, batches, dtype=None):
    """What a Runner logs of some iterations, and the weights after them."""
    model.train()
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
    where = next(model.parameters()).device.type
    logs = []
    for batch in batches:
        with torch.autocast(where, dtype, enabled=dtype is not None):
            logs.append(model.train_step(copy.deepcopy(batch), optim))
    return logs, model.state_dict()


def answers_of(model, batch):
    model.eval()
    samples = model.test_step(copy.deepcopy(batch))
    return [sample.to_dict() for sample in samples]


@pytest.mark.parametrize('family', FAMILIES)
def test_steps_are_those_of_the_cpu(device, family):
    of_cpu, batches = model_of(family)
    model = copy.deepcopy(of_cpu).to(device)
    check_same(steps_of(model, batches), steps_of(of_cpu, batches), device)
    check_same(answers_of(model, batches[0]), answers_of(of_cpu, batches[0]), device)


@pytest.mark.parametrize(
    ('family', 'dtype'),
    [*((family, torch.bfloat16) for family in FAMILIES), ('IResNet', torch.float16)],
)
def test_steps_under_autocast(device, family, dtype):
    plain, batches = model_of(family)
    model = copy.deepcopy(plain).to(device)
    logs, state = steps_of(model, batches[:1], dtype)
    expected, _ = steps_of(plain.to(device), batches[:1])
    assert logs[0]['loss'].dtype == torch.float32
    assert logs[0]['loss'].item() == pytest.approx(expected[0]['loss'].item(), rel=0.05)
    for name, value in state.items():
        assert value.dtype == plain.state_dict()[name].dtype
        assert value.isfinite().all()
    with torch.autocast(device.type, dtype):
        answers = answers_of(model, batches[0])
    assert {answer['embedding'].device for answer in answers} == {device}
    if 'mmpretrain' not in family:
        assert {answer['embedding'].dtype for answer in answers} == {torch.float32}


# Every hook at once, beside one of mmengine's that changes the weights.
HOOKS = [
    dict(type='mmarcface.RecomputeStatisticsHook'),
    dict(type='mmarcface.SyncStatisticsHook'),
    dict(type='SyncBuffersHook'),
    dict(type='EMAHook', momentum=0.1),
    dict(type='mmarcface.AdaptiveMarginsHook', margin_min=0.1, margin_max=0.3),
    dict(type='mmarcface.MarginScheduleHook', epochs=2),
    dict(type='mmarcface.SubCenterHook', interval=2),
    dict(type='mmarcface.EmbeddingPlotHook'),
    HOOK | dict(targets=[0, 1], per_target=1),
    dict(type='mmarcface.ResultsTableHook', baseline=dict(type='mmarcface.RawPixels')),
]


def test_every_hook_is_tried():
    tried = {hook['type'].removeprefix('mmarcface.') for hook in HOOKS}
    assert {name for name in engine.__all__ if name.endswith('Hook')} <= tried


def config_of(folder: Path, epochs=2, hooks=HOOKS) -> Config:
    changes = dict(
        custom_hooks=hooks,
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        # People of the training, whose centers are drawn.
        val_dataloader=loader((3, 5, 7)) | dict(sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=[dict(type='mmarcface.RetrievalMetric')]
        + [dict(type='mmarcface.VerificationMetric', far=(0.1,))],
        val_cfg=dict(),
        work_dir=str(folder),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
    )
    tiny(**changes, launcher='none', log_level='INFO').dump(folder.with_suffix('.py'))
    config = Config.fromfile(folder.with_suffix('.py'))
    config.model.head.update(type='mmarcface.SubCenterArcFaceHead')
    return config


def hook_of(runner, name):
    return next(hook for hook in runner.hooks if type(hook).__name__ == name)


def train(folder: Path, checkpoint=None, **changes):
    """Train, or go on from a checkpoint."""
    config = config_of(folder, **changes)
    config.resume, config.load_from = checkpoint is not None, checkpoint
    runner = build_runner(config)
    runner.train()
    return runner


def test_a_training_with_every_hook(device, tmp_path, monkeypatch):
    runner = train(tmp_path / 'device')
    with monkeypatch.context() as patch:
        patch.setattr('mmengine.device.utils.DEVICE', 'cpu')
        of_cpu = train(tmp_path / 'cpu')
    assert {p.device for p in runner.model.parameters()} == {device}
    assert next(of_cpu.model.parameters()).device.type == 'cpu'
    scalars = [r.message_hub.log_scalars for r in (runner, of_cpu)]
    assert scalars[0].keys() == scalars[1].keys()
    for name in scalars[0]:
        if not name.endswith('time'):
            found, expected = (torch.as_tensor(s[name].data[0]) for s in scalars)
            torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
    panels = [hook_of(r, 'EmbeddingPlotHook').panel for r in (runner, of_cpu)]
    check_same(panels[0].labels, panels[1].labels)
    assert panels[0].centers.shape == panels[1].centers.shape == (9, 8)
    np.testing.assert_allclose(panels[0].embeddings, panels[1].embeddings, rtol=0.02, atol=0.02)
    tables = [hook_of(r, 'ResultsTableHook').latest for r in (runner, of_cpu)]
    assert tables[0] == pytest.approx(tables[1], abs=0.01)
    logged = next((tmp_path / 'device').glob('*/*.log')).read_text()
    assert 'RawPixels' in logged
    images = (tmp_path / 'device' / 'inversion').glob('*/images/*.png')
    assert len(list(images)) == 2
    assert list((tmp_path / 'device').rglob('embeddings_*.png'))


def test_a_training_goes_on_where_it_was(device, tmp_path):
    hooks = [hook for hook in HOOKS if hook['type'] != 'EMAHook']
    train(tmp_path / 'net', epochs=1, hooks=hooks)
    first, last = (str(tmp_path / 'net' / f'epoch_{epoch}.pth') for epoch in (1, 2))
    # What a machine without a GPU reads, too. (mmengine's EMAHook leaves its weights on the GPU.)
    content = torch.load(first, weights_only=True)
    tensors = [leaf for leaf in tree_leaves(content) if isinstance(leaf, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {'cpu'}
    runner = train(tmp_path / 'net', first, hooks=hooks)
    assert (runner.epoch, runner.iter) == (2, 6)
    moments = runner.optim_wrapper.optimizer.state.values()
    assert {state['momentum_buffer'].device for state in moments} == {device}
    # Nothing is left to do, and its weights are there.
    again = train_unless_done(config_of(tmp_path / 'net', hooks=hooks))
    weights = dict(torch.load(last, weights_only=True)['state_dict'])
    assert weights.keys() == content['state_dict'].keys()
    check_same(dict(again.model.state_dict()), weights, device)
    for where in (device, torch.device('cpu')):
        model = get_model(config_of(tmp_path / 'net'), pretrained=last, device=where)
        check_same(dict(model.state_dict()), weights, where)
