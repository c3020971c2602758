import itertools
import pickle
from collections import Counter

import cv2
import mmengine.fileio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmarcface.datasets import (
    IJB,
    LFW,
    AlignFace,
    CelebA,
    IdentityFolder,
    LoadImageFromFile,
    ProbesAndGallery,
    VerificationBin,
    VerificationSets,
)
from mmarcface.datasets.formats.bin_file import BinFile, write_bin
from mmarcface.datasets.formats.pairs import make_pairs, read_pairs, write_pairs
from mmarcface.functional.verification import consecutive_folds

from . import writers
from .writers import FIVE, photographs, png, tiny

IMAGES = [b'\x89PNG one', b'\n\'two"\0\\\xff', bytes(range(256)), b'four']
ANSWERS = [True, False]


def as_array(image):
    return np.frombuffer(image, np.uint8)


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize(
    'images_as',
    [
        list,
        tuple,
        lambda images: [as_array(image) for image in images],
        lambda images: [as_array(image).copy() for image in images],
        lambda images: tuple(as_array(image) for image in images),
    ],
    ids=['list', 'tuple', 'arrays', 'own arrays', 'tuple of arrays'],
)
@pytest.mark.parametrize(
    'answers_as',
    [
        list,
        tuple,
        lambda answers: list(map(int, answers)),
        lambda answers: list(map(np.bool_, answers)),
        lambda answers: list(map(np.int64, answers)),
        np.array,
        lambda answers: np.array(answers, np.uint8),
        lambda answers: np.array(answers, '>i4'),
    ],
    ids=['list', 'tuple', 'int', 'np.bool', 'np.int64', 'array', 'uint8 array', 'other order'],
)
@pytest.mark.parametrize('both_as', [list, tuple])
def test_bin_of_python3(tmp_path, protocol, images_as, answers_as, both_as):
    data = both_as((images_as(IMAGES), answers_as(ANSWERS)))
    file = BinFile(writers.write_bin(tmp_path / 'lfw.bin', data, protocol))
    assert file.images == IMAGES
    assert file.is_same == ANSWERS
    assert {type(same) for same in file.is_same} == {bool}


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('old', [False, True], ids=['numpy 2', 'numpy 1'])
def test_bin_with_names_of_either_numpy(tmp_path, protocol, old):
    content = pickle.dumps(([as_array(b'one'), as_array(b'two')], [np.True_]), protocol)
    # Names are of another length, and a frame that is left out is not missed.
    for core in (b'numpy._core', b'numpy.core') if old else ():
        for ending in (b'.multiarray', b'.numeric'):
            name, other = core + ending, b'numpy.core' + ending
            content = content.replace(
                b'\x8c' + bytes([len(name)]) + name, b'\x8c' + bytes([len(other)]) + other
            ).replace(b'c' + name, b'c' + other)
    if old and protocol > 3:
        content = content[:2] + content[11:]
    (tmp_path / 'lfw.bin').write_bytes(content)
    assert (b'numpy._core' in content) != old
    assert BinFile(tmp_path / 'lfw.bin').images == [b'one', b'two']


def test_bin_of_one_array(tmp_path):
    images = np.arange(12, dtype=np.uint8).reshape(4, 3)
    file = BinFile(writers.write_bin(tmp_path / 'lfw.bin', (images, ANSWERS)))
    assert file.images == [bytes(image) for image in images.tolist()]


@pytest.mark.parametrize('protocol', [0, 2])
@pytest.mark.parametrize('long', [False, True])
def test_bin_of_python2(tmp_path, protocol, long):
    images = IMAGES + ([bytes(range(256)) * 300] * 2 if long else IMAGES[:2])
    answers = [*ANSWERS, True]
    content = writers.python2_bin(images, answers, protocol)
    # Python 3 reads the same in it.
    assert pickle.loads(content, encoding='bytes') == (images, answers)
    (tmp_path / 'lfw.bin').write_bytes(content)
    file = BinFile(tmp_path / 'lfw.bin')
    assert (file.images, file.is_same) == (images, answers)


