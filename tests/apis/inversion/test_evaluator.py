import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model

from mmarcface.apis import InversionEvaluator
from mmarcface.apis.inversion import evaluator
from mmarcface.datasets import MNIST, IdentityFolder, ORLFaces
from mmarcface.functional.inversion_metrics import RealEmbeddings, evaluate_inversions
from mmarcface.models import IResNet

PIPELINE = [
    dict(type='mmarcface.LoadImageFromFile'),
    dict(type='Resize', scale=(48, 56), interpolation='area'),
    dict(type='PackInputs'),
]
PIXELS = dict(type='mmarcface.EmbeddingRetriever', image_encoder=dict(type='mmarcface.RawPixels'))
IRESNET = dict(
    type='mmarcface.EmbeddingRetriever',
    image_encoder=dict(
        type='mmarcface.IResNet', depth=18, embedding_dim=16, input_size=(56, 48), base_channels=8
    ),
)
CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
)
PEOPLE = (3, 7, 11, 15, 19, 23)


def config(model, pipeline=PIPELINE):
    # As from a file: what is built from it must not change ours.
    return Config(
        dict(
            model=model,
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
            test_dataloader=dict(dataset=dict(type='mmarcface.ORLFaces', pipeline=pipeline)),
        )
    )


def built(model, seed=0, **arguments):
    torch.manual_seed(seed)
    return get_model(config(model, **arguments))


def photographs(orl, people=PEOPLE, numbers=(1, 2), size=None):
    images = [cv2.imread(str(orl / f's{p}' / f'{n}.pgm')) for p in people for n in numbers]
    if size:
        images = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(images), np.repeat(np.arange(len(people)), len(numbers))


@pytest.fixture(scope='module')
def pixels():
    return InversionEvaluator(
        built(PIXELS), dict(type='mmarcface.ORLFaces', people=PEOPLE), None, far=[0.1]
    )


def test_real_images_are_judged_as_what_they_are(orl, pixels):
    images, labels = photographs(orl)
    report = pixels.evaluate(images, labels)
    assert report['attack_accuracy'] == 1
    assert report['real_accuracy'] > 0.9
    assert report['attack_accuracy_low'] < 1 == report['attack_accuracy_high']
    assert (report['identities'], report['identities_reidentified']) == (6, 6)
    assert report['cosine_own'] > report['cosine_real'] > report['cosine_other']
    assert report['accepted@FAR=0.1'] > 0.5
    assert [one['name'] for one in report['per_identity']] == [f's{p}' for p in PEOPLE]
    # Each is a copy.
    assert report['nearest_image_rms'] == report['nearest_image_ratio'] == 0
    assert report['nearest_image_rms_real'] > 10
    assert json.loads(json.dumps(report)) == report
    assert pixels(torch.from_numpy(images), labels.tolist()) == report


def test_wrong_labels_are_found_out(orl, pixels):
    images, labels = photographs(orl)
    report = pixels.evaluate(images, (labels + 1) % 6)
    assert report['attack_accuracy'] < 0.1
    assert report['identities_reidentified'] == 0
    assert report['cosine_own'] < report['cosine_real']
    labels = np.random.default_rng(0).integers(0, 6, 60)
    noise = np.random.default_rng(1).integers(0, 256, (60, 56, 48, 3), np.uint8)
    report = pixels.evaluate(noise, labels)
    # One person is nearest to all noise.
    assert report['attack_accuracy_low'] < 1 / 6
    assert report['nearest_image_ratio'] > 1.5


@pytest.mark.parametrize('model', [PIXELS, IRESNET, CLASSIFIER], ids=lambda m: m['type'])
def test_figures_are_those_of_the_pipeline_and_the_preprocessor(orl, model):
    model = built(model)
    judge = InversionEvaluator(model, ORLFaces(PEOPLE))
    everyone, identity = photographs(orl, numbers=[1, 10, *range(2, 10)], size=(48, 56))
    images, labels = photographs(orl, numbers=(4,))

    def embed(images):
        rgb = torch.from_numpy(images[..., ::-1].copy()).permute(0, 3, 1, 2)
        with torch.no_grad():
            found = model.extract_feat((rgb.float() - 127.5) / 127.5)[-1]
        return found if found.ndim == 2 else found.mean((2, 3))

    small = photographs(orl, numbers=(4,), size=(48, 56))[0]
    expected = evaluate_inversions(embed(small), labels, RealEmbeddings(embed(everyone), identity))
    report = judge.evaluate(images, labels)
    assert report['notes'][: len(expected['notes'])] == expected.pop('notes')
    per_identity = expected.pop('per_identity')
    for key, value in expected.items():
        assert report[key] == pytest.approx(value, abs=1e-4), key
    assert [one['named'] for one in report['per_identity']] == [o['named'] for o in per_identity]


def test_flip_test_counts(orl):
    plain, flipped = built(PIXELS), built(PIXELS | dict(test_cfg=dict(flip=True)))
    images, labels = photographs(orl)
    cosines = [
        InversionEvaluator(m, ORLFaces(PEOPLE)).evaluate(images, labels) for m in (plain, flipped)
    ]
    assert cosines[0]['cosine_own'] != pytest.approx(cosines[1]['cosine_own'], abs=1e-3)


def test_real_images_are_embedded_once(orl):
    judge = InversionEvaluator(built(PIXELS), ORLFaces(PEOPLE))
    images, labels = photographs(orl)
    first = judge.evaluate(images, labels)
    judge.real.get_data_info = None
    assert judge.evaluate(images, labels) == first


