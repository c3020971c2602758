"""Weights of other projects, and of ours, become a checkpoint with its config and manifest."""

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.transforms import Resize
from mmengine.config import Config
from safetensors.torch import save_file

from mmarcface.apis import ImageRetrievalInferencer, get_model
from mmarcface.checkpoint import read_file
from mmarcface.datasets.formats.bin_file import write_bin
from mmarcface.fingerprints import fingerprint_tensors
from mmarcface.manifest import load_manifest
from mmarcface.models import AdaFaceHead, IResNet, IRNet
from mmarcface.models.weights.conversion import convert_weights
from tests.models.test_iresnet import insightface_forward, randomise_statistics
from tests.models.test_published_nets import golden, seeded

NET = dict(depth=18, embedding_dim=8, input_size=32, base_channels=2)


def weights_of(seed=0, **settings):
    torch.manual_seed(seed)
    net = IResNet(**NET | settings)
    randomise_statistics(net)
    return net.state_dict()


def prefixed(weights, prefix):
    return {f'{prefix}{key}': value for key, value in weights.items()}


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """Save a content and convert it; gives the result and the model that its files make."""
    monkeypatch.chdir(tmp_path)

    def run(content, name='full.pt', target='out.pth', save=torch.save, **options):
        save(content, name)
        done = convert_weights(name, target, **options)
        return done, get_model(str(done.config), pretrained=str(done.checkpoint))

    return run


HEAD = {'head.weight': torch.ones(2)}
# What is around the weights, and what is said of them.
TRAININGS = {
    'alone': (lambda w: w, ''),
    'DataParallel': (lambda w: prefixed(w, 'module.'), ", the prefix 'module.' of their names"),
    'compiled': (lambda w: prefixed(w, '_orig_mod.module.'), ", the prefix '_orig_mod.module.' of"),
    'partial FC of arcface_torch': (
        lambda w: dict(
            epoch=3,
            state_dict_backbone=w,
            state_dict_softmax_fc=dict(weight=torch.ones(3, 8)),
            state_optimizer=dict(state={0: dict(momentum_buffer=torch.ones(2))}, param_groups=[]),
            state_lr_scheduler=dict(last_epoch=3),
        ),
        ' in state_dict_backbone; left out 2 other tensors, such as state_dict_softmax_fc.weight',
    ),
    'model': (lambda w: dict(model=prefixed(w, 'module.')), " in model, the prefix 'module.' of"),
    'net': (lambda w: dict(net=w, acc=1.0), ' in net'),
    'backbone': (lambda w: dict(head=HEAD, backbone=w), ' in backbone; left out 1 other tensors'),
    'model_state_dict': (lambda w: dict(model_state_dict=w, optimizer={}), ' in model_state_dict'),
    'Lightning': (
        lambda w: {'state_dict': prefixed(w, 'model.net.') | HEAD, 'lightning_version': '2.0'},
        " in state_dict, the prefix 'model.net.' of their names taken off; left out 1 other",
    ),
    'deep': (
        lambda w: dict(checkpoint=dict(model=dict(state_dict=prefixed(w, 'encoder.')))),
        " in checkpoint.model.state_dict, the prefix 'encoder.' of",
    ),
    'with an average': (
        lambda w: dict(model_ema={k: v + 1 for k, v in w.items()}, model=w),
        ' in model; left out 187 other tensors, such as model_ema.conv1.weight',
    ),
    'average alone': (lambda w: dict(state_dict_ema=w), ' in state_dict_ema'),
    'ours of before, without a config': (
        lambda w: dict(state_dict=prefixed(w, 'image_encoder.'), meta=dict(source='backbone.pth')),
        " in state_dict, the prefix 'image_encoder.' of",
    ),
}


