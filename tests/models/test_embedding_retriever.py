import shutil
from urllib.error import URLError

import cv2
import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import DefaultSampler, default_collate
from mmengine.runner import load_checkpoint
from mmpretrain.models import ImageToImageRetriever
from torch.utils.data import ConcatDataset, DataLoader, Subset

from mmarcface.datasets import IdentityFolder
from mmarcface.fingerprints import fingerprint_model
from mmarcface.models import EmbeddingRetriever

PIPELINE = [
    dict(type='mmarcface.LoadImageFromFile'),
    dict(type='Resize', scale=(24, 32)),
    dict(type='PackInputs'),
]


def small(**arguments) -> EmbeddingRetriever:
    torch.manual_seed(0)
    encoder = dict(
        type='mmarcface.IResNet', depth=18, embedding_dim=16, input_size=(32, 24), base_channels=8
    )
    return EmbeddingRetriever(
        encoder, data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3), **arguments
    ).eval()


@pytest.fixture
def gallery(orl, tmp_path):
    for person in ('s1', 's2'):
        shutil.copytree(orl / person, tmp_path / 'gallery' / person)
    return tmp_path / 'gallery'


def loader_of(folder, batch_size=7):
    dataset = IdentityFolder(str(folder), pipeline=PIPELINE)
    return DataLoader(
        dataset,
        batch_size,
        sampler=DefaultSampler(dataset, shuffle=False),
        collate_fn=default_collate,
    )


def embeddings_of(model, loader):
    with torch.no_grad():
        return torch.cat([model.embed(model.data_preprocessor(b, False)['inputs']) for b in loader])


def test_matching_equals_mmpretrain():
    gallery, query = torch.randn(30, 16), torch.randn(5, 16)
    model = small(prototype=gallery, topk=30)
    peer = ImageToImageRetriever(model.image_encoder, prototype=gallery)
    peer.prepare_prototype()
    ours, theirs = model.matching(query), peer.matching(query)
    torch.testing.assert_close(ours['score'], theirs['score'])
    assert (ours['pred_label'] == theirs['pred_label']).all()
    assert small(prototype=gallery).matching(query)['pred_label'].shape == (5, 10)


def test_head_tells_the_class():
    head = dict(type='mmarcface.SoftmaxHead', num_classes=4, in_channels=16)
    model = small(head=head, test_cfg=dict(classify=True))
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.head.bias)
    images = torch.randn(6, 3, 32, 24)
    with torch.no_grad():
        scores = F.linear(model.embed(images), model.head.weight, model.head.bias).softmax(1)
        samples = model.predict(images)
        assert 'pred_label' not in small(head=head).predict(images)[0]
    torch.testing.assert_close(torch.stack([s.pred_score for s in samples]), scores)
    assert [int(sample.pred_label) for sample in samples] == scores.argmax(1).tolist()
    assert samples[0].embedding.shape == (16,)


def test_gallery_comes_before_the_class():
    head = dict(type='mmarcface.SoftmaxHead', num_classes=4, in_channels=16)
    gallery, images = torch.randn(9, 16), torch.randn(2, 3, 32, 24)
    with torch.no_grad():
        model = small(head=head, test_cfg=dict(classify=True), prototype=gallery)
        assert model.predict(images)[0].pred_score.shape == (9,)
        model.prototype = None
        model.head = None
        with pytest.raises(ValueError, match=r'classify=True needs a head'):
            model.predict(images)


def test_flip_test_adds_the_mirrored_image():
    model, images = small(test_cfg=dict(flip=True)), torch.randn(2, 3, 32, 24)
    with torch.no_grad():
        expected = model.extract_feat(images)[0] + model.extract_feat(images.flip(-1))[0]
        torch.testing.assert_close(model.predict(images)[1].embedding, expected[1])


def test_gallery_from_a_loader(gallery):
    loader = loader_of(gallery)
    model = small(prototype=loader)
    model.prepare_prototype()
    torch.testing.assert_close(model.prototype_vecs, F.normalize(embeddings_of(model, loader)))
    sample = model.predict(next(iter(loader))['inputs'][0][None].float())[0]
    assert sample.pred_score.shape == (20,)


def gather_gallery(rank, world, folder):
    model = small(prototype=loader_of(folder))
    model.prepare_prototype()
    return model.prototype_vecs


def test_gallery_does_not_depend_on_the_number_of_processes(gallery, on_processes):
    # 13 images, so that the sampler pads the second of two shards.
    for number in range(4, 11):
        (gallery / 's2' / f'{number}.pgm').unlink()
    expected = small(prototype=loader_of(gallery))
    expected.prepare_prototype()
    for vectors in on_processes(gather_gallery, gallery):
        torch.testing.assert_close(vectors, expected.prototype_vecs)


