import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmpretrain import get_model

from mmarcface.apis import VerificationInferencer
from mmarcface.evaluation.thresholds import Thresholds, save_thresholds
from mmarcface.fingerprints import fingerprint_model
from mmarcface.functional.calibration import calibrate

pytestmark = pytest.mark.both_stacks
ORL = 'iresnet18-arcface_orl'


def random_model(seed: int = 0):
    torch.manual_seed(seed)
    return get_model(ORL).eval()


@pytest.fixture(scope='module')
def model():
    return random_model()


@pytest.fixture(scope='module')
def calibration():
    similarity = np.concatenate([np.linspace(0.2, 1, 100), np.linspace(-1, 0.6, 100)])
    return calibrate(similarity, np.arange(200) < 100, 0.1)


@pytest.fixture(scope='module')
def checkpoint(model, calibration, tmp_path_factory):
    path = tmp_path_factory.mktemp('work') / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    save_thresholds(
        path.with_name('epoch_1.thresholds.json'),
        Thresholds(fingerprint_model(model), {}, dict(verification=[calibration])),
    )
    return path


def cosine(model, *paths):
    """Of two images, without pipeline or preprocessor."""
    images = [cv2.resize(cv2.imread(str(p)), (48, 56), interpolation=cv2.INTER_AREA) for p in paths]
    rgb = torch.from_numpy(np.stack(images)[..., ::-1].copy()).permute(0, 3, 1, 2)
    with torch.no_grad():
        one, other = model.embed((rgb.float() - 127.5) / 127.5).double().numpy()
    return one @ other / np.sqrt((one @ one) * (other @ other))


def photograph(orl, person, number=1):
    return str(orl / f's{person}' / f'{number}.pgm')


@pytest.mark.parametrize('kind', ['name', 'Path', 'model', 'model and Path'])
def test_threshold_beside_the_checkpoint(orl, model, calibration, checkpoint, kind):
    pretrained = checkpoint if 'Path' in kind else str(checkpoint)
    # Of other weights until the checkpoint is loaded.
    verify = VerificationInferencer(random_model(5) if 'model' in kind else ORL, pretrained)
    assert (verify.threshold, verify.far) == (calibration.threshold, 0.1)
    pairs = [
        (photograph(orl, 1), photograph(orl, 1, 2)),
        (photograph(orl, 1), photograph(orl, 9)),
        (photograph(orl, 3), photograph(orl, 3)),
    ]
    found = verify(pairs, batch_size=2)
    for pair, answer in zip(pairs, found, strict=True):
        assert answer == dict(
            is_same=answer['similarity'] >= calibration.threshold,
            similarity=pytest.approx(cosine(model, *pair), abs=1e-5),
            threshold=calibration.threshold,
            far=0.1,
        )
    assert json.loads(json.dumps(found)) == found
    assert found[2]['similarity'] == pytest.approx(1, abs=1e-5)


def test_threshold_of_a_file_elsewhere(model, calibration, tmp_path):
    path = tmp_path / 'elsewhere.json'
    sets = {'verification/lfw': [calibration], 'verification/cfp': [calibration]}
    save_thresholds(path, Thresholds(fingerprint_model(model), {}, sets))
    verify = VerificationInferencer(
        model, thresholds=path, far=0.1, benchmark='verification/cfp', device='cpu'
    )
    assert verify.threshold == calibration.threshold
    with pytest.raises(ValueError, match=r"one of \['verification/lfw', 'verification/cfp'\] in"):
        VerificationInferencer(model, thresholds=path)
    with pytest.raises(ValueError, match=r'far must be one of \[0.1\] in .*json, got 0.2'):
        VerificationInferencer(model, thresholds=path, far=0.2, benchmark='verification/lfw')


def test_given_threshold(orl, model):
    pair = photograph(orl, 1), photograph(orl, 2)
    similarity = cosine(model, *pair)
    for threshold in (-1, similarity - 1e-4, similarity + 1e-4):
        (answer,) = VerificationInferencer(model, threshold=threshold)([pair])
        assert answer['is_same'] is bool(similarity >= threshold)
        assert (answer['threshold'], answer['far']) == (threshold, None)


def test_thresholds_of_other_weights_are_refused(checkpoint):
    other = random_model(1)
    beside = checkpoint.with_name('epoch_1.thresholds.json')
    with pytest.raises(ValueError, match='holds thresholds of another model'):
        VerificationInferencer(other, thresholds=str(beside))


def test_missing_thresholds_say_how_to_make_them(model, tmp_path):
    path = str(tmp_path / 'epoch_2.pth')
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    with pytest.raises(FileNotFoundError, match=r'epoch_2.thresholds.json does .*tools/test.py'):
        VerificationInferencer(ORL, path)
    with pytest.raises(FileNotFoundError, match=r'which threshold\? Give a checkpoint'):
        VerificationInferencer(model)


@pytest.mark.parametrize('batch_size', [1, 3, 32])
def test_each_image_is_embedded_once(orl, model, batch_size, monkeypatch):
    sizes = []
    embed = type(model).embed

    def counted(self, inputs):
        sizes.append(len(inputs))
        return embed(self, inputs)

    monkeypatch.setattr(type(model), 'embed', counted)
    one, two, three = (photograph(orl, person) for person in (1, 2, 3))
    array = cv2.imread(photograph(orl, 4))
    pairs = [(one, two), (two, one), (Path(one), three), (array, one), (array, array), (one, one)]
    found = [a['similarity'] for a in VerificationInferencer(model, threshold=0)(pairs, batch_size)]
    assert sum(sizes) == 4
    assert max(sizes) <= batch_size
    assert found[0] == found[1]
    assert found[4:] == pytest.approx([1, 1])


def test_arrays_equal_paths(orl, model):
    verify = VerificationInferencer(model, threshold=0)
    paths = [(photograph(orl, 1), photograph(orl, n)) for n in (2, 3)]
    arrays = [tuple(map(cv2.imread, pair)) for pair in paths]
    # Rows of one array are other objects each time that they are looked at.
    for images in (arrays, np.array(arrays), iter(arrays), [arrays[0], paths[1]]):
        found, expected = ([a['similarity'] for a in verify(given)] for given in (images, paths))
        # Three images are not embedded quite as four are.
        assert found == pytest.approx(expected, abs=1e-6)
    assert verify([]) == []


def test_wrong_pairs(orl, model, tmp_path):
    verify = VerificationInferencer(model, threshold=0)
    good = photograph(orl, 1)
    with pytest.raises(FileNotFoundError, match=r'gone.pgm does not exist'):
        verify([(good, good), (good, str(tmp_path / 'gone.pgm'))])
    for content in (b'', b'not an image', Path(good).read_bytes()[:5]):
        broken = tmp_path / 'broken.pgm'
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r'broken.pgm cannot be read'):
            verify([(good, broken)])
    for pairs in ([good, good], (good,), [(good,)], [(good, good, good)]):
        with pytest.raises(ValueError, match='pairs must be a list of pairs of images, got'):
            verify(pairs)


@pytest.mark.parametrize('threshold', [-1.01, 1.01])
def test_a_threshold_is_a_cosine(model, threshold):
    with pytest.raises(ValueError, match=rf'threshold must be in \[-1, 1\], got {threshold}'):
        VerificationInferencer(model, threshold=threshold)