@pytest.mark.parametrize(('wrap', 'words'), TRAININGS.values(), ids=TRAININGS)
def test_weights_in_checkpoints_of_trainings(convert, wrap, words):
    weights = weights_of()
    done, model = convert(wrap(weights))
    written = torch.load('out.pth')['state_dict']
    assert written.keys() == {f'image_encoder.{key}' for key in weights}
    for key, value in weights.items():
        assert torch.equal(written[f'image_encoder.{key}'], value)
    settings = 'depth=18, embedding_dim=8, input_size=32, base_channels=2'
    begin = f"IResNet({settings}) for RGB images (as in insightface's arcface_torch), 187 tensors"
    assert done.found.startswith(begin + words)
    assert ('prefix' in words, 'left out' in words) == (
        'prefix' in done.found,
        'left out' in done.found,
    )
    assert model.data_preprocessor.to_rgb
    assert done.manifest == load_manifest('out.pth')
    assert done.manifest.weights == fingerprint_tensors(weights)


@pytest.mark.parametrize('name', ['backbone.pth', 'backbone.safetensors'])
@pytest.mark.parametrize('target', ['r34.pth', 'r34.safetensors'])
def test_weights_of_insightface(run_tool, tmp_path, name, target):
    net = dict(depth=34, embedding_dim=24, input_size=48, base_channels=4)
    weights = weights_of(**net)
    (torch.save if name.endswith('.pth') else save_file)(weights, tmp_path / name)
    done = run_tool('convert.py', 'weights', name, target)
    found, written = done.stdout.splitlines()
    assert found.startswith(f'{name}: IResNet(depth=34, embedding_dim=24, input_size=48, base_ch')
    assert written == (
        f'{target} is written, with its config and manifest. Test it with python tools/test.py '
        f'r34.py {target}'
    )
    model = get_model(str(tmp_path / 'r34.py'), pretrained=str(tmp_path / target))
    images = torch.randn(3, 3, 48, 48)
    expected = [insightface_forward(x, weights, (3, 4, 6, 3)) for x in (images, images.flip(-1))]
    torch.testing.assert_close(model.embed(images), sum(expected), rtol=1e-4, atol=1e-4)
    # The same again is no mistake.
    run_tool('convert.py', 'weights', name, target)


def test_images_that_are_not_square(convert):
    weights = weights_of(input_size=(56, 40))
    with pytest.raises(
        ValueError,
        match=r'full.pt: the images are not square: .* 12 cells of 16 x '
        r'16 pixels, as of images of about 64 x 48 or 96 x 32 or 192 x 16; give',
    ):
        convert(weights)
    with pytest.raises(ValueError, match='images of 112 x 112 pixels give a map of 49 cells'):
        convert(weights, input_size=(112, 112))
    _, model = convert(weights, input_size=(56, 40))
    assert model.image_encoder.input_size == (56, 40)
    resize = model._config.test_dataloader.dataset.pipeline[1]
    assert (resize.type, resize.scale) == (Resize, (40, 56))
    # Squares are taken for such, unless another size is said.
    assert convert(weights_of(), target='2.pth')[1].image_encoder.input_size == (32, 32)
    _, model = convert(weights_of(), target='3.pth', input_size=(20, 30))
    assert model.image_encoder.input_size == (20, 30)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_fp32(convert, dtype):
    weights = weights_of(with_se=True)
    narrow = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}
    _, model = convert(narrow)
    for key, value in model.image_encoder.state_dict().items():
        assert value.dtype == weights[key].dtype
        assert torch.equal(value, narrow[key].to(value.dtype))


def adaface_checkpoint(dim=8, classes=5, **settings):
    torch.manual_seed(3)
    head = dict(
        kernel=torch.randn(dim, classes), t=torch.zeros(1), batch_mean=torch.tensor([17.0]),
        batch_std=torch.tensor([4.0]),
    )  # fmt: skip
    return dict(
        state_dict=prefixed(weights_of(), 'model.') | prefixed(head, 'head.'),
        hyper_parameters=dict(arch='ir_18', m=0.3, s=30.0, train_data_path='ms1mv2') | settings,
    )