def test_array_of_python2(tmp_path):
    array = (
        b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR(K\x01K\x03\x85'
        b'cnumpy\ndtype\n(U\x02u1K\0K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb'
        b'\x89U\x03abctb'
    )
    (tmp_path / 'lfw.bin').write_bytes(b'\x80\x02](' + array * 2 + b'e]\x88a\x86.')
    file = BinFile(tmp_path / 'lfw.bin')
    assert (file.images, file.is_same) == ([b'abc', b'abc'], [True])


def test_written_bin_is_read_as_by_insightface(tmp_path):
    write_bin(tmp_path / 'lfw.bin', tuple(IMAGES), np.array(ANSWERS))
    content = (tmp_path / 'lfw.bin').read_bytes()
    assert pickle.loads(content, encoding='bytes') == (IMAGES, ANSWERS)
    for images, same in ((IMAGES[:3], ANSWERS), (IMAGES, [True]), ([], [])):
        with pytest.raises(ValueError, match=r'other.bin: '):
            write_bin(tmp_path / 'other.bin', images, same)
    assert not (tmp_path / 'other.bin').exists()


def test_distinct_images_and_labels(tmp_path):
    a, b, c, d, e, f = map(tiny, range(6))
    # a is the same as b, b as c; d is another, e and f are one.
    pairs = [(a, b, 1), (c, b, 1), (a, d, 0), (f, e, 1), (a, b, 1), (d, e, 0), (a, a, 1)]
    data = [image for pair in pairs for image in pair[:2]], [bool(same) for *_, same in pairs]
    path = writers.write_bin(tmp_path / 'lfw.bin', data)
    dataset = VerificationBin(path, num_folds=3, pipeline=[LoadImageFromFile()])
    infos = [dataset.get_data_info(place) for place in range(len(dataset))]
    assert [mmengine.fileio.get(info['img_path']) for info in infos] == [a, b, c, d, f, e]
    assert [info['gt_label'] for info in infos] == [0, 0, 0, 1, 2, 2]
    found = dataset.metainfo['pairs']
    assert found.indices.tolist() == [[0, 1], [2, 1], [0, 3], [4, 5], [0, 1], [3, 5], [0, 0]]
    assert found.is_same.tolist() == [bool(same) for *_, same in pairs]
    assert found.folds.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert [int(dataset[place]['img'][0, 0, 0]) for place in range(6)] == [0, 1, 2, 3, 5, 4]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(1, 12))
def test_consecutive_folds(number, num_folds):
    folds = consecutive_folds(number, num_folds).tolist()
    assert len(folds) == number
    assert folds == sorted(folds)
    sizes = [folds.count(fold) for fold in range(num_folds)]
    assert sum(sizes) == number
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@pytest.fixture
def faces(orl):
    return photographs(orl, 4, 3)


@pytest.fixture
def lfw(tmp_path, faces):
    writers.lfw(tmp_path / 'lfw', faces)
    return str(tmp_path / 'lfw')


ONE = [('s1_1', 's1_2'), ('s2_1', 's2_3'), ('s1_1', 's2_1'), ('s1_2', 's2_3')]
TWO = [('s3_1', 's3_2'), ('s4_2', 's4_1'), ('s3_3', 's4_3'), ('s4_1', 's3_2')]


@pytest.mark.parametrize(
    ('split', 'folds'), [('view2', [0] * 4 + [1] * 4), ('view1', [-1] * 4 + [0] * 4)]
)
def test_lfw_views(lfw, faces, split, folds):
    dataset = LFW(lfw, split, pipeline=[LoadImageFromFile(imdecode_backend='cv2')])
    pairs = dataset.metainfo['pairs']
    assert pairs.is_same.tolist() == [True, True, False, False] * 2
    assert pairs.folds.tolist() == folds
    assert pairs.indices.dtype == np.int64
    names = [f'{name}_000{number}' for name in faces for number in (1, 2, 3)]
    images = dict(zip(names, itertools.chain(*faces.values()), strict=True))
    for (one, other), expected in zip(pairs.indices.tolist(), ONE + TWO, strict=True):
        for place, name in zip((one, other), expected, strict=True):
            sample = dataset[place]
            assert (sample['img'] == images[name.replace('_', '_000')]).all()
            assert sample['identity'] == name.split('_')[0]
    # Each image is there once, and no others are.
    assert len(dataset) == len({name for pair in ONE + TWO for name in pair}) == 10
    assert dataset.metainfo['classes'] == ('s1', 's2', 's3', 's4')
    labels = {sample['identity']: sample['gt_label'] for sample in dataset}
    assert labels == dict(s1=0, s2=1, s3=2, s4=3)


