"""What the file beside a model says, and what is refused because of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config

from mmarcface.apis import get_model
from mmarcface.manifest import (
    CONTRACT,
    Manifest,
    describe_model,
    difference_of_makers,
    first_difference,
    load_manifest,
    manifest_file,
)
from mmarcface.models import EmbeddingRetriever
from tests.engine.training import loader, orl
from tests.in_process import call_tool

NET = dict(type='mmarcface.LeNetPlus', embedding_dim=8, base_channels=2, input_size=28)
GRAYS = dict(mean=[127.5] * 3, std=[127.5] * 3)
PIPELINE = [
    dict(type='mmarcface.LoadImageFromFile'),
    dict(type='Resize', scale=(28, 28)),
    dict(type='PackInputs'),
]


def config_of(encoder=NET, preprocessor=None, **changes):
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='mmarcface.EmbeddingRetriever',
                image_encoder=encoder,
                data_preprocessor=GRAYS | dict(to_rgb=False) | (preprocessor or {}),
            )
            | changes,
        )
    )


@pytest.fixture
def saved(tmp_path):
    """A net that sees BGR, with its manifest."""
    torch.manual_seed(0)
    model = get_model(config_of())
    path = tmp_path / 'net.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    describe_model(model, alignment='arcface', license='CC0').save(path)
    return path


def example(**changes):
    known = dict(
        architecture='Net', weights='ab', channel_order='RGB', mean=(0, 0, 0), std=(1,) * 3
    )
    return Manifest(**(known | changes))


def test_what_is_written_is_read(saved):
    manifest = load_manifest(saved)
    model = get_model(config_of(), str(saved))
    assert manifest == describe_model(model, license='CC0') == load_manifest(str(saved))
    assert model.manifest == manifest
    assert (manifest.channel_order, manifest.input_size, manifest.embedding_dim) == (
        'BGR',
        (28, 28),
        8,
    )
    content = json.loads(manifest_file(saved).read_text())
    assert content['contract'] == manifest.contract_hash
    assert len(content['contract']) == 64


CHANGES = {
    'embedding_dim': 4,
    'input_size': (112, 96),
    'channel_order': 'BGR',
    'mean': (0, 0, 1),
    'std': (2, 1, 1),
    'alignment': 'arcface',
    'flip': True,
    'precision': 'int8',
    'net': 'ef',
    'weights': 'cd',
}


def test_every_field_of_the_contract_changes_its_hash():
    assert CHANGES.keys() == set(CONTRACT)
    hashes = {replace(example(), **{name: value}).contract_hash for name, value in CHANGES.items()}
    assert len(hashes | {example().contract_hash}) == len(CHANGES) + 1


@given(
    st.sampled_from(['architecture', 'training_data', 'license', 'source', 'file_sha256']),
    st.text(max_size=5),
)
def test_no_other_field_does(name, value):
    assert replace(example(), **{name: value}).contract_hash == example().contract_hash
    assert replace(example(), normalized=True, head_classes=3).contract == example().contract


def test_the_first_difference_is_named_and_what_is_unknown_is_none():
    one, other = example(embedding_dim=4).contract, example(channel_order='BGR', flip=True).contract
    assert first_difference(one, other) == 'channel_order (RGB and BGR)'
    assert first_difference(one, example().contract) is None
    assert first_difference(json.loads(json.dumps(one)), one) is None


@pytest.mark.parametrize(
    ('preprocessor', 'words'),
    [
        (dict(to_rgb=True), ['channel_order BGR', 'RGB', 'data_preprocessor.to_rgb=False']),
        (dict(mean=None, std=None), ['mean [127.5,127.5,127.5]', '[0.0,0.0,0.0]']),
        (dict(std=[128.0] * 3), ['data_preprocessor.std=[127.5,127.5,127.5]']),
    ],
)
def test_weights_are_not_fed_with_other_images(saved, preprocessor, words):
    with pytest.raises(ValueError) as caught:
        get_model(config_of(preprocessor=preprocessor), str(saved))
    for word in words:
        assert word in str(caught.value)
    # The advice leads on.
    get_model(config_of(), str(saved))


def test_initial_weights_are_not_fed_with_other_images(saved):
    init = dict(type='Pretrained', checkpoint=str(saved), prefix='image_encoder.')
    config = config_of(NET | dict(init_cfg=init), dict(to_rgb=True))
    model = EmbeddingRetriever(**{k: v for k, v in config.model.items() if k != 'type'})
    with pytest.raises(ValueError, match=r'net.pth.manifest.json says channel_order BGR'):
        model.init_weights()


def test_preprocessors_of_mmengine_are_understood():
    for order, kind in (('BGR', {}), ('RGB', dict(bgr_to_rgb=True))):
        preprocessor = dict(type='mmengine.ImgDataPreprocessor', **GRAYS, **kind)
        config = config_of()
        config.model.data_preprocessor = preprocessor
        assert describe_model(get_model(config)).channel_order == order


def test_a_manifest_of_other_weights_is_refused(saved):
    content = torch.load(saved)
    content['state_dict']['image_encoder.fc.bias'] += 1
    torch.save(content, saved)
    with pytest.raises(ValueError, match=r'belongs to other weights than .*net.pth holds'):
        get_model(config_of(), str(saved))
    manifest_file(saved).unlink()
    assert get_model(config_of(), str(saved)).manifest is None


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda c: c[: len(c) // 2], 'is not a manifest'),
        (lambda c: '[]', 'is not a manifest'),
        (lambda c: '{}', 'is not a manifest'),
        (lambda c: c.replace('"license"', '"colour"'), 'colour is no field'),
        (lambda c: c.replace('"BGR"', '"GBR"'), 'channel_order must be one of'),
        (lambda c: c.replace('"float"', '"int4"'), 'precision must be one of'),
        (lambda c: c.replace('"BGR"', '"RGB"'), 'was changed by hand'),
        (lambda c: c.replace('"BGR"', '"gray"'), 'mean must be 1 numbers'),
    ],
)
def test_a_damaged_manifest_is_refused(saved, change, words):
    path = manifest_file(saved)
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=words) as caught:
        get_model(config_of(), str(saved))
    assert path.name in str(caught.value)


def test_what_does_not_decide_an_embedding_may_be_changed_by_hand(saved):
    path = manifest_file(saved)
    path.write_text(path.read_text().replace('"CC0"', '"CC BY 4.0"'))
    assert load_manifest(saved).license == 'CC BY 4.0'


def test_galleries_name_what_differs(saved, tmp_path):
    model = get_model(config_of(), str(saved))
    model.prototype = loader(orl(pipeline=PIPELINE))
    model.dump_prototype(str(tmp_path / 'gallery.pth'))
    contract = torch.load(tmp_path / 'gallery.pth')['contract']
    assert contract == load_manifest(saved).contract

    gallery = str(tmp_path / 'gallery.pth')
    get_model(config_of(prototype=gallery), str(saved)).prepare_prototype()
    manifest_file(saved).unlink()
    for change, word in (
        (dict(test_cfg=dict(flip=True)), r'differ in flip \(False and True\)'),
        (dict(preprocessor=dict(to_rgb=True)), r'differ in channel_order \(BGR and RGB\)'),
    ):
        with pytest.raises(ValueError, match=word):
            get_model(config_of(**change, prototype=gallery), str(saved)).prepare_prototype()


STAGES = dict(type='mmpretrain.ResNet', depth=50, stem_channels=8, base_channels=8)


@pytest.mark.parametrize(
    ('one', 'other', 'same'),
    [
        (STAGES | dict(style='pytorch'), STAGES | dict(style='caffe'), False),
        (
            dict(type='mmarcface.FaceViT', input_size=28, patch_size=7),
            dict(
                type='mmarcface.FaceViT', input_size=28, patch_size=7,
                arch=dict(embed_dims=256, num_layers=12, num_heads=4),
            ),
            False,
        ),
        (
            dict(type='mmarcface.IRNet', depth=18, input_size=28, dropout=0.4),
            dict(type='mmarcface.IRNet', depth=18, input_size=28, dropout=0.0, with_cp=True),
            True,
        ),
    ],
    ids=['strides', 'heads', 'dropout'],
)  # fmt: skip
def test_the_same_weights_in_another_net(one, other, same):
    """It computes something else; without dropout it does not."""
    models = [get_model(config_of(encoder)) for encoder in (one, other)]
    models[1].load_state_dict(models[0].state_dict())
    difference = difference_of_makers('another', describe_model(models[0]).contract, models[1])
    assert (difference is None) == same, difference
    assert same or difference.startswith('net (')


def test_training_describes_its_checkpoints(run_tool, tmp_path):
    """Averaged weights, too; a checkpoint that is removed takes its manifest along."""
    config = config_of(head=dict(type='mmarcface.ArcFaceHead', num_classes=3, in_channels=8))
    data = orl(pipeline=PIPELINE)
    config.merge_from_dict(
        dict(
            train_dataloader=loader(data),
            val_dataloader=loader(data),
            val_evaluator=dict(type='mmarcface.RetrievalMetric'),
            val_cfg=dict(),
            train_cfg=dict(by_epoch=True, max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook',
                    interval=1,
                    max_keep_ckpts=1,
                    save_best='retrieval/Recall@1',
                    rule='greater',
                )
            ),
            custom_hooks=[dict(type='EMAHook', momentum=0.5)],
            randomness=dict(seed=0),
        )
    )
    config.dump(tmp_path / 'config.py')
    run_tool('train.py', 'config.py', '--work-dir', 'work')
    checkpoints = sorted(Path(tmp_path, 'work').glob('*.pth'))
    manifests = sorted(Path(tmp_path, 'work').glob('*.manifest.json'))
    assert [manifest_file(c) for c in checkpoints] == manifests
    assert len(manifests) == 2
    for checkpoint in checkpoints:
        manifest = load_manifest(checkpoint)
        # A config that is dumped has its keys in order.
        assert manifest.architecture == 'LeNetPlus(base_channels=2, embedding_dim=8, input_size=28)'
        assert manifest.training_data == 'ORLFaces, 30 images'
        assert manifest.head_classes == 3
        get_model(config, str(checkpoint))
    # Going on, the training loads what was trained, and not its average.
    run_tool(
        'train.py', 'config.py', '--work-dir', 'work', '--resume', '--cfg-options',
        'train_cfg.max_epochs=4',
    )  # fmt: skip
    get_model(config, str(tmp_path / 'work/epoch_4.pth'))
    assert not (tmp_path / 'work/epoch_3.pth.manifest.json').exists()
    # Put beside other weights it is noticed.
    shutil.copy(manifest_file(tmp_path / 'work/epoch_4.pth'), manifest_file(tmp_path / 'other.pth'))
    content = torch.load(tmp_path / 'work/epoch_4.pth')
    content['state_dict'] = content['ema_state_dict']
    content['state_dict'] = {
        k.removeprefix('module.'): v for k, v in content['state_dict'].items() if k != 'steps'
    }
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='other weights'):
        get_model(config, str(tmp_path / 'other.pth'))


def test_testing_says_what_alignment_is_taken_for_granted(saved, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config = config_of()
    data = loader(orl(pipeline=PIPELINE))
    config.merge_from_dict(
        dict(
            test_dataloader=data, test_evaluator=dict(type='mmarcface.RetrievalMetric'), test_cfg={}
        )
    )
    config.dump('config.py')
    call_tool('test.py', 'config.py', str(saved))
    said = "aligned to the template 'arcface', and the test pipeline has no AlignFace"
    assert ''.join(capfd.readouterr()).count(said) == 1
    manifest_file(saved).unlink()
    call_tool('test.py', 'config.py', str(saved))
    assert said not in ''.join(capfd.readouterr())