def test_checkpoint_is_loaded(orl, tmp_path):
    wanted = built(IRESNET, seed=5)
    path = tmp_path / 'judge.pth'
    torch.save(dict(state_dict=wanted.state_dict(), meta={}), path)
    images, labels = photographs(orl)
    judge = InversionEvaluator(config(IRESNET), ORLFaces(PEOPLE), path, device='cpu')
    assert judge.evaluate(images, labels) == InversionEvaluator(wanted, ORLFaces(PEOPLE)).evaluate(
        images, labels
    )


def test_pipelines_of_mmpretrain_take_arrays(orl):
    pipeline = [dict(type='LoadImageFromFile'), *PIPELINE[1:]]
    images, labels = photographs(orl)
    judge = InversionEvaluator(built(PIXELS, pipeline=pipeline), ORLFaces(PEOPLE))
    assert judge.evaluate(images, labels)['attack_accuracy'] == 1


def test_images_kept_in_memory():
    real = MNIST('test')
    judge = InversionEvaluator(built(PIXELS, pipeline=PIPELINE[-1:]), real)
    rows = np.arange(0, 1000, 10)
    images = np.stack([real.get_data_info(int(row))['img'] for row in rows])
    labels = [real.get_data_info(int(row))['gt_label'] for row in rows]
    report = judge.evaluate(images, labels)
    assert report['identities'] == 10
    assert report['nearest_image_rms'] == 0
    assert 0.6 < report['attack_accuracy'] < 1


def test_large_sets_are_sampled(orl, monkeypatch):
    monkeypatch.setattr(evaluator, 'MAX_COMPARED', 20)
    monkeypatch.setattr(evaluator, 'MAX_YARDSTICKS', 5)
    images, labels = photographs(orl)
    report = InversionEvaluator(built(PIXELS), ORLFaces(PEOPLE)).evaluate(images, labels)
    assert 'pixels were compared with 20 of the 60 real images' in report['notes']
    assert report['nearest_image_rms_real'] > 0
    assert report['nearest_image_rms'] > 0 == report['nearest_image_rms_min']


def test_asked_identities_of_a_large_set_are_all_embedded(orl, monkeypatch):
    monkeypatch.setattr(evaluator, 'MAX_EMBEDDED', 35)
    images, labels = photographs(orl)
    judge = InversionEvaluator(built(PIXELS), ORLFaces(PEOPLE), identities=[1, 4])
    counts = dict(
        zip(judge.reference.labels.tolist(), judge.reference.counts.tolist(), strict=True)
    )
    assert counts[1] == counts[4] == 10
    assert sum(counts.values()) == 35
    asked = np.isin(labels, [1, 4])
    report = judge.evaluate(images[asked], np.asarray(labels)[asked])
    assert '35 of the 60 real images were embedded' in report['notes']


def test_the_model_itself_is_refused():
    model = built(IRESNET)
    judge = InversionEvaluator(built(IRESNET), ORLFaces(PEOPLE))
    for same in (model, model.image_encoder, torch.nn.DataParallel(model)):
        with pytest.raises(ValueError, match='the judge is the model itself'):
            judge.refuse_same_weights(same)
    flipped = built(IRESNET | dict(test_cfg=dict(flip=True)))
    with pytest.raises(ValueError, match='the judge is the model itself'):
        judge.refuse_same_weights(flipped)
    judge.refuse_same_weights(built(IRESNET, seed=1))
    judge.refuse_same_weights(IResNet(18, 16, (56, 48), 8))
    # What learns nothing is in no model.
    InversionEvaluator(built(PIXELS), ORLFaces(PEOPLE)).refuse_same_weights(built(PIXELS))


def test_beside_real(orl, pixels):
    images, labels = photographs(orl, numbers=(3, 4), size=(48, 56))
    pairs = pixels.pair_with_real(images[[5, 0, 4]], labels[[5, 0, 4]])
    assert list(pairs) == [0, 2]
    real, generated = pairs[2]
    first = photographs(orl, people=[PEOPLE[2]], numbers=(1,), size=(48, 56))[0][0]
    np.testing.assert_array_equal(real, first)
    np.testing.assert_array_equal(generated, images[[5, 4]])
    with pytest.raises(ValueError, match=r'labels must be among those of the real .* got 6'):
        pixels.pair_with_real(images[:1], [6])


def test_refused(orl, pixels, tmp_path):
    images, labels = photographs(orl)
    for wrong in (images[..., :1], images[0], images.astype(float), images[:0]):
        with pytest.raises(ValueError, match=r'images must be \(N, H, W, 3\), uint8, at least one'):
            pixels.evaluate(wrong, labels[: len(wrong)])
    with pytest.raises(ValueError, match=r'labels must be among the 6 identities .* got 6'):
        pixels.evaluate(images, labels + 1)
    with pytest.raises(ValueError, match='labels of the generated images must be 12 whole'):
        pixels.evaluate(images, labels[1:])
    bare = built(PIXELS)
    del bare._config
    with pytest.raises(ValueError, match='model must come with its config'):
        InversionEvaluator(bare, ORLFaces(PEOPLE))


def test_real_images_without_labels_are_refused(orl):
    real = IdentityFolder(str(orl), identities=['s1', 's2'], serialize_data=False)
    del real.data_list[3]['gt_label']
    with pytest.raises(ValueError, match=r'gt_label must be an integer .* got None at'):
        InversionEvaluator(built(PIXELS), real).evaluate(*photographs(orl, people=(1, 2)))