def test_the_head_of_adaface_is_kept(convert):
    content = adaface_checkpoint(h=np.float64(0.25), t_alpha=0.5, arch=None)
    done, model = convert(content, 'ada.ckpt')
    assert "for BGR images (as AdaFace's head is beside it), 187 tensors in state_dict, the prefix "
    assert done.found.endswith("; kept AdaFace's head of 5 classes")
    head = model.head
    assert type(head) is AdaFaceHead
    assert (head.scale, head.concentration, head.momentum) == (30, 0.25, 0.5)
    assert head.margins(torch.tensor([0])).item() == pytest.approx(0.3)
    assert (head.mean.item(), head.std.item()) == (17, 4)
    # As head.py of AdaFace has it: unit vectors times unit columns.
    embeddings = torch.randn(4, 8)
    kernel = content['state_dict']['head.kernel']
    expected = 30 * F.normalize(embeddings) @ F.normalize(kernel, dim=0)
    torch.testing.assert_close(head((embeddings,)), expected)
    assert not model.data_preprocessor.to_rgb
    assert done.manifest.channel_order == 'BGR'
    assert (done.manifest.head_classes, done.manifest.training_data) == (5, 'ms1mv2')
    # Pixels are loaded as BGR and stay so.
    blue = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 32, 32)
    seen = model.data_preprocessor(dict(inputs=[blue]))['inputs']
    assert seen[0, :, 0, 0].tolist() == [1, -1, -1]


def test_what_stands_beside_the_weights_of_cvlface(convert):
    weights = prefixed(weights_of(), 'model.net.')
    conf = dict(color_space='BGR', input_size=[3, 32, 32], name='ir18')
    Path('model.yaml').write_text('\n'.join(f'{k}: {v}' for k, v in conf.items()))
    done, model = convert(weights, 'model.safetensors', save=save_file)
    assert 'for BGR images (as model.yaml says)' in done.found
    assert not model.data_preprocessor.to_rgb
    Path('model.yaml').unlink()
    Path('config.json').write_text(json.dumps(dict(conf=conf)))
    assert 'BGR images (as config.json says)' in convert(weights, 'x.pt', '2.pth')[0].found
    Path('config.json').write_text(json.dumps(conf | dict(input_size='small')))
    with pytest.raises(ValueError, match=r'input_size in config.json must be a whole number'):
        convert(weights, 'x.pt', '3.pth')
    Path('config.json').write_text(json.dumps(conf))
    done, _ = convert(weights, 'x.pt', '3.pth', channel_order='RGB')
    assert 'RGB images (as you say)' in done.found
    Path('config.json').write_text(json.dumps(dict(conf=conf | dict(color_space='HSV'))))
    with pytest.raises(ValueError, match=r'color_space in config.json must be .* --channel-order'):
        convert(weights, 'x.pt', '4.pth')


IMAGES = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
@pytest.mark.parametrize('name', ['mbf', 'vit_t', 'adaface_ir_18'])
def test_published_nets_give_their_numbers(convert, name):
    known = golden()[name]
    weights, adaface = seeded(known['shapes']), name.startswith('adaface')
    if adaface:
        weights = dict(state_dict=prefixed(weights, 'model.') | {'head.kernel': torch.ones(512, 3)})
    done, model = convert(weights, 'net.ckpt', 'net.safetensors')
    (embeddings,) = model.image_encoder(IMAGES)
    embeddings = F.normalize(embeddings) if adaface else embeddings
    first = torch.tensor(known['first'])
    torch.testing.assert_close(embeddings[:, : first.shape[1]], first, rtol=0, atol=1e-4)
    assert model.data_preprocessor.to_rgb == (not adaface)
    assert (done.manifest.alignment, done.manifest.input_size) == ('arcface', (112, 112))


def test_nothing_tells_the_channel_order_of_a_plain_net(convert):
    with torch.device('meta'):
        shapes = {
            k: v.shape for k, v in IRNet(18, embedding_dim=8, input_size=16).state_dict().items()
        }
    weights = prefixed(seeded(shapes), 'net.')
    with pytest.raises(
        ValueError, match=r'tells whether the net sees RGB or BGR: give --channel-o'
    ):
        convert(weights)
    Path('full.yaml').write_text('color_space: RGB\n')
    assert 'RGB images (as full.yaml says)' in convert(weights, target='yaml.pth')[0].found
    Path('full.yaml').unlink()
    for order in ('RGB', 'BGR'):
        done, model = convert(weights, target=f'{order}.pth', channel_order=order)
        assert done.manifest.channel_order == order
        assert model.data_preprocessor.to_rgb == (order == 'RGB')
    # Weights of the one do not run with the config of the other.
    with pytest.raises(
        ValueError, match=r'says channel_order RGB of RGB.pth, and this config gives'
    ):
        get_model('BGR.py', pretrained='RGB.pth')