def test_cache_is_kept_while_it_fits_and_rebuilt_when_stale(gallery, tmp_path):
    cache = tmp_path / 'cache.pth'

    def prepared(model):
        model.prepare_prototype()
        return model.prototype_vecs

    first = prepared(small(prototype=loader_of(gallery), prototype_cache=str(cache)))
    written = cache.stat().st_mtime_ns
    again = prepared(small(prototype=loader_of(gallery), prototype_cache=str(cache)))
    assert cache.stat().st_mtime_ns == written
    torch.testing.assert_close(first, again)

    other = small(prototype=loader_of(gallery), prototype_cache=str(cache))
    other.image_encoder.fc.weight.data += 1
    with pytest.warns(UserWarning, match=r'out of date \(made with another model: weights'):
        changed = prepared(other)
    assert not torch.allclose(first, changed)

    image = gallery / 's1' / '1.pgm'
    cv2.imwrite(str(image), 255 - cv2.imread(str(image), cv2.IMREAD_GRAYSCALE))
    renewed = small(prototype=loader_of(gallery), prototype_cache=str(cache))
    renewed.image_encoder.load_state_dict(other.image_encoder.state_dict())
    with pytest.warns(UserWarning, match='made from other images'):
        vectors = prepared(renewed)
    assert not torch.allclose(vectors[0], changed[0])
    torch.testing.assert_close(vectors[1:], changed[1:])


def test_refused_gallery_leaves_the_cache_alone(gallery, tmp_path):
    cache = tmp_path / 'cache.pth'
    small(prototype=loader_of(gallery), prototype_cache=str(cache)).prepare_prototype()
    written = cache.read_bytes()
    broken = small(prototype=loader_of(gallery), prototype_cache=str(cache))
    broken.image_encoder.fc.weight.data[0, 0] = float('nan')
    with (
        pytest.warns(UserWarning, match='made with another model: weights'),
        pytest.raises(ValueError, match=r'the first is that of image 0 .*1.pgm'),
    ):
        broken.prepare_prototype()
    assert cache.read_bytes() == written


def test_saved_gallery_serves_the_same_model_only(gallery, tmp_path):
    path = tmp_path / 'gallery.pth'
    model = small(prototype=loader_of(gallery), prototype_cache=str(path))
    model.prepare_prototype()
    same = small(prototype=str(path))
    same.prepare_prototype()
    torch.testing.assert_close(same.prototype_vecs, model.prototype_vecs)
    other = small(prototype=str(path))
    other.image_encoder.fc.weight.data += 1
    with pytest.raises(ValueError, match='holds embeddings of another model'):
        other.prepare_prototype()


@pytest.mark.parametrize(
    ('prototype', 'error', 'message'),
    [
        (torch.empty(0, 16), ValueError, 'gallery is empty'),
        (torch.tensor([[1.0], [float('nan')]]), ValueError, 'the first is that of image 1'),
        (3, TypeError, 'prototype must be a data loader'),
    ],
)
def test_wrong_gallery(prototype, error, message):
    with pytest.raises(error, match=message):
        small(prototype=prototype).prepare_prototype()


def test_checkpoint_of_another_model_is_refused(tmp_path):
    path = str(tmp_path / 'other.pth')
    other = EmbeddingRetriever(
        dict(type='mmarcface.IResNet', depth=34, embedding_dim=16, base_channels=8)
    )
    for state in (other.state_dict(), dict(other.state_dict())):
        torch.save(dict(state_dict=state), path)
        with pytest.raises(ValueError, match=r'other.pth is .* of another model.*unknown'):
            load_checkpoint(small(), path)
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(ValueError, match=r'tensors missing.*its keys are like weight'):
        load_checkpoint(small(), path)


def test_head_of_other_classes_is_refused_and_no_head_is_fine(tmp_path):
    path = str(tmp_path / 'model.pth')
    heads = [dict(type='mmarcface.ArcFaceHead', num_classes=n, in_channels=16) for n in (3, 4)]
    torch.save(dict(state_dict=small(head=heads[0]).state_dict()), path)
    with pytest.raises(ValueError, match=r'head.weight: \(3, 16\) in the file, \(4, 16\)'):
        load_checkpoint(small(head=heads[1]), path)
    torch.save(dict(state_dict=small().state_dict()), path)
    load_checkpoint(small(head=heads[1]), path)


@pytest.mark.parametrize('topk', [0, -1, 1.5, '10', True, None])
def test_topk_is_checked(topk):
    with pytest.raises(ValueError, match='topk must be '):
        small(topk=topk)


def test_unreachable_weights_say_how_to_go_on(monkeypatch):
    def fail(*_, **__):
        raise URLError('no route to host')

    monkeypatch.setattr('mmengine.runner.checkpoint.load_url', fail)
    url = 'https://example.org/weights.pth'
    model = EmbeddingRetriever(
        [dict(type='mmarcface.IResNet', depth=18, init_cfg=dict(type='Pretrained', checkpoint=url))]
    )
    with pytest.raises(
        RuntimeError, match=rf'{url}.*--cfg-options model.image_encoder.0.init_cfg=None'
    ):
        model.init_weights()


