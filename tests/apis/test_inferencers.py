"""Landmarks of single images: given with them, of a list, or refused before all embedding."""

import copy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain import (
    FeatureExtractor,
    ImageClassificationInferencer,
    ImageRetrievalInferencer,
    get_model,
)
from torch.utils.data import DataLoader

from mmarcface.apis import VerificationInferencer
from mmarcface.apis.inferencers import image_sample
from mmarcface.datasets import AlignFace, CelebA, IdentityFolder, LoadImageFromFile
from mmarcface.models import EmbeddingRetriever
from mmarcface.registry import DATASETS
from tests.conftest import ROOT
from tests.datasets import writers

pytestmark = pytest.mark.both_stacks
NUMBERS = (1, 2, 9)
# Of three photographs; the faces are not all upright.
POINTS = [
    np.array(writers.FIVE, float).reshape(5, 2),
    np.array([(28, 47), (60, 43), (47, 65), (34, 86), (61, 83)], float),
    np.array([(31, 44), (63, 47), (45, 66), (32, 84), (58, 87)], float),
]


def model_with(*transforms: dict):
    config = Config.fromfile(ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py')
    load, *_, pack = config.test_dataloader.dataset.pipeline
    config.test_dataloader.dataset.pipeline = [load, *transforms, pack]
    torch.manual_seed(0)
    return get_model(config).eval()


def aligned(**kwargs) -> dict:
    return dict(type=AlignFace, size=(56, 48), **kwargs)


@pytest.fixture(scope='module')
def crops(orl):
    """What a model without landmarks gets: the aligned faces."""
    align = AlignFace((56, 48))
    images = [cv2.imread(str(orl / f's{number}' / '1.pgm')) for number in NUMBERS]
    return [
        align(dict(img=image, landmarks=points))['img']
        for image, points in zip(images, POINTS, strict=True)
    ]


@pytest.fixture(scope='module')
def similarities(crops):
    verify = VerificationInferencer(model_with(), threshold=0)
    return [found['similarity'] for found in verify([crops[:2], crops[1:]])]


@pytest.fixture
def faces(orl, tmp_path) -> list[str]:
    folder = tmp_path / 'faces'
    for number in NUMBERS:
        (folder / f's{number}').mkdir(parents=True)
        shutil.copy(orl / f's{number}' / '1.pgm', folder / f's{number}')
    return [str(folder / f's{number}' / '1.pgm') for number in NUMBERS]


@pytest.fixture
def listed(tmp_path) -> dict:
    rows = [
        (f's{number}/1.pgm', *points.ravel())
        for number, points in zip(NUMBERS, POINTS, strict=True)
    ]
    writers.write_lines(tmp_path / 'points.txt', rows)
    return dict(landmarks=str(tmp_path / 'points.txt'), img_prefix=str(tmp_path / 'faces'))


@pytest.fixture
def embed_nothing(monkeypatch):
    def embed(model, inputs):
        raise AssertionError('embedded before the refusal')

    monkeypatch.setattr(EmbeddingRetriever, 'embed', embed)


def given(image, points) -> dict:
    return dict(img=image, landmarks=points)


FORMS = {
    'path': given,
    'Path': lambda path, points: given(Path(path), points.tolist()),
    'array': lambda path, points: given(cv2.imread(path), points),
}


@pytest.mark.parametrize('form', FORMS)
def test_landmarks_with_an_image(faces, similarities, crops, form):
    images = [FORMS[form](path, points) for path, points in zip(faces, POINTS, strict=True)]
    model = model_with(aligned())
    found = VerificationInferencer(model, threshold=0)([images[:2], images[1:], [images[0]] * 2])
    assert [f['similarity'] for f in found] == pytest.approx([*similarities, 1], abs=1e-5)
    # All of them as gallery, and as queries.
    search = ImageRetrievalInferencer(model, images)
    for place, image in enumerate(images):
        best = search(image, topk=2)[0][0]
        assert best['sample_idx'] == place
        assert best['match_score'] == pytest.approx(1, abs=1e-5)
    assert len(search(images)) == 3
    plain = FeatureExtractor(model_with())(crops)
    for one, other in zip(FeatureExtractor(model)(images), plain, strict=True):
        torch.testing.assert_close(one[-1], other[-1], atol=1e-4, rtol=1e-4)
    (batch,) = ImageClassificationInferencer(model).preprocess(images, 3)
    assert len(batch['inputs']) == 3


@pytest.mark.parametrize('nested', [False, True])
def test_landmarks_by_name(faces, similarities, listed, nested):
    align = aligned(**listed)
    model = model_with(dict(type='RandomApply', transforms=[align], prob=1.0) if nested else align)
    verify = VerificationInferencer(model, threshold=0)
    found = verify([faces[:2], list(map(Path, faces[1:]))])
    assert [f['similarity'] for f in found] == pytest.approx(similarities, abs=1e-5)
    folder = str(Path(faces[0]).parents[1])
    for prototype in (
        folder,
        faces,
        dict(type='CustomDataset', data_root=folder, with_label=False),
    ):
        search = ImageRetrievalInferencer(model, prototype)
        assert search(faces[1], topk=1)[0][0]['sample_idx'] == 1
    # What is given with an image counts before the list, and serves one that is not in it.
    shifted = given(faces[0], POINTS[0] + 3)
    array = given(cv2.imread(faces[0]), POINTS[0] + 3)
    (one, other) = verify([(shifted, array), (shifted, faces[0])])
    assert one['similarity'] == pytest.approx(1, abs=1e-5)
    assert other['similarity'] < 0.9999


def test_landmarks_of_a_data_set(faces, tmp_path):
    people = {
        name: [cv2.imread(path)] * 3 for name, path in zip('abcd', [*faces, faces[0]], strict=True)
    }
    writers.celeba(tmp_path / 'celeba', people)
    model = model_with(aligned())
    arguments = dict(data_root=str(tmp_path / 'celeba'))
    marked = arguments | dict(landmarks='list_landmarks_align_celeba.txt')
    for prototype in (dict(type='mmarcface.CelebA', **marked), CelebA(**marked)):
        search = ImageRetrievalInferencer(model, prototype)
        sample = CelebA(**marked).get_data_info(4)
        match = search(given(sample['img_path'], sample['landmarks']), topk=1)[0][0]
        assert match['sample_idx'] == 4
    with pytest.raises(ValueError, match=r'000001.jpg has no landmarks'):
        ImageRetrievalInferencer(model, CelebA(**arguments))


NONE = r'has no landmarks: give AlignFace a list .*give an inferencer the image as dict\(img=...,'


@pytest.mark.parametrize('nested', [False, True])
def test_a_gallery_without_landmarks_is_refused_at_once(faces, embed_nothing, nested):
    align = dict(type='RandomApply', transforms=[aligned()], prob=1.0) if nested else aligned()
    model, folder = model_with(align), str(Path(faces[0]).parents[1])
    pipeline = [LoadImageFromFile(), AlignFace((56, 48))]
    for prototype in (
        folder,
        faces,
        [given(faces[0], POINTS[0]), faces[1]],
        [cv2.imread(faces[0])],
        dict(type='CustomDataset', data_root=folder, with_label=False),
        IdentityFolder(folder),
        IdentityFolder(folder, pipeline=pipeline),
        DataLoader(IdentityFolder(folder, pipeline=pipeline)),
    ):
        with pytest.raises(ValueError, match=NONE):
            ImageRetrievalInferencer(model, prototype)


def test_images_without_landmarks_are_refused_at_once(faces, embed_nothing):
    model = model_with(aligned())
    verify = VerificationInferencer(model, threshold=0)
    good, array = given(faces[0], POINTS[0]), cv2.imread(faces[1])
    for bad in (faces[1], array, dict(img=faces[1]), dict(img=array)):
        with pytest.raises(ValueError, match=NONE):
            verify([(good, good), (good, bad)])
        for search in (
            ImageRetrievalInferencer(model, torch.rand(3, 128)),
            FeatureExtractor(model),
        ):
            with pytest.raises(ValueError, match=NONE):
                search([good, bad])


def test_images_that_a_list_lacks_are_refused_at_once(faces, listed, tmp_path, embed_nothing):
    model = model_with(aligned(**listed))
    shutil.copy(faces[0], tmp_path / 'other.pgm')
    shutil.copy(faces[0], tmp_path / 'faces' / 'new.pgm')
    verify = VerificationInferencer(model, threshold=0)
    absent = r'points.txt has no landmarks of {}: names are paths .*or give an inferencer the image'
    for path, name in (('other.pgm', '../other.pgm'), ('faces/new.pgm', 'new.pgm')):
        with pytest.raises(ValueError, match=absent.format(name)):
            verify([(faces[0], tmp_path / path)])
        with pytest.raises(ValueError, match=absent.format(name)):
            ImageRetrievalInferencer(model, [faces[0], str(tmp_path / path)])
    with pytest.raises(ValueError, match='an image without a path has no landmarks'):
        verify([(faces[0], cv2.imread(faces[0]))])


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (dict(landmarks=POINTS[0]), r'must be a path, an array or dict\(.*got a dict of landmarks'),
        ({}, 'got a dict of nothing'),
        (dict(img='a.png', points=1), 'got a dict of img, points'),
        (given('a.png', POINTS[0][:3]), 'landmarks of a.png must be x and y of two or five points'),
        (given('a.png', [1, 2, 3, 4]), 'must be x and y of two or five points in pixels, got'),
        (given('a.png', POINTS[0] * np.nan), 'must be x and y of two or five points'),
        (
            given('a.png', POINTS[0][[1, 0, 2, 3, 4]]),
            r'on the left of the upright .* of a.png$',
        ),
        (
            given('a.png', POINTS[0][[1, 0, 2, 4, 3]]),
            r'on the left of the upright .* of a.png$',
        ),
        (
            given('a.png', POINTS[0][[1, 0]]),
            r'of a.png. If the image is upside down, turn it or give',
        ),
    ],
)
def test_wrong_landmarks_are_refused_at_once(faces, image, message, embed_nothing):
    model, good = model_with(aligned()), given(faces[0], POINTS[0])
    with pytest.raises(ValueError, match=message):
        VerificationInferencer(model, threshold=0)([(good, good), (image, good)])
    with pytest.raises(ValueError, match=message):
        ImageRetrievalInferencer(model, [good, image])