@pytest.mark.parametrize(
    ('split', 'expected'),
    [
        ('people', [('s1', 3, 0), ('s2', 2, 0), ('s3', 1, 1), ('s4', 3, 1)]),
        ('people_train', [('s1', 3, 0), ('s2', 2, 0)]),
        ('people_test', [('s4', 3, 0)]),
    ],
)
def test_lfw_people(lfw, split, expected):
    dataset = LFW(lfw, split)
    found = Counter((sample['identity'], sample['fold']) for sample in dataset)
    assert found == {(name, fold): number for name, number, fold in expected}
    assert dataset.metainfo['classes'] == tuple(name for name, *_ in expected)
    assert 'pairs' not in dataset.metainfo


def test_other_folder_of_lfw(lfw, tmp_path):
    for path in sorted((tmp_path / 'lfw' / 'lfw').glob('*/*.jpg')):
        other = tmp_path / 'lfw' / 'aligned' / path.parent.name / f'{path.stem}.png'
        writers.save(other, tiny(7))
    dataset = LFW(lfw, folder='aligned', extension='.png', pipeline=[LoadImageFromFile()])
    assert dataset[0]['img'].shape == (6, 5, 3)


NAMES = st.text('ab Ü-', min_size=1, max_size=3).filter(lambda name: name == name.strip())
COUNTS = st.dictionaries(NAMES, st.integers(1, 4), min_size=1, max_size=9)


@settings(deadline=None, max_examples=100)
@given(COUNTS, st.integers(1, 3), st.integers(1, 6), st.integers(0, 3))
def test_made_pairs(tmp_path_factory, images_of, num_folds, number, seed):
    try:
        pairs = make_pairs(images_of, num_folds, number, seed)
    except ValueError:  # A fold with too few.
        return
    assert pairs == make_pairs(dict(sorted(images_of.items())), num_folds, number, seed)
    assert len({frozenset((pair.first, pair.second)) for pair in pairs}) == len(pairs)
    names = []
    for fold, run in enumerate(runs(pairs, 2 * number)):
        assert {pair.fold for pair in run} == {fold}
        assert [pair.is_same for pair in run] == [True] * number + [False] * number
        names.append({name for pair in run for name, _ in (pair.first, pair.second)})
        for pair in run:
            assert pair.first != pair.second
            assert all(1 <= i <= images_of[name] for name, i in (pair.first, pair.second))
    assert len(names) == num_folds
    assert sum(map(len, names)) == len(set().union(*names))
    path = tmp_path_factory.mktemp('made') / 'pairs.txt'
    write_pairs(path, pairs, num_folds)
    read = [(pair.first, pair.second, pair.fold) for pair in read_pairs(path)]
    assert read == [(pair.first, pair.second, pair.fold) for pair in pairs]


def runs(items, length):
    return [items[start : start + length] for start in range(0, len(items), length)]


@settings(deadline=None, max_examples=100)
@given(COUNTS, st.integers(0, 3))
def test_all_pairs_there_are(images_of, seed):
    images = [(name, i) for name, count in images_of.items() for i in range(1, count + 1)]
    every = {frozenset(pair) for pair in itertools.combinations(images, 2)}
    same = {pair for pair in every if len({name for name, _ in pair}) == 1}
    kinds = {True: same, False: every - same}
    number = min(map(len, kinds.values()))
    if number:
        pairs = make_pairs(images_of, 1, number, seed)
        for is_same, expected in kinds.items():
            found = {frozenset((p.first, p.second)) for p in pairs if p.is_same == is_same}
            assert len(found) == number
            assert found <= expected
    with pytest.raises(ValueError, match=rf'{number} pairs where {number + 1} of each kind'):
        make_pairs(images_of, 1, number + 1, seed)


def test_seeds_make_different_pairs():
    images_of = dict.fromkeys('abcdefghij', 10)
    drawn = [make_pairs(images_of, 2, 20, seed) for seed in range(3)]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]
    # All pairs of a kind are as likely, the rare and the frequent numbers too.
    counts = Counter(
        frozenset((pair.first, pair.second))
        for seed in range(600)
        for pair in make_pairs(dict(a=3, b=2, c=1), 1, 2, seed)
    )
    same = [
        counts[frozenset(pair)] for pair in itertools.combinations([('a', i) for i in (1, 2, 3)], 2)
    ]
    same.append(counts[frozenset([('b', 1), ('b', 2)])])
    # 600 draws of 2 out of 4: 300, give or take 12.
    assert max(abs(count - 300) for count in same) < 60
    different = [count for pair, count in counts.items() if len({name for name, _ in pair}) == 2]
    # And of 2 out of 11: 109, give or take 9.
    assert len(different) == 11
    assert max(abs(count - 109) for count in different) < 50


