"""Data sets through tools/convert.py: what comes out is what went in."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from mmarcface.apis import convert
from mmarcface.datasets import (
    LFW,
    IdentityFolder,
    IdentityRecords,
    LoadImageFromFile,
    VerificationBin,
)
from mmarcface.datasets.recordio import RecordFile, RecordWriter
from mmarcface.evaluation import VerificationMetric
from mmarcface.models import EmbeddingRetriever, IResNet
from tests.evaluation.test_metrics import evaluate

LOAD = [LoadImageFromFile()]


@pytest.fixture
def faces(orl, tmp_path):
    """ORL people s1 .. s12 as JPEG files, a folder each."""
    for person in range(1, 13):
        for path in sorted((orl / f's{person}').glob('*.pgm')):
            target = tmp_path / 'faces' / f's{person:02}' / f'{path.stem}.jpg'
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), cv2.imread(str(path)))
    return tmp_path / 'faces'


def pixels_and_labels(dataset):
    return [(sample['img'].tobytes(), sample['gt_label']) for sample in dataset]


def test_orl_through_records_and_back(run_tool, orl, tmp_path):
    people = tmp_path / 'orl'
    for person in range(1, 41):
        # The package brings a stray JPEG along.
        stray = shutil.ignore_patterns('*.jpg')
        shutil.copytree(orl / f's{person}', people / f's{person:02}', ignore=stray)
    run_tool('convert.py', 'rec', people, tmp_path / 'orl.rec')
    source = IdentityFolder(str(people), pipeline=LOAD)
    records = IdentityRecords(str(tmp_path / 'orl.rec'), pipeline=LOAD)
    assert len(records) == len(source)
    assert pixels_and_labels(records) == pixels_and_labels(source)
    run_tool('convert.py', 'folder', tmp_path / 'orl.rec', tmp_path / 'again')
    again = IdentityFolder(str(tmp_path / 'again'), pipeline=LOAD)
    # Numbers keep their order as names.
    assert again.metainfo['classes'] == tuple(f'{label:02}' for label in range(40))
    assert pixels_and_labels(again) == pixels_and_labels(source)


def similarity_of_pixels(dataset):
    """Samples as of a model whose embedding is the pixels less their mean."""
    samples = []
    for place, sample in enumerate(dataset):
        pixels = torch.from_numpy(sample['img'].astype(np.float32)).flatten()
        label = torch.tensor([sample['gt_label']])
        samples.append(dict(embedding=pixels - pixels.mean(), gt_label=label, sample_idx=place))
    return samples


def figures(dataset):
    metric = VerificationMetric()
    metric.dataset_meta = dataset.metainfo
    return evaluate(metric, similarity_of_pixels(dataset))


def test_bin_has_the_figures_of_folder_and_pairs(run_tool, faces, tmp_path):
    run_tool('convert.py', 'lfw', faces, tmp_path / 'lfw', '--folds', '4', '--pairs', '20')
    run_tool('convert.py', 'bin', tmp_path / 'lfw', tmp_path / 'lfw.bin')
    listed = LFW(str(tmp_path / 'lfw'), pipeline=LOAD)
    packed = VerificationBin(str(tmp_path / 'lfw.bin'), num_folds=4, pipeline=LOAD)
    # 160 pairs are 320 images, most of them in several pairs.
    assert len(packed) == len(listed) < 120
    assert len(listed.metainfo['pairs'].is_same) == 160
    assert figures(packed) == pytest.approx(figures(listed), abs=1e-9)
    run_tool('convert.py', 'bin', faces, tmp_path / 'drawn.bin', '--folds', '4', '--pairs', '20')
    assert (tmp_path / 'drawn.bin').read_bytes() == (tmp_path / 'lfw.bin').read_bytes()


def test_all_of_lfw_goes_along(run_tool, faces, tmp_path):
    """Images that are in no pair too, under their own numbers."""
    run_tool('convert.py', 'lfw', faces, tmp_path / 'lfw', '--folds', '2', '--pairs', '5')
    lists = tmp_path / 'lfw' / 'pairs.txt'
    lists.write_text('1\t1\ns01\t4\t7\ns02\t7\ts03\t9\n')
    source = convert.open_source(tmp_path / 'lfw')
    assert len(source.faces) == 120
    convert.to_lfw(source, tmp_path / 'again')
    assert (tmp_path / 'again' / 'pairs.txt').read_text() == lists.read_text()
    for path in (tmp_path / 'lfw' / 'lfw').rglob('*.jpg'):
        again = tmp_path / 'again' / path.relative_to(tmp_path / 'lfw')
        assert again.read_bytes() == path.read_bytes()
    (tmp_path / 'lfw' / 'lfw' / 's02' / 's02_0007.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'pairs.txt:3: image 7 of s02 does not exist'):
        convert.open_source(tmp_path / 'lfw')


def test_people_keep_names_that_are_numbers(faces, tmp_path):
    for old, new in (('s01', '7'), ('s02', '07'), ('s03', '10')):
        (faces / old).rename(faces / new)
    names = {path.name for path in faces.iterdir()}
    convert.to_lfw(convert.with_pairs(convert.open_source(faces), 1, 9, seed=0), tmp_path / 'lfw')
    convert.to_folder(convert.open_source(tmp_path / 'lfw'), tmp_path / 'again')
    assert {path.name for path in (tmp_path / 'again').iterdir()} == names


def test_pairs_that_pairs_txt_cannot_hold(faces, tmp_path):
    source = convert.with_pairs(convert.open_source(faces), 2, 10, seed=0)
    source.pairs.pop()
    with pytest.raises(ValueError, match=r'equally many pairs .* the source has 10 \+ 10, 10 \+ 9'):
        convert.to_lfw(source, tmp_path / 'lfw')
    with pytest.raises(ValueError, match=r'fold 1 of 6 has 2 identities with 20 images: 90 pairs'):
        convert.with_pairs(convert.open_source(faces), 6, 91, seed=0)


def test_interrupted_records_go_on(faces, tmp_path, monkeypatch):
    source = convert.open_source(faces)
    convert.to_records(source, tmp_path / 'whole.rec')
    write, left = RecordWriter.write, 50

    def fail(writer, *record):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(writer, *record)

    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, 'write', fail)
        with pytest.raises(KeyboardInterrupt):
            convert.to_records(source, tmp_path / 'broken.rec')
    assert not (tmp_path / 'broken.rec').exists()
    convert.to_records(source, tmp_path / 'broken.rec')
    for suffix in ('.rec', '.idx'):
        whole, broken = ((tmp_path / f'{n}{suffix}').read_bytes() for n in ('whole', 'broken'))
        assert whole == broken


@pytest.mark.parametrize('write', [convert.to_folder, convert.to_lfw])
def test_a_part_is_not_taken_for_the_whole(faces, tmp_path, write, monkeypatch):
    source = convert.with_pairs(convert.open_source(faces), 1, 9, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(convert, '_extension', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(source, tmp_path / 'part')
    with pytest.raises(ValueError, match=r'part is not complete: convert again'):
        convert.open_source(tmp_path / 'part')
    write(source, tmp_path / 'part')
    assert len(convert.open_source(tmp_path / 'part').faces) == 120
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('')
    convert.to_folder(source, tmp_path / 'faces2')
    with pytest.raises(ValueError, match=r'mine must hold .* such as thesis.txt: remove'):
        convert.to_folder(source, tmp_path / 'mine')
    assert [path.name for path in (tmp_path / 'mine').iterdir()] == ['thesis.txt']


def test_training_on_a_part_is_refused(faces):
    (faces / '.unfinished').touch()
    with pytest.raises(ValueError, match=r'faces is not complete: run the tools/convert.py again'):
        IdentityFolder(str(faces))


def test_images_that_are_cut_short(faces, tmp_path):
    path = faces / 's03' / '4.jpg'
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r'image .*s03/4.jpg of s03 cannot be read'):
        convert.to_records(convert.open_source(faces), tmp_path / 'faces.rec')


def test_wrong_targets_and_pairs(faces, tmp_path, run_tool):
    source = convert.with_pairs(convert.open_source(faces), 2, 9, seed=0)
    with pytest.raises(ValueError, match=r'target must be named \*.rec, got .*faces.txt'):
        convert.to_records(source, tmp_path / 'faces.txt')
    with pytest.raises(ValueError, match=r'folds must be left out for a source with pairs'):
        convert.with_pairs(source, 3, None, None)
    done = run_tool('convert.py', 'bin', faces, tmp_path / 'a.bin', '--pairs', '0', fails=True)
    assert '--pairs: must be at least 1, got 0' in done.output
    cv2.imwrite(str(faces / 's05' / '11.png'), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ValueError, match=r'several, such as .*s01/1.jpg and .*s05/11.png'):
        convert.to_lfw(
            convert.with_pairs(convert.open_source(faces), 2, 9, seed=0), tmp_path / 'lfw'
        )


def test_interrupted_folders_go_on(faces, tmp_path):
    source = convert.open_source(faces)
    convert.to_folder(source, tmp_path / 'copy')
    removed = sorted((tmp_path / 'copy').rglob('*.jpg'))[7:]
    for path in removed:
        path.unlink()
    convert.to_folder(source, tmp_path / 'copy')
    assert all(path.is_file() for path in removed)


def test_what_is_there_is_checked(faces, tmp_path):
    source = convert.open_source(faces)
    convert.to_folder(source, tmp_path / 'copy')
    convert.to_records(source, tmp_path / 'faces.rec')
    others = convert.open_source(faces)
    others.faces[3] = replace(others.faces[3], path=others.faces[4].path)
    message = r'is not image 4 of s01 .*remove it and convert again'
    with pytest.raises(ValueError, match=rf'record 4 of .*faces.rec {message}'):
        convert.to_records(others, tmp_path / 'faces.rec')
    with pytest.raises(ValueError, match=rf'0004.jpg {message}'):
        convert.to_folder(others, tmp_path / 'copy')
    (tmp_path / 'copy' / 'stray.txt').write_text('')
    with pytest.raises(ValueError, match=r'1 other files, such as .*stray.txt'):
        convert.to_folder(source, tmp_path / 'copy')
    (faces / 's01' / '1.jpg').write_text('not an image')
    drawn = convert.with_pairs(source, 1, 500, seed=0)
    for write, name in (
        (convert.to_folder, 'new'),
        (convert.to_records, 'new.rec'),
        (convert.to_bin, 'new.bin'),
        (convert.to_lfw, 'new_lfw'),
    ):
        with pytest.raises(ValueError, match=r's01/1.jpg of s01 cannot be read'):
            write(drawn, tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r'nowhere does not exist: name a .rec'):
        convert.open_source(tmp_path / 'nowhere')


def test_records_are_laid_out_as_insightface_has_them(faces, tmp_path):
    convert.to_records(convert.open_source(faces), tmp_path / 'faces.rec')
    records = RecordFile(tmp_path / 'faces.rec')
    assert records.keys.tolist() == list(range(133))
    assert records.read(0).labels == (121, 133)
    assert records.read(121).labels == (1, 11)
    assert records.read(132).labels == (111, 121)
    assert records.read(11).labels == (1,)


def test_weights_of_insightface(run_tool, tmp_path):
    torch.manual_seed(0)
    net = IResNet(depth=34, embedding_dim=24, input_size=48, base_channels=4).eval()
    torch.save(net.state_dict(), tmp_path / 'backbone.pth')
    done = run_tool('convert.py', 'insightface', tmp_path / 'backbone.pth', tmp_path / 'r34.pth')
    settings = 'depth=34, embedding_dim=24, input_size=48, base_channels=4'
    assert f'r34.pth is for IResNet({settings})' in done.stdout
    encoder = dict(type='IResNet', depth=34, embedding_dim=24, input_size=48, base_channels=4)
    model = EmbeddingRetriever(encoder | dict(type='mmarcface.IResNet')).eval()
    model.load_state_dict(torch.load(tmp_path / 'r34.pth')['state_dict'])
    images = torch.randn(3, 3, 48, 48)
    torch.testing.assert_close(model.embed(images), net(images)[0])
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r"other.pth must hold .* keys are like \['weight'\]"):
        convert.from_insightface(tmp_path / 'other.pth', tmp_path / 'out.pth')
