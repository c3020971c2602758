"""Data sets through tools/convert.py: what comes out is what went in."""

import io
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from mmengine import fileio
from PIL import Image

from mmarcface.datasets import (
    LFW,
    IdentityFolder,
    IdentityRecords,
    LoadImageFromFile,
    VerificationBin,
    convert,
)
from mmarcface.datasets.convert import writers
from mmarcface.datasets.formats.bin_file import BinFile, write_bin
from mmarcface.datasets.formats.recordio import RecordFile, RecordWriter
from mmarcface.evaluation import VerificationMetric
from tests.evaluation.test_metrics import evaluate
from tests.in_process import call_tool

LOAD = [LoadImageFromFile()]
# Serializing collects garbage, each time for longer than a test takes otherwise.
QUICKLY = dict(pipeline=LOAD, serialize_data=False)


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
        patch.setattr(writers, 'read_image', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(source, tmp_path / 'part')
    with pytest.raises(ValueError, match=r'part is not complete: repeat the conversion'):
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
    for name, given in (('pairs', (None, 3, None)), ('seed', (None, None, 3))):
        with pytest.raises(
            ValueError, match=rf'{name} must be left out for a source that has pairs'
        ):
            convert.with_pairs(source, *given)
    with pytest.raises(
        ValueError, match=r'folds must have .* 18 of .* and 18 of .* most 18, got 19'
    ):
        convert.with_pairs(source, 19, None, None)
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


@pytest.fixture
def tool(monkeypatch, capsys):
    """The tool, in this process, for speed; gives what it prints."""

    def call(*words):
        call_tool('convert.py', *words)
        return capsys.readouterr().out

    return call


@pytest.fixture
def of_all_kinds(orl, tmp_path):
    """Two people with an image of each format, and names that say so, do not, or lie."""
    kinds = ['jpg', 'png', 'webp', 'tiff', 'gif', 'bmp', 'jp2', 'avif', 'ppm', 'pam', 'ras', 'hdr']
    for person in ('ann', 'bob'):
        (tmp_path / 'kinds' / person).mkdir(parents=True)
        for number, kind in enumerate(kinds):
            image = cv2.imread(str(orl / 's1' / f'{1 + number % 10}.pgm'))
            image = np.float32(image) / 255 if kind == 'hdr' else image
            content = cv2.imencode(f'.{kind}', image)[1].tobytes()
            name = f'{number}.{kind}' if person == 'ann' else f'{number}'
            (tmp_path / 'kinds' / person / name).write_bytes(content)
            if kind in ('jpg', 'png'):
                lies = f'lies_{number}.bmp' if person == 'ann' else f'lies_{number}.xyz'
                (tmp_path / 'kinds' / person / lies).write_bytes(content)
    return tmp_path / 'kinds'


def contents(source):
    return [(face.identity[-1:], face.read()) for face in source.faces]


def test_every_image_that_is_read_goes_along(of_all_kinds, tmp_path, logged):
    source = convert.open_source(of_all_kinds)
    assert len(source.faces) == 28
    images = [content for _, content in contents(source)]
    place = of_all_kinds
    for write, name in (
        (convert.to_records, 'a.rec'),
        (convert.to_folder, 'b'),
        (convert.to_records, 'c.rec'),
        (convert.to_folder, 'd'),
    ):
        write(convert.open_source(place), tmp_path / name)
        place = tmp_path / name
        again = convert.open_source(place)
        assert [content for _, content in contents(again)] == images
        assert list(again.images_per_identity.values()) == [14, 14]
    assert logged == []
    endings = {path.suffix for path in (tmp_path / 'd').rglob('*.*')}
    assert endings == {
        *('.jpg', '.png', '.webp', '.tif', '.gif', '.bmp', '.jp2', '.avif', '.ppm', '.pam'),
        *('.ras', '.hdr'),
    }
    for sample in IdentityFolder(str(tmp_path / 'd'), **QUICKLY):
        assert sample['img'].shape == (112, 92, 3)


def test_what_is_no_image_is_counted_or_refused(of_all_kinds, tmp_path, logged):
    icon = io.BytesIO()
    Image.new('RGB', (32, 32)).save(icon, 'ICO')
    (of_all_kinds / 'ann' / 'icon.ico').write_bytes(icon.getvalue())
    assert len(convert.open_source(of_all_kinds).faces) == 28
    assert logged == [
        f'{of_all_kinds}: 1 file left out (no image, or not in the folder of an identity), such as '
        'ann/icon.ico'
    ]
    (of_all_kinds / 'ann' / 'icon.ico').rename(of_all_kinds / 'ann' / 'icon.png')
    writer = RecordWriter(tmp_path / 'icon.rec')
    writer.write(0, (0,), icon.getvalue())
    writer.finish()
    for source in (of_all_kinds, tmp_path / 'icon.rec'):
        for write, name in ((convert.to_folder, 'out'), (convert.to_records, 'out.rec')):
            with pytest.raises(ValueError, match=r'icon.* cannot be read: .* OpenCV does not read'):
                write(convert.open_source(source), tmp_path / f'{source.stem}{name}')


def test_written_is_what_is_read_back(faces, tmp_path, monkeypatch):
    """A folder whose reader finds other images than were written is not taken for finished."""
    source = convert.open_source(faces)
    with monkeypatch.context() as patch:
        patch.setattr('mmarcface.datasets.formats.image_files.EXTENSIONS', frozenset())
        patch.setattr('mmarcface.datasets.formats.image_files.FORMATS', {})
        patch.setattr(writers, 'read_image', lambda face: (face.read(), '.jpg'))
        patch.setattr(writers, 'extension_of', lambda content: '.jpg')
        with pytest.raises(ValueError, match='has no image'):
            convert.to_folder(source, tmp_path / 'out')
    with pytest.raises(ValueError, match='out is not complete'):
        convert.open_source(tmp_path / 'out')
    with monkeypatch.context() as patch:
        patch.setattr(writers, 'IdentityFolder', lambda path, **_: range(119))
        with pytest.raises(ValueError, match=r'out does not hold .* \(119 for 120\)'):
            convert.to_folder(source, tmp_path / 'out')
    convert.to_folder(source, tmp_path / 'out')
    assert len(convert.open_source(tmp_path / 'out').faces) == 120


def test_lfw_of_another_format_says_how_it_is_read(faces, tmp_path, tool):
    for path in faces.rglob('*.jpg'):
        cv2.imwrite(str(path.with_suffix('.webp')), cv2.imread(str(path)))
        path.unlink()
    target = tmp_path / 'lfw'
    done = tool('lfw', faces, target, '--folds', '4', '--pairs', '9')
    reader = f"LFW('{target}', extension='.webp')"
    assert f'12 identities, 72 pairs in 4 folds. Read it with {reader}' in done
    assert len(eval(reader).metainfo['pairs'].is_same) == 72
    assert len(convert.open_source(target).faces) == 120


def images_of_folds(dataset):
    """For each fold the photographs in its pairs, which are all different."""
    pairs = dataset.metainfo['pairs']
    return [
        {
            fileio.get(dataset.get_data_info(place)['img_path'])
            for place in pairs.indices[pairs.folds == fold].flat
        }
        for fold in range(1 + pairs.folds.max())
    ]


@pytest.mark.parametrize(('folds', 'number'), [(2, 45), (3, 8), (5, 4)])
def test_any_number_of_folds_has_both_kinds(faces, tmp_path, folds, number):
    source = convert.with_pairs(convert.open_source(faces), folds, number, seed=1)
    told = convert.to_bin(source, tmp_path / 'some.bin')
    assert told == f"VerificationBin('{tmp_path / 'some.bin'}', num_folds={folds})"
    for asked in (*range(2, 11), 20):
        pairs = VerificationBin(str(tmp_path / 'some.bin'), num_folds=asked, **QUICKLY).metainfo[
            'pairs'
        ]
        for fold in range(asked):
            same = pairs.is_same[pairs.folds == fold]
            assert len(same) // 2 <= same.sum() <= -(-len(same) // 2)
    # Those of the writer's number are the folds of the source, without people in common.
    convert.to_lfw(source, tmp_path / 'lfw')
    packed = VerificationBin(str(tmp_path / 'some.bin'), num_folds=folds, **QUICKLY)
    found = images_of_folds(packed)
    assert found == images_of_folds(LFW(str(tmp_path / 'lfw'), **QUICKLY))
    assert sum(map(len, found)) == len(set().union(*found))
    # As insightface has them, in blocks, another number is refused.
    is_same = ([True] * number + [False] * number) * folds
    file = BinFile(tmp_path / 'some.bin')
    write_bin(tmp_path / 'blocks.bin', file.images, is_same)
    VerificationBin(str(tmp_path / 'blocks.bin'), num_folds=folds)
    with pytest.raises(ValueError, match=rf'and both kinds are needed: num_folds={folds} gives ev'):
        VerificationBin(str(tmp_path / 'blocks.bin'), num_folds=2 * folds, **QUICKLY)


def as_blocks(source, path, order):
    """A .bin of a source's pairs, in another order."""
    faces = {(face.identity, face.number): face.read() for face in source.faces}
    pairs = sorted(source.pairs, key=order)
    images = [faces[image] for pair in pairs for image in (pair.first, pair.second)]
    write_bin(path, images, [pair.is_same for pair in pairs])


def test_wrong_folds_of_a_bin(faces, tmp_path, logged, tool):
    source = convert.with_pairs(convert.open_source(faces), 6, 20, seed=0)
    # All of the same identity first, as no number of folds can be.
    path, other = tmp_path / 'sorted.bin', tmp_path / 'other.bin'
    as_blocks(source, path, lambda pair: not pair.is_same)
    with pytest.raises(
        ValueError,
        match=r'sorted.bin: fold 1 of num_folds=6 has 40 pairs .* and 0 of .* are needed: in this '
        rf'order .* python tools/convert.py bin {path} OTHER.bin --folds 6$',
    ):
        VerificationBin(str(path), num_folds=6)
    done = tool('bin', path, other, '--folds', '6')
    assert f"240 pairs in 6 folds. Read it with VerificationBin('{other}', num_folds=6)" in done
    convert.to_bin(source, tmp_path / 'ours.bin')
    assert BinFile(other).images == BinFile(tmp_path / 'ours.bin').images
    # Nothing is alone, and nothing is right either.
    path = tmp_path / 'blocks.bin'
    as_blocks(source, path, lambda pair: (pair.fold, not pair.is_same))
    for asked in (2, 3, 6):
        VerificationBin(str(path), num_folds=asked, **QUICKLY)
    assert logged == []
    for asked, same in ((4, 40), (10, 20)):
        VerificationBin(str(path), num_folds=asked, **QUICKLY)
        assert f'fold 1 of num_folds={asked} has {same} pairs of the same' in logged[-1]
        assert 'num_folds=6 gives every fold both in equal shares' in logged[-1]
    with pytest.raises(ValueError, match='num_folds=6 gives every fold both in equal shares'):
        VerificationBin(str(path), num_folds=12, **QUICKLY)
    # Too few for the folds: the metric refuses them.
    logged.clear()
    few = BinFile(path)
    write_bin(tmp_path / 'few.bin', few.images[:60], few.is_same[:30])
    VerificationBin(str(tmp_path / 'few.bin'), num_folds=20, **QUICKLY)
    assert 'at most 10 folds are possible' in logged[0]


@pytest.mark.parametrize('folds', [0, -1, 2.0, True, '5', None])
def test_folds_that_are_no_number(faces, tmp_path, folds):
    with pytest.raises(
        ValueError, match=r'num_folds must be (at least 1|a whole number of at least 1), got'
    ):
        VerificationBin('lfw.bin', num_folds=folds)


def test_pairs_are_shared_out_among_folds(faces, tmp_path, tool, logged):
    source = convert.with_pairs(convert.open_source(faces), 6, 20, seed=0)
    as_blocks(source, tmp_path / 'blocks.bin', lambda pair: (pair.fold, not pair.is_same))
    convert.to_lfw(source, tmp_path / 'lfw')
    bins, lfw = tmp_path / 'blocks.bin', tmp_path / 'lfw'
    done = tool('bin', bins, tmp_path / 'as_it_is.bin')
    assert 'note: a .bin does not say how many folds it has; 10 are assumed' in done
    assert 'in 10 folds. Read it with VerificationBin' in done
    assert 'num_folds' not in done
    (warning,) = logged
    assert '20 identities are in several of the 10 folds, such as ' in warning
    # Neighbors become one fold.
    three = [images_of_folds(LFW(str(lfw), **QUICKLY))[k : k + 2] for k in (0, 2, 4)]
    three = [one | other for one, other in three]
    for number, origin in enumerate((bins, lfw)):
        tool('lfw', origin, tmp_path / f'three{number}', '--folds', '3')
        tool('bin', origin, tmp_path / f'{number}.bin', '--folds', '3')
        packed = VerificationBin(str(tmp_path / f'{number}.bin'), num_folds=3, **QUICKLY)
        assert images_of_folds(LFW(str(tmp_path / f'three{number}'), **QUICKLY)) == three
        assert images_of_folds(packed) == three
        assert figures(packed)['verification/Accuracy'] == pytest.approx(
            figures(LFW(str(tmp_path / f'three{number}'), **QUICKLY))['verification/Accuracy']
        )
    assert not any('in several' in line for line in logged[1:])
    # Folds of 240 / 4 pairs end in the middle of those of 240 / 6.
    logged.clear()
    convert.with_pairs(convert.open_source(lfw), 4, None, None)
    assert re.fullmatch(r'4 identities are in several of the 4 folds, such as s\d+: .*', logged[0])
    with pytest.raises(
        ValueError, match='give --folds 1 or 2 or 3 or 4 or 5 or 6 or 8 or 10 or 12'
    ):
        tool('lfw', lfw, tmp_path / 'seven', '--folds', '7')
    with pytest.raises(ValueError, match='at most 120, got 121'):
        tool('bin', lfw, tmp_path / 'many.bin', '--folds', '121')


def test_a_target_in_its_source_is_refused(tmp_path, run_tool, few_faces):
    for target in (few_faces, few_faces / 'inside'):
        done = run_tool('convert.py', 'folder', few_faces, target, fails=True)
        assert 'must lie outside of the source' in done.output
    assert len(IdentityFolder(str(few_faces)).CLASSES) == 2


def test_pairs_of_a_finished_target_are_not_replaced(tmp_path, few_faces):
    source = convert.open_source(few_faces)
    convert.to_lfw(convert.with_pairs(source, 1, 2, 0), tmp_path / 'lfw')
    before = (tmp_path / 'lfw' / 'pairs.txt').read_text()
    convert.to_lfw(convert.with_pairs(source, 1, 2, 0), tmp_path / 'lfw')
    with pytest.raises(ValueError, match='does not hold what the source has'):
        convert.to_lfw(convert.with_pairs(source, 1, 2, 1), tmp_path / 'lfw')
    assert (tmp_path / 'lfw' / 'pairs.txt').read_text() == before


def test_records_of_another_source_do_not_look_finished(tmp_path, few_faces, orl):
    path = tmp_path / 'a.rec'
    writer = RecordWriter(path)
    writer.write(1, (0,), (orl / 's9' / '1.pgm').read_bytes())
    writer.file.close()
    with pytest.raises(ValueError, match='it is of another source or damaged'):
        convert.to_records(convert.open_source(few_faces), path)
    assert not path.exists()
    assert not path.with_suffix('.idx').exists()
    path.with_suffix('.rec.partial').unlink()
    convert.to_records(convert.open_source(few_faces), path)
    # One that was finished before stays, whatever it is compared with.
    (few_faces / 's1' / '1.pgm').unlink()
    with pytest.raises(ValueError, match='does not hold what the source has'):
        convert.to_records(convert.open_source(few_faces), path)
    assert path.exists()


@pytest.fixture
def few_faces(tmp_path, orl):
    for person in ('s1', 's2'):
        (tmp_path / 'faces' / person).mkdir(parents=True)
        for number in (1, 2, 3):
            name = f'{person}/{number}.pgm'
            (tmp_path / 'faces' / name).write_bytes((orl / name).read_bytes())
    return tmp_path / 'faces'