def test_a_shipped_config_runs_on_photographs(run_tool, tmp_path, orl):
    """The config of MobileFaceNet on LFW, with seeded weights and pairs of ORL."""
    torch.save(seeded(golden()['mbf']['shapes']), tmp_path / 'backbone.pth')
    run_tool('convert.py', 'weights', 'backbone.pth', 'mbf.safetensors')
    files = [str(orl / f's{person}' / f'{number}.pgm') for person in (1, 2, 3) for number in (1, 2)]
    images = [cv2.resize(cv2.imread(file), (112, 112)) for file in files]
    images = [cv2.imencode('.png', image)[1].tobytes() for image in images]
    order = (0, 1, 0, 2, 2, 3, 1, 4, 4, 5, 3, 5)
    write_bin(tmp_path / 'orl.bin', [images[i] for i in order], [True, False] * 3)
    options = ['test_dataloader.num_workers=0', 'test_dataloader.dataset.num_folds=3']
    options += ['test_dataloader.dataset.path=orl.bin']
    figures = []
    for config in ('mobilefacenet_lfw', 'mbf.py'):
        run_tool(
            'test.py', config, 'mbf.safetensors', '--cfg-options', *options, '--out', 'figures.json'
        )
        figures.append(json.loads((tmp_path / 'figures.json').read_text()))
    assert figures[0] == figures[1]
    assert 0 <= figures[0]['verification/Accuracy'] <= 100
    # The net of another family does not take them.
    words = 'mbf.safetensors', '--cfg-options', *options
    done = run_tool('test.py', 'iresnet100_lfw', *words, fails=True)
    assert 'mbf.safetensors is the checkpoint of another model: ' in done.stderr
    words = *words, 'data_preprocessor.to_rgb=False'
    done = run_tool('test.py', 'mobilefacenet_lfw', *words, fails=True)
    assert 'says channel_order RGB of mbf.safetensors, and this config gives BGR: ' in done.stderr


FEW = [
    'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1',
    'train_dataloader.batch_size=20', 'train_dataloader.dataset.people=[1,2]', 'work_dir=work',
    'model.head.num_classes=80', 'val_dataloader.dataset.people=[21,22,23]',
    'test_dataloader.dataset.people=[21,22,23]',
]  # fmt: skip


def figures_of(run_tool, folder, config, checkpoint):
    run_tool('test.py', config, checkpoint, '--out', 'figures.json')
    return json.loads((folder / 'figures.json').read_text())


def test_a_training_of_ours_goes_there_and_back(run_tool, tmp_path):
    run_tool('train.py', 'iresnet18-arcface_orl', '--cfg-options', *FEW)
    trained = torch.load(tmp_path / 'work' / 'epoch_1.pth')
    expected = figures_of(run_tool, tmp_path, 'work/iresnet18-arcface_orl.py', 'work/epoch_1.pth')
    done = run_tool('convert.py', 'weights', 'work/epoch_1.pth', 'a.safetensors')
    assert 'input_size=(56, 48)) and a head, 188 tensors of a checkpoint of mmarc' in done.stdout
    assert 'left out message_hub, optimizer, param_schedulers, which only a tra' in done.stdout
    run_tool('convert.py', 'weights', 'a.safetensors', 'b.pth')
    for name in ('a.safetensors', 'b.pth'):
        config = name.partition('.')[0] + '.py'
        assert figures_of(run_tool, tmp_path, config, name) == expected
        written = read_file(str(tmp_path / name))
        assert written['state_dict'].keys() == trained['state_dict'].keys()
        for key, value in trained['state_dict'].items():
            assert torch.equal(written['state_dict'][key], value)
        assert written['meta']['class_names'] == trained['meta']['class_names']
        own = Config.fromfile(tmp_path / config)
        assert (
            own.train_dataloader
            == Config.fromstring(trained['meta']['cfg'], '.py').train_dataloader
        )
        assert 'work_dir' not in own
    one, other = (load_manifest(tmp_path / name) for name in ('work/epoch_1.pth', 'b.pth'))
    assert one.contract == other.contract
    assert one.training_data == other.training_data
    # Training starts from one of the other format.
    run_tool(
        'train.py',
        'iresnet18-arcface_orl',
        '--cfg-options',
        *FEW,
        'work_dir=more',
        'load_from=a.safetensors',
        'optim_wrapper.optimizer.lr=0.0',
    )
    weight = torch.load(tmp_path / 'more' / 'epoch_1.pth')['state_dict']['head.weight']
    assert torch.equal(weight, trained['state_dict']['head.weight'])


