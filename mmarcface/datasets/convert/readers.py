"""Reading a source, whatever its format."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from mmpretrain.datasets import BaseDataset

from mmarcface.datasets.celeba import CelebA
from mmarcface.datasets.formats.pairs import ListedPair, read_pairs
from mmarcface.datasets.identity_folder import UNFINISHED, IdentityFolder
from mmarcface.datasets.identity_records import IdentityRecords
from mmarcface.datasets.labels import labels_of
from mmarcface.datasets.verification_bin import VerificationBin

from .folds import NUM_FOLDS, split_into_folds
from .source import Face, Source

# No workers share what is read here once.
IN_PROCESS = dict(serialize_data=False)


def refuse_nested(source: str | Path, target: str | Path) -> None:
    """Refuse to write into the folder that is read.

    Args:
        source: file or folder to convert.
        target: file or folder to write.

    Raises:
        ValueError: if the target is the source, or a folder in it.
    """
    one, other = Path(source).resolve(), Path(target).resolve()
    is_folder = other.suffix not in ('.rec', '.bin')
    if one == other or (is_folder and one in other.parents):
        raise ValueError(
            f'the target must lie outside of the source, got {target} in {source}: name a folder '
            'beside it'
        )


def open_source(path: str | Path) -> Source:
    """Recognize the format of a source, and list its images and pairs.

    A ``.bin`` does not say how many folds its pairs have. It is split into ten, or into as many
    folds as there are pairs of the rarer kind; see :func:`with_pairs`.

    Args:
        path: path of a ``.rec`` or ``.bin`` file, or of a folder: LFW (with ``pairs.txt`` in it),
            CelebA (with ``identity_CelebA.txt``), or one folder for each identity.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if the source is damaged or not complete.
    """
    path = Path(path)
    if (path / UNFINISHED).exists():
        raise ValueError(f'{path} is not complete: repeat the conversion that was to write it')
    if path.suffix == '.rec':
        return _list(IdentityRecords(str(path)))
    if path.suffix == '.bin':
        source = _list(VerificationBin(str(path), num_folds=1, **IN_PROCESS))
        same = sum(pair.is_same for pair in source.pairs)
        return split_into_folds(source, max(1, min(NUM_FOLDS, same, len(source.pairs) - same)))
    if (path / 'pairs.txt').is_file():
        return _list_lfw(path)
    if (path / 'identity_CelebA.txt').is_file():
        return _list(CelebA(str(path), **IN_PROCESS))
    if path.is_dir():
        return _list(IdentityFolder(str(path), **IN_PROCESS))
    raise FileNotFoundError(f'{path} does not exist: name a .rec or .bin file, or a folder')


def _list(dataset: BaseDataset) -> Source:
    faces, numbers = [], Counter()
    # Numbers in place of names are padded, so that folders of that name keep their order.
    classes = dataset.CLASSES or [str(label) for label in range(1 + labels_of(dataset).max())]
    width = max(map(len, classes))
    for info in map(dataset.get_data_info, range(len(dataset))):
        identity = info.get('identity', classes[info['gt_label']].zfill(width))
        numbers[identity] += 1
        faces.append(Face(info['img_path'], identity, numbers[identity]))
    pairs, listed = dataset.metainfo.get('pairs'), None
    if pairs is not None:
        listed = []
        for place, ((i, j), same) in enumerate(zip(pairs.indices, pairs.is_same, strict=True)):
            first, second = ((faces[k].identity, faces[k].number) for k in (i, j))
            if (first[0] == second[0]) != same:
                raise ValueError(
                    f'pair {place} is marked as two identities, but other pairs say that its '
                    f'images {faces[i].path} and {faces[j].path} show one: a mark is wrong, or '
                    'two identities share a copy of one image'
                )
            listed.append(ListedPair(0, first, second, 0))
    order = {name: place for place, name in enumerate(numbers)}
    faces.sort(key=lambda face: order[face.identity])
    return Source(faces, listed, 1)


def _list_lfw(path: Path) -> Source:
    """List all images of LFW, with the numbers in their names, and the pairs of View 2."""
    faces = []
    for face in _list(IdentityFolder(str(path / 'lfw'), **IN_PROCESS)).faces:
        name = re.fullmatch(rf'{re.escape(face.identity)}_(\d{{4,}})', Path(face.path).stem)
        if name is None:
            raise ValueError(
                f'{face.path} must be named as LFW does, {face.identity}_0001 and so on'
            )
        faces.append(replace(face, number=int(name[1])))
    known = {(face.identity, face.number) for face in faces}
    pairs = read_pairs(path / 'pairs.txt')
    for pair in pairs:
        for name, number in {pair.first, pair.second} - known:
            raise FileNotFoundError(
                f'{path / "pairs.txt"}:{pair.line}: image {number} of {name} does not exist'
            )
    return Source(faces, pairs, 1 + pairs[-1].fold)