def test_pipelines_without_alignment_take_images_as_before(faces):
    model = model_with(dict(type='Resize', scale=(48, 56)))
    verify = VerificationInferencer(model, threshold=0)
    array = cv2.imread(faces[0])
    pairs = [(faces[0], array), (given(faces[0], [1]), array), (dict(img=array), faces[0])]
    assert [f['similarity'] for f in verify(pairs)] == pytest.approx([1, 1, 1], abs=1e-5)
    search = ImageRetrievalInferencer(model, [array, faces[1]])
    assert search(faces[0], topk=1)[0][0]['sample_idx'] == 0


def test_cache_of_a_gallery_with_other_landmarks_is_rebuilt(faces, listed, tmp_path):
    cache = str(tmp_path / 'cache.pth')

    def make(model, points):
        images = list(map(given, faces, points))
        return ImageRetrievalInferencer(model, images, prototype_cache=cache)

    model = model_with(aligned())
    make(model, POINTS)
    written = Path(cache).stat().st_mtime_ns
    make(model, POINTS)
    assert Path(cache).stat().st_mtime_ns == written
    with pytest.warns(UserWarning, match='made from other images or transforms'):
        make(model, [POINTS[0], POINTS[1] + 1, POINTS[2]])
    # The same of a list of the same name.
    Path(cache).unlink()
    ImageRetrievalInferencer(model_with(aligned(**listed)), faces, prototype_cache=cache)
    path = Path(listed['landmarks'])
    path.write_text(path.read_text().replace('45.0', '46.0'))
    with pytest.warns(UserWarning, match='made from other images or transforms'):
        ImageRetrievalInferencer(model_with(aligned(**listed)), faces, prototype_cache=cache)