def test_what_is_written_serves_the_tools(convert, run_tool, orl):
    """tools/test.py on pairs, a search, and an inversion, with the files as they are."""
    convert(adaface_checkpoint(), 'ada.ckpt', 'ada.safetensors')
    photographs = [(orl / f's{p}' / f'{n}.pgm').read_bytes() for p in (1, 2) for n in (1, 2, 3)]
    Path('data/faces').mkdir(parents=True)
    pairs = [photographs[i] for i in (0, 1, 0, 3, 1, 2, 2, 4)]
    write_bin('data/faces/lfw.bin', pairs, [True, False] * 2)
    options = ['test_dataloader.num_workers=0', 'test_dataloader.dataset.num_folds=2']
    run_tool(
        'test.py', 'ada.py', 'ada.safetensors', '--cfg-options', *options, '--out', 'figures.json'
    )
    assert 'verification/Accuracy' in json.loads(Path('figures.json').read_text())
    assert Path('ada.safetensors.thresholds.json').exists()
    search = ImageRetrievalInferencer(
        'ada.py', str(orl / 's1'), pretrained='ada.safetensors', prepare_batch_size=4
    )
    image = str(orl / 's1' / '3.pgm')
    matches = [match['sample']['img_path'] for match in search(image, topk=10)[0]]
    assert len(set(matches)) == 10
    assert image in matches
    run_tool(
        'invert.py',
        'ada.py',
        'ada.safetensors',
        '--labels',
        '0',
        '3',
        '--out',
        'images',
        '--settings',
        'steps=2',
    )
    assert len(list(Path('images').glob('*.png'))) >= 2


class Evil:
    def __reduce__(self):
        return print, ('was here',)


def damaged(weights, key, value):
    return weights | {key: value}


