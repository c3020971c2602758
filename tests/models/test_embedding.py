"""One embedding of an image, whoever asks."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from torch import nn

from mmarcface.apis import InversionEvaluator
from mmarcface.apis.inversion.model import InversionModel
from mmarcface.apis.purification.embedding_store import EmbeddingStore
from mmarcface.datasets import ORLFaces
from mmarcface.models import embed_images, unwrap_model
from mmarcface.models.embedding import embeddings_of_feats
from mmarcface.models.retrievers.gallery import Gallery

PEOPLE = (2, 3)
PIPELINE = [
    dict(type='mmarcface.LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32)),
    dict(type='PackInputs'),
]
LOADER = dict(
    batch_size=5,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mmarcface.ORLFaces', people=PEOPLE, pipeline=PIPELINE),
)
VIT = dict(
    type='VisionTransformer',
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=32,
    patch_size=8,
)
RESNET = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
# Its hidden layer is as wide as what it takes, so that no shape tells who left it out.
HIDDEN = dict(type='VisionTransformerClsHead', num_classes=4, in_channels=16, hidden_dim=16)
MODELS = {
    'retriever': dict(type='mmarcface.EmbeddingRetriever', image_encoder=VIT, head=HIDDEN),
    "mmpretrain's retriever": dict(
        type='ImageToImageRetriever', image_encoder=VIT, head=HIDDEN, prototype=''
    ),
    'classifier': dict(type='ImageClassifier', backbone=VIT, head=HIDDEN),
    'classifier without a neck': dict(
        type='ImageClassifier',
        backbone=RESNET,
        head=dict(type='LinearClsHead', num_classes=4, in_channels=64),
    ),
    'retriever without a neck': dict(type='mmarcface.EmbeddingRetriever', image_encoder=RESNET),
}


def built(model):
    torch.manual_seed(0)
    config = dict(
        model=copy.deepcopy(model),
        data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True),
        test_dataloader=LOADER,
    )
    model = get_model(Config(config))
    # Zeros in mmpretrain's initialization would hide the layer.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def expected(kind, model, inputs):
    if kind in ('retriever', "mmpretrain's retriever"):
        return model.image_encoder(inputs)[-1]
    if kind == 'classifier':
        # Its own word for it.
        return model.extract_feat(inputs, stage='pre_logits')
    encoder = model.backbone if 'classifier' in kind else model.image_encoder
    return encoder(inputs)[-1].mean((2, 3))


@pytest.mark.parametrize('kind', MODELS)
@torch.no_grad()
def test_all_agree(kind, tmp_path):
    model, dataset = built(MODELS[kind]), ORLFaces(PEOPLE, pipeline=PIPELINE)
    batch = dict(inputs=[dataset[i]['inputs'] for i in range(len(dataset))])
    inputs = model.data_preprocessor(batch, False)['inputs']
    wanted = expected(kind, model, inputs)
    assert wanted.std(0).max() > 1e-3
    of_inversion = InversionModel.of(model, input_size=32)
    judge = InversionEvaluator(model, ORLFaces(PEOPLE))
    found = {
        'embed_images': embed_images(model, inputs),
        'purification': torch.cat([rows for _, rows in EmbeddingStore(model, dataset, tmp_path)]),
        'inversion': of_inversion.embeddings(of_inversion.feats(inputs)),
    }
    if hasattr(model, 'prototype_cache'):
        model.prototype = LOADER
        found['gallery'] = Gallery.from_prototype(model).embeddings
        model.prototype = None
        found['predict'] = torch.stack([sample.embedding for sample in model.predict(inputs)])
    for name, embeddings in found.items():
        torch.testing.assert_close(
            embeddings, wanted, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f'{n}: {text}'
        )
    # It keeps the directions.
    torch.testing.assert_close(
        judge.reference.vectors.float(), nn.functional.normalize(wanted), rtol=1e-4, atol=1e-5
    )


def test_hidden_layer_counts():
    model, inputs = built(MODELS['classifier']), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        distance = (embed_images(model, inputs) - model.backbone(inputs)[-1]).abs().min()
    assert distance > 1e-3


def test_flip_test():
    model = built(MODELS['retriever'] | dict(test_cfg=dict(flip=True)))
    inputs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        both = model.image_encoder(inputs)[-1] + model.image_encoder(inputs.flip(3))[-1]
        torch.testing.assert_close(embed_images(model, inputs), both)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float, torch.double])
def test_any_module_in_fp32_or_wider(dtype):
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).to(dtype)
    inputs = torch.randn(4, 3, 2, 2, dtype=dtype)
    for model in (module, nn.DataParallel(module)):
        found = embed_images(model, inputs)
        assert found.dtype == (torch.double if dtype == torch.double else torch.float)
        torch.testing.assert_close(found, module(inputs).to(found.dtype))


@pytest.mark.parametrize('output', [torch.ones(2, 5, 4), torch.ones(2), (1, 2)])
def test_other_outputs_are_refused(output):
    message = r'must be embeddings \(N, D\) or feature maps .* got .* add a pooling neck'
    with pytest.raises(ValueError, match=message):
        embeddings_of_feats((output,))


def test_models_are_unwrapped():
    model = nn.Linear(1, 1)
    for wrapped in (model, nn.DataParallel(model), nn.DataParallel(nn.DataParallel(model))):
        assert unwrap_model(wrapped) is model