def test_an_image_with_landmarks_can_be_drawn(faces, tmp_path):
    images = list(map(given, faces, POINTS))
    search = ImageRetrievalInferencer(model_with(aligned()), images)
    search(images[:1], show_dir=str(tmp_path / 'shown'))
    search(given(cv2.imread(faces[1]), POINTS[1]), show_dir=str(tmp_path / 'array'))
    for file in ('shown/1.png', 'array/0.png'):
        assert (tmp_path / file).stat().st_size > 1000


def test_samples():
    array = np.zeros((4, 3, 3), np.uint8)
    assert image_sample(Path('a/b.png')) == dict(img_path='a/b.png')
    assert image_sample(array) == dict(img=array, img_shape=(4, 3), ori_shape=(4, 3))
    assert set(image_sample(dict(img='a', landmarks=[]))) == {
        'img_path',
        'landmarks',
        'landmarks_given',
    }


WRAPPED = {
    'repeat': lambda data: dict(type='RepeatDataset', times=2, dataset=data),
    'concat': lambda data: dict(type='ConcatDataset', datasets=[data]),
    'fold': lambda data: dict(type='KFoldDataset', dataset=data, num_splits=2),
}


@pytest.mark.parametrize('name', WRAPPED)
def test_a_wrapped_test_set_has_the_pipeline(faces, name):
    config = Config.fromfile(ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py')
    plain, wrapped = copy.deepcopy(config), copy.deepcopy(config)
    wrapped.test_dataloader.dataset = WRAPPED[name](config.test_dataloader.dataset)
    found = []
    for one in (plain, wrapped):
        torch.manual_seed(0)
        model = get_model(one).eval()
        (score,) = VerificationInferencer(model, threshold=0)([(faces[0], faces[1])])
        search = ImageRetrievalInferencer(model, prototype=faces)
        scores = [match['match_score'] for match in search(faces[0], topk=3)[0]]
        found.append([score['similarity'], *map(float, scores)])
    assert found[0] == found[1]


@pytest.mark.parametrize('built', [True, False])
@pytest.mark.parametrize('name', WRAPPED)
def test_a_wrapped_gallery_is_searched(orl, name, built):
    data = dict(type='mmarcface.ORLFaces', people=[1, 2])
    gallery = WRAPPED[name](data)
    if built:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            gallery = DATASETS.build(gallery)
    resize = dict(type='mmcv.Resize', scale=(48, 56))
    search = ImageRetrievalInferencer(model_with(resize), prototype=gallery)
    number = 10 if name == 'fold' else 20
    path = search.prototype_dataset.get_data_info(3)['img_path']
    assert len(search.prototype_dataset) == number
    (best, *_) = search(path, topk=2)[0]
    assert best['sample']['img_path'] == path


def test_a_gallery_that_counts_places_anew_is_refused_at_once(embed_nothing):
    data = dict(type='mmarcface.ORLFaces', people=[1, 2])
    gallery = dict(type='ConcatDataset', datasets=[data, data])
    with pytest.raises(ValueError, match='need a sample_idx each'):
        ImageRetrievalInferencer(model_with(), prototype=gallery)


def test_a_config_without_test_pipeline_is_named(faces):
    config = Config.fromfile(ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py')
    model = get_model(config)
    model._config.test_dataloader = None
    with pytest.raises(ValueError, match='must have a test_dataloader'):
        VerificationInferencer(model, threshold=0)


def test_inferencers_of_one_model_search_their_own_galleries(orl):
    model = model_with(dict(type='mmcv.Resize', scale=(48, 56)))
    people = [[str(orl / f's{n}' / f'{i}.pgm') for i in (1, 2, 3)] for n in (1, 2)]
    one = ImageRetrievalInferencer(model, prototype=people[0])
    wanted = one(people[0][2], topk=3)[0]
    other = ImageRetrievalInferencer(model, prototype=people[1][:2])
    for _ in range(2):
        found = one(people[0][2], topk=3)[0]
        assert [m['sample']['img_path'] for m in found] == [m['sample']['img_path'] for m in wanted]
        assert other(people[1][0])[0][0]['sample']['img_path'] == people[1][0]
    # Of other weights the gallery is another.
    with torch.no_grad():
        model.image_encoder.fc.weight.normal_()
    model.load_state_dict(model.state_dict())
    assert one(people[0][2], topk=1)[0][0]['match_score'] == pytest.approx(1, abs=1e-5)


def test_a_gallery_that_failed_is_forgotten(orl, tmp_path):
    model = model_with(dict(type='mmcv.Resize', scale=(48, 56)))
    (tmp_path / 'zz.jpg').write_bytes(b'no image')
    faces = [str(orl / 's1' / f'{i}.pgm') for i in (1, 2)]
    with pytest.raises(ValueError, match='cannot be read'):
        ImageRetrievalInferencer(model, prototype=[*faces, str(tmp_path / 'zz.jpg')])
    verify = VerificationInferencer(model, threshold=0)
    assert verify([tuple(faces)])[0]['is_same']


def test_a_missing_image_or_cache_folder_is_refused_at_once(orl, tmp_path, embed_nothing):
    model = model_with(dict(type='mmcv.Resize', scale=(48, 56)))
    faces = [str(orl / 's1' / '1.pgm')]
    with pytest.raises(FileNotFoundError, match=r'none\.jpg of the gallery does not exist'):
        ImageRetrievalInferencer(model, prototype=[*faces, str(tmp_path / 'none.jpg')])
    cache = str(tmp_path / 'no' / 'cache.pth')
    with pytest.raises(FileNotFoundError, match='must be in a folder that exists'):
        ImageRetrievalInferencer(model, prototype=faces, prototype_cache=cache)


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((9, 9, 3), np.float32),
        np.zeros((9, 9, 3), np.int64),
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((3, 9, 9), np.uint8),
        np.zeros((0, 9, 3), np.uint8),
        None,
        torch.zeros(3, 9, 9),
    ],
    ids=lambda image: f'{getattr(image, "dtype", None)} {getattr(image, "shape", None)}',
)
def test_arrays_that_are_no_images_are_refused(image):
    with pytest.raises(ValueError, match=r'must be a path or an array \(H, W, 3\), uint8'):
        image_sample(image)


@pytest.mark.parametrize('threshold', [float('nan'), 2, -5, True, '0.5'])
def test_thresholds_that_are_no_cosines_are_refused(threshold):
    with pytest.raises(ValueError, match='threshold must be'):
        VerificationInferencer(model_with(), threshold=threshold)