def half(weights):
    return dict(list(weights.items())[: len(weights) // 2])


def without_downsample(weights):
    return {key: value for key, value in weights.items() if 'downsample' not in key}


def transposed(content):
    kernel = content['state_dict']['head.kernel']
    return content | dict(state_dict=content['state_dict'] | {'head.kernel': kernel.T})


W = weights_of()
# What is in the file, and what is said of it.
BAD_CONTENT = {
    'half a state dict': (half(W), 'nearest to an IResNet without fc.weight: a part of a state'),
    'some tensors missing': (without_downsample(W), '20 of 156 tensors missing, such as layer1.0.'),
    'wrong depth': (prefixed(W, 'net.') | {'net.layer3.2.bn1.weight': torch.ones(8)},
                    r'must have \[\(2, 2, 2, 2\), .* four stages, got \(2, 2, 3, 2'),
    'wrong width': (damaged(W, 'features.weight', torch.ones(9)),
                    r'features.weight: \(9,\) in the file, \(8,\) in the model'),
    'width of the last stage': (damaged(W, 'fc.weight', torch.ones(8, 65)),
                                'fc.weight must have a multiple of 16 columns, .* got 65'),
    'flat fc': (damaged(W, 'fc.weight', torch.ones(8)), 'fc.weight must have 2 dimensions, .* got'),
    'NaN in bf16': (
        damaged(W, 'bn2.bias', torch.full((16,), torch.nan, dtype=torch.bfloat16)),
        'bn2.bias holds numbers that are not finite, as torch.bfloat16: .* an earlier checkpoint',
    ),
    'two nets': (dict(a=W, b=prefixed(W, 'module.')),
                 r"it holds several, in a \(prefix ''\) and b \(prefix 'module.'\): save the"),
    'two nets in one dict': (prefixed(W, 'a.') | prefixed(W, 'b.'),
                             r"in the file \(prefix 'a.'\) and the file \(prefix 'b.'\)"),
    'an unknown tensor': (damaged(W, 'layer5.weight', torch.ones(1)), 'unknown, such as layer5.we'),
    'another net': ({key: value for key, value in W.items() if 'prelu' not in key},
                    r"keys are like \['conv1.weight', .*without layer1.0.prelu.weight"),
    'no net': (dict(weight=torch.ones(2)), r"its keys are like \['weight'\]$"),
    'no tensors': (dict(epoch=3, model=dict(optimizer=3)), 'its keys are like none'),
    'a list': ([W], 'its keys are like none'),
    'transposed head': (transposed(adaface_checkpoint()),
                        r'head.kernel must have shape \(8, number of classes\), .*; got \(5, 8\): '
                        r'it is transposed, so turn it around'),
    'head of another net': (
        dict(state_dict=prefixed(W, 'model.') | {'head.kernel': torch.ones(9, 5)}),
        r'as the embeddings are 8 wide; got \(9, 5\)$',
    ),
    'NaN in the head': (
        dict(state_dict=prefixed(W, 'model.') | {'head.kernel': torch.full((8, 5), torch.inf)}),
        'weight holds numbers that are not finite',
    ),
    'a whole module': (dict(model=IResNet(**NET)),
                       'asks for mmarcface.models.backbones.iresnet.IResNet, .* write its weights'),
    'a malicious one': (dict(state_dict=W, meta=Evil()), 'asks for print, and may be malicious'),
    'config of another net': (
        dict(state_dict=prefixed(W, 'image_encoder.'), meta=dict(cfg=(
            "model = dict(type='mmarcface.EmbeddingRetriever', image_encoder=dict("
            "type='mmarcface.IResNet', depth=18, embedding_dim=8, input_size=16, base_channels=2))"
        ))),
        r'do not fit its config: image_encoder.fc.weight: \(8, 64\) in the file, \(8, 16\) in',
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD_CONTENT)
def test_bad_content_is_told_in_one_line(run_tool, tmp_path, name):
    content, message = BAD_CONTENT[name]
    torch.save(content, tmp_path / 'full.pt')
    refused(run_tool, tmp_path, 'full.pt', 'out.pth', message=message)


def refused(run_tool, tmp_path, *words, message):
    before = sorted(tmp_path.iterdir())
    done = run_tool('convert.py', 'weights', *words, fails=True)
    assert done.returncode == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith('convert.py: error: ')
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(line)
    assert sorted(tmp_path.iterdir()) == before


SAFE = struct.pack('<Q', 2) + b'{}'
# Bytes of the file, the words of the command line, and what is said.
BAD_FILES = {
    'missing': (None, 'none.pth out.pth', 'checkpoint none.pth does not exist'),
    'folder': (None, '. out.pth', 'checkpoint . is a folder: name a file in it'),
    'empty': (b'', 'full.pt out.pth', r'full.pt \(0 bytes\) cannot be read: it is cut short'),
    'truncated': ('half', 'full.pt out.pth', r'cannot be read: it is cut short'),
    'image': (b'\xff\xd8\xff\xe0' + bytes(99), 'full.pt out.pth', 'or not a checkpoint'),
    'onnx': (b'\x08\x07', 'net.onnx out.pth', 'it is an ONNX file, .*of an OnnxBackbone'),
    'keras': (b'\x89HDF\r\n\x1a\n', 'net.h5 out.pth', 'an HDF5 file.* export the model to ONNX'),
    'mxnet': (b'\x12\x01' + bytes(99), 'net.params out.pth', 'a .params file of MXNet: export'),
    'index': (b'{"weight_map": {}}', 'i.json out.pth', 'the index of a model in several safet'),
    'empty safetensors': (SAFE, 'a.safetensors out.pth', 'its keys are like none'),
    'header too large': (b'\xff' * 7 + b'\0{}', 'a.safetensors out.pth', 'header would take 7205'),
    'truncated safetensors': (SAFE[:-1], 'a.safetensors out.pth', 'it is cut short'),
    'suffix': ('good', 'full.pt out.onnx', r'must be named \*.pth or \*.safetensors, got'),
    'target is a folder': ('good', 'full.pt sub.pth', 'the target sub.pth is a folder: name a'),
    'source is target': ('good', 'net.pth net.pth', 'net.pth is the source itself: name another'),
    'another config': ('good', 'full.pt own.pth', 'own.py exists and is not the config of these'),
    'wrong size': ('good', 'full.pt o.pth --input-size 99 9', 'give another --input-size HEIGHT'),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD_FILES)
def test_bad_files_and_targets_are_told_in_one_line(run_tool, tmp_path, name):
    content, words, message = BAD_FILES[name]
    path = tmp_path / words.split()[0]
    if isinstance(content, str):
        torch.save(W, path)
        if content == 'half':
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif content is not None:
        path.write_bytes(content)
    (tmp_path / 'sub.pth').mkdir()
    (tmp_path / 'own.py').write_text('model = None\n')
    refused(run_tool, tmp_path, *words.split(), message=message)


def test_the_advice_on_refused_files_works(convert):
    nested = dict(state_dict=W, args=Path('data'))
    for whole, content in ((False, nested), (True, IResNet(**NET))):
        with pytest.raises(ValueError, match='without running code') as error:
            convert(content)
        recipe = str(error.value).partition('convert them: ')[2]
        exec(recipe, dict(torch=torch))
        expected = content.state_dict() if whole else W
        written = read_file('weights.pth')
        assert all(torch.equal(written[key], expected[key]) for key in W)


def test_a_name_is_no_code(convert):
    """The text of a config, which names the source, is run when it is read."""
    name = '""" + str(open("was-here", "w")) + """.pt'
    _, model = convert(W, name)
    assert model.image_encoder.input_size == (32, 32)
    assert not Path('was-here').exists()


def test_a_dictionary_in_itself(convert):
    content = dict(model=W)
    content['again'] = content
    assert '187 tensors in model' in convert(content)[0].found


def test_a_manifest_of_other_weights_is_not_passed_on(convert):
    convert(W)
    convert(weights_of(seed=1), target='other.pth')
    Path('other.pth').replace('out.pth')
    with pytest.raises(
        ValueError, match=r'out.pth.manifest.json belongs to other weights than out'
    ):
        convert_weights('out.pth', 'again.pth')
    Path('out.pth.manifest.json').unlink()
    convert_weights('out.pth', 'again.pth')


def test_a_config_of_ours_leaves_nothing_open(convert):
    done, _ = convert(W)
    for options in (dict(input_size=(32, 32)), dict(channel_order='RGB')):
        with pytest.raises(ValueError, match='says input_size and channel_order: leave them'):
            convert_weights(done.checkpoint, 'other.pth', **options)
    with pytest.raises(ValueError, match=r"channel_order must be one of .* got 'GBR'"):
        convert_weights('full.pt', 'other.pth', channel_order='GBR')


def test_both_formats_lie_side_by_side(convert, tmp_path):
    torch.save(weights_of(), 'backbone.pth')
    convert_weights('backbone.pth', 'net.pth')
    text = Path('net.py').read_text()
    convert_weights('backbone.pth', 'net.safetensors')
    convert_weights('net.pth', 'again.safetensors')
    Path('again.safetensors').rename('moved.safetensors')
    convert_weights('backbone.pth', 'net.pth')
    assert Path('net.py').read_text() == text
    Path('other.pth').write_bytes(b'the only copy')
    with pytest.raises(ValueError, match=r'other.pth exists and was not made from backbone.pth'):
        convert_weights('backbone.pth', 'other.pth')
    assert Path('other.pth').read_bytes() == b'the only copy'