def test_training_without_a_head_and_an_unknown_mode():
    with pytest.raises(ValueError, match=r'set model\.head'):
        small().loss(torch.zeros(1, 3, 32, 24), [])
    with pytest.raises(ValueError, match="got 'train'"):
        small()(torch.zeros(1, 3, 32, 24), mode='train')


def test_gallery_that_does_not_give_every_image_is_refused(gallery):
    loader = loader_of(gallery)
    short = DataLoader(loader.dataset, 7, drop_last=True, collate_fn=default_collate)
    twice = ConcatDataset([loader.dataset, loader.dataset])
    joined = DataLoader(twice, 7, collate_fn=default_collate)
    for wrong in (short, joined):
        with pytest.raises(ValueError, match='images of a gallery need a sample_idx each'):
            small(prototype=wrong).prepare_prototype()


def test_cache_of_images_that_cannot_be_told_is_not_trusted(gallery, tmp_path):
    dataset = loader_of(gallery).dataset
    cache = str(tmp_path / 'cache.pth')
    for number in (10, 5):
        part = DataLoader(Subset(dataset, range(number)), 7, collate_fn=default_collate)
        model = small(prototype=part, prototype_cache=cache)
        if number == 5:
            with pytest.warns(UserWarning, match='out of date'):
                model.prepare_prototype()
        else:
            model.prepare_prototype()
        assert len(model.prototype_vecs) == number


def test_fingerprint_knows_the_architecture(tmp_path):
    torch.manual_seed(0)
    prints = set()
    for style in ('pytorch', 'caffe'):
        model = EmbeddingRetriever([dict(type='ResNet', depth=50, style=style)])
        for parameter in model.parameters():
            parameter.data.fill_(0.1)
        prints.add(fingerprint_model(model))
    assert len(prints) == 2


def test_gallery_is_renewed_when_weights_change(gallery):
    loader = loader_of(gallery)
    model = small(prototype=loader)
    query = torch.randn(2, 16)
    before = model.matching(query)['score']
    state = model.state_dict()
    state['image_encoder.fc.weight'] = state['image_encoder.fc.weight'] + 1
    model.load_state_dict(state)
    loaded = model.matching(query)['score']
    assert not torch.allclose(before, loaded)
    model.train()
    model.image_encoder.fc.weight.data -= 1
    model.eval()
    torch.testing.assert_close(model.matching(query)['score'], before)


def test_gallery_from_a_config(gallery):
    dataset = dict(type='mmarcface.IdentityFolder', data_root=str(gallery), pipeline=PIPELINE)
    sampler = dict(type='DefaultSampler', shuffle=False)
    collate = dict(type='default_collate')
    model = small(
        prototype=dict(dataset=dataset, batch_size=7, sampler=sampler, collate_fn=collate)
    )
    expected = small(prototype=loader_of(gallery))
    query = torch.randn(2, 16)
    torch.testing.assert_close(model.matching(query), expected.matching(query))


def test_gallery_of_another_width_is_refused():
    with pytest.raises(ValueError, match='are 17 wide and those of this model 16'):
        small(prototype=torch.randn(3, 17)).matching(torch.randn(2, 16))


def test_half_precision_matches(gallery):
    vectors, query = torch.randn(20, 16), torch.randn(3, 16)
    expected = small(prototype=vectors).matching(query)['score']
    score = small(prototype=vectors.half()).half().matching(query.half())['score']
    torch.testing.assert_close(score, expected, atol=5e-3, rtol=0)


def test_initial_weights_of_another_net_are_refused(tmp_path):
    path = str(tmp_path / 'weights.pth')
    right = small().image_encoder.state_dict()
    encoder = dict(
        type='mmarcface.IResNet', depth=18, embedding_dim=16, input_size=(32, 24), base_channels=8
    )
    for prefix in ('', 'backbone.'):
        init_cfg = dict(type='Pretrained', checkpoint=path)
        if prefix:
            init_cfg['prefix'] = 'backbone'
        extra = {f'{prefix}classifier.weight': torch.ones(1)}
        torch.save({f'{prefix}{k}': v for k, v in right.items()} | extra, path)
        model = EmbeddingRetriever([encoder | dict(init_cfg=init_cfg)])
        model.init_weights()
        torch.testing.assert_close(model.image_encoder[0].state_dict(), right)
        torch.save({f'{prefix}{k}': v for k, v in right.items() if 'layer3' not in k}, path)
        with pytest.raises(ValueError, match=r'weights.pth does not hold .* model.image_encoder.0'):
            EmbeddingRetriever([encoder | dict(init_cfg=init_cfg)]).init_weights()


def test_model_without_head_takes_the_checkpoint_of_a_training(tmp_path):
    path = str(tmp_path / 'model.pth')
    head = dict(type='mmarcface.ArcFaceHead', num_classes=3, in_channels=16)
    torch.save(dict(state_dict=small(head=head).state_dict()), path)
    load_checkpoint(small(), path)