@pytest.fixture
def celeba(tmp_path, faces):
    writers.celeba(tmp_path / 'celeba', faces)
    return str(tmp_path / 'celeba')


@pytest.mark.parametrize(
    ('split', 'places'), [(None, range(12)), ('train', range(0, 12, 3)), ('test', range(2, 12, 3))]
)
def test_celeba(celeba, faces, split, places):
    dataset = CelebA(
        celeba, split, landmarks='list_landmarks_align_celeba.txt', pipeline=[LoadImageFromFile()]
    )
    images = list(itertools.chain(*faces.values()))
    assert len(dataset) == len(places)
    assert dataset.metainfo['classes'] == ('7', '17', '27', '37')
    for sample, place in zip(dataset, places, strict=True):
        assert (sample['img'] == images[place]).all()
        assert sample['gt_label'] == place // 3
        assert sample['identity'] == str(10 * (place // 3) + 7)
        assert sample['landmarks'].ravel().tolist() == [value + place for value in FIVE]
    assert AlignFace()(dataset[0])['img'].shape == (112, 112, 3)
    assert 'landmarks' not in CelebA(celeba)[0]


def test_celeba_labels_count_identities_in_use(celeba):
    with open(f'{celeba}/list_eval_partition.txt', 'w') as file:
        file.writelines(f'{i:06d}.jpg {int(i > 6)}\n' for i in range(1, 13))
    dataset = CelebA(celeba, 'val')
    assert dataset.get_gt_labels().tolist() == [0] * 3 + [1] * 3
    assert dataset.metainfo['classes'] == ('27', '37')
    with pytest.raises(ValueError, match=r"celeba has no image of split 'test'"):
        CelebA(celeba, 'test')


@pytest.mark.parametrize(('benchmark', 'names'), [('ijbb', ('S1', 'S2')), ('ijbc', ('G1', 'G2'))])
def test_ijb(tmp_path, faces, benchmark, names):
    writers.ijb(tmp_path / 'ijb', faces, benchmark)
    dataset = IJB(str(tmp_path / 'ijb'), benchmark, pipeline=[LoadImageFromFile()])
    # Templates 11, 12, 21, 22, 31, 32, 41, 42 of people 1 to 4, of one and of two images.
    assert dataset.get_gt_labels().tolist() == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7]
    for sample, image in zip(dataset, itertools.chain(*faces.values()), strict=True):
        assert (sample['img'] == image).all()
        assert sample['landmarks'].ravel().tolist() == list(FIVE)
    templates = dataset.metainfo['templates']
    assert templates.template.tolist() == dataset.get_gt_labels().tolist()
    assert templates.media.tolist() == [100 + number // 2 for number in range(1, 13)]
    np.testing.assert_allclose(templates.detection_score, np.arange(1, 13) / 100, rtol=1e-6)
    pairs = templates.pairs
    assert pairs.indices.tolist() == [list(two) for two in itertools.combinations(range(8), 2)]
    assert pairs.is_same.tolist() == [i // 2 == j // 2 for i, j in pairs.indices.tolist()]
    assert set(pairs.folds.tolist()) == {0}
    found = {
        name: (places.tolist(), subjects.tolist())
        for name, (places, subjects) in templates.galleries.items()
    }
    assert found == {names[0]: ([0, 2], [1001, 1002]), names[1]: ([4, 6], [1003, 1004])}
    assert [part.tolist() for part in templates.probes] == [[1, 3, 5, 7], [1001, 1002, 1003, 1004]]


@pytest.mark.parametrize(
    ('protocol', 'unneeded'), [('1:1', '1N_*.csv'), ('1:N', '*_template_pair_label.txt')]
)
def test_one_protocol_of_ijb(tmp_path, faces, protocol, unneeded):
    writers.ijb(tmp_path, faces)
    for path in (tmp_path / 'meta').glob(unneeded):
        path.unlink()
    templates = IJB(str(tmp_path), protocols=(protocol,)).metainfo['templates']
    assert (templates.pairs is None) == (protocol == '1:N')
    assert (templates.galleries is None) == (templates.probes is None) == (protocol == '1:1')


def test_verification_sets(tmp_path, lfw):
    path = writers.write_bin(tmp_path / 'cfp.bin', (list(map(tiny, (1, 2, 3, 1))), ANSWERS))
    sets = dict(
        lfw=dict(type='mmarcface.LFW', data_root=lfw),
        cfp=dict(type='mmarcface.VerificationBin', path=path, num_folds=2),
    )
    dataset = VerificationSets(sets, pipeline=[LoadImageFromFile()])
    assert len(dataset) == 10 + 3
    assert sorted(set(dataset.get_gt_labels().tolist())) == list(range(6))
    assert dataset.get_gt_labels()[10:].tolist() == [4, 4, 5]
    pairs = dataset.metainfo['pairs']
    assert list(pairs) == ['lfw', 'cfp']
    own = LFW(lfw).metainfo['pairs']
    assert (pairs['lfw'].indices == own.indices).all()
    assert pairs['cfp'].indices.tolist() == [[10, 11], [12, 10]]
    assert pairs['cfp'].folds.tolist() == [0, 1]
    assert (dataset[12]['img'] == 3).all()
    with pytest.raises(ValueError, match=r"sets\['a'\] must be .* with pairs.* got IdentityFolder"):
        VerificationSets(dict(a=dict(type='mmarcface.IdentityFolder', data_root=f'{lfw}/lfw')))
    with pytest.raises(ValueError, match='got none'):
        VerificationSets({})


def test_probes_and_gallery(tmp_path):
    for name in ('probes/a/1', 'probes/b/1', 'gallery/b/2', 'gallery/c/1', 'others/a/1'):
        writers.save(tmp_path / f'{name}.png', tiny(len(name)))
    folders = {
        name: dict(type='mmarcface.IdentityFolder', data_root=str(tmp_path / name))
        for name in ('probes', 'gallery', 'others')
    }
    probes, gallery, others = folders.values()

    def found(**parts):
        dataset = ProbesAndGallery(**parts, pipeline=[LoadImageFromFile()])
        assert all(sample['img'].shape == (6, 5, 3) for sample in dataset)
        return [(sample['role'][0], sample['gt_label']) for sample in dataset]

    # A distractor is nobody's mate, whatever its name.
    searched = [('q', 0), ('q', 1), ('g', 1), ('g', 2)]
    assert found(probes=probes, gallery=gallery) == searched
    assert found(probes=probes, gallery=gallery, distractors=others) == [*searched, ('g', 3)]
    assert found(probes=probes, distractors=others) == [('q', 0), ('q', 1), ('g', 2)]
    with pytest.raises(ValueError, match='gallery or distractors must be given'):
        ProbesAndGallery(probes)
    assert IdentityFolder(probes['data_root']).metainfo['classes'] == ('a', 'b')


def test_identities_of_records_are_known_by_their_numbers(tmp_path):
    parts = {}
    for name, people in dict(probes=(5, 6), gallery=(6, 7)).items():
        records = writers.insightface({person: [tiny(person)] for person in people})
        path = writers.write_rec(tmp_path / f'{name}.rec', records)
        parts[name] = dict(type='mmarcface.IdentityRecords', path=path)
    assert ProbesAndGallery(**parts).get_gt_labels().tolist() == [0, 1, 1, 2]
    pairs = writers.write_bin(tmp_path / 'a.bin', ([b'1', b'2'], [True]))
    nameless = dict(type='mmarcface.VerificationBin', path=str(pairs))
    with pytest.raises(ValueError, match=r'gallery must be .* names identities.*VerificationBin'):
        ProbesAndGallery(parts['probes'], nameless)
    assert len(ProbesAndGallery(**parts, distractors=nameless)) == 6


def test_sets_of_real_photographs_are_read_through_every_container(tmp_path, lfw, faces):
    # The same image from a tree, a .bin and a .rec file.
    image = faces['s1'][0]
    path = writers.write_bin(tmp_path / 'a.bin', ([png(image)] * 2, [True]))
    rec = writers.write_rec(tmp_path / 'a.rec', writers.insightface({5: [png(image)]}))
    for where in (f'{lfw}/lfw/s1/s1_0001.jpg', f'bin://{path}#1', f'rec://{rec}#1'):
        sample = LoadImageFromFile()(dict(img_path=where))
        assert (sample['img'] == image).all()
        assert (cv2.imdecode(as_array(mmengine.fileio.get(where)), 1) == image).all()
