"""Face data sets from one format into another, checked afterwards."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from mmengine import fileio
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset
from rich.progress import track

from mmarcface.atomic_files import replacing
from mmarcface.functional.verification import consecutive_folds

from .celeba import CelebA
from .formats.bin_file import BinFile, write_bin
from .formats.image_files import can_be_read, extension_of
from .formats.pairs import ListedPair, make_pairs, read_pairs, write_pairs, write_people
from .formats.recordio import RecordFile, RecordWriter
from .identity_folder import UNFINISHED, IdentityFolder
from .identity_records import IdentityRecords
from .labels import labels_of
from .lfw import LFW
from .verification_bin import VerificationBin

# LFW's, and the number that readers of .bin files take where they are told no other.
NUM_FOLDS = 10
# No workers share what is read here once.
ONCE = dict(serialize_data=False)


@dataclass(frozen=True, slots=True)
class Face:
    """An image of a source.

    Attributes:
        path: path of the image, also inside a larger file.
        identity: name of the identity.
        number: among the images of the identity, from 1 on.
    """

    path: str
    identity: str
    number: int

    def read(self) -> bytes:
        """The encoded image."""
        return fileio.get(self.path)


@dataclass
class Source:
    """A data set to convert.

    Attributes:
        faces: all images, those of an identity after each other.
        pairs: pairs as a pairs file lists them, by fold; None where the source has none.
        num_folds: number of folds of the pairs.
    """

    faces: list[Face]
    pairs: list[ListedPair] | None
    num_folds: int

    @property
    def images_of(self) -> dict[str, int]:
        """Number of images of each identity."""
        return Counter(face.identity for face in self.faces)


def refuse_nested(source: str | Path, target: str | Path) -> None:
    """See that folders that are written do not become part of what is read.

    Args:
        source: a file or folder.
        target: the folder, or a ``.rec`` or ``.bin`` file.

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
    """Find out what a source is, and list it.

    A ``.bin`` does not say how many folds its pairs have. They are shared out among ten, or as many
    as there are pairs of each kind, see :func:`with_pairs`.

    Args:
        path: a ``.rec`` or ``.bin`` file, or a folder: of LFW (with ``pairs.txt`` in it), of
            CelebA (with ``identity_CelebA.txt``), or with one folder for each identity.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is damaged; see the data sets.
    """
    path = Path(path)
    if (path / UNFINISHED).exists():
        raise ValueError(f'{path} is not complete: convert again what was to be written there')
    if path.suffix == '.rec':
        return _list(IdentityRecords(str(path)))
    if path.suffix == '.bin':
        source = _list(VerificationBin(str(path), num_folds=1, **ONCE))
        same = sum(pair.is_same for pair in source.pairs)
        return _fold(source, max(1, min(NUM_FOLDS, same, len(source.pairs) - same)))
    if (path / 'pairs.txt').is_file():
        return _list_lfw(path)
    if (path / 'identity_CelebA.txt').is_file():
        return _list(CelebA(str(path), **ONCE))
    if path.is_dir():
        return _list(IdentityFolder(str(path), **ONCE))
    raise FileNotFoundError(f'{path} does not exist: name a .rec or .bin file, or a folder')


def _list(dataset: BaseDataset) -> Source:
    faces, numbers = [], Counter()
    # Where there are no names but numbers, these keep their order as names of folders.
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
                    f'pair {place} must be of two identities, and other pairs say that its images '
                    f'{faces[i].path} and {faces[j].path} are of one: an answer is wrong, or '
                    'different people share a copy of one image'
                )
            listed.append(ListedPair(0, first, second, 0))
    order = {name: place for place, name in enumerate(numbers)}
    faces.sort(key=lambda face: order[face.identity])
    return Source(faces, listed, 1)


def _list_lfw(path: Path) -> Source:
    """All images of LFW, with the numbers in their names, and the pairs of View 2."""
    faces = []
    for face in _list(IdentityFolder(str(path / 'lfw'), **ONCE)).faces:
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


def to_records(source: Source, path: str | Path) -> str:
    """Write a ``.rec`` and ``.idx`` file in the layout of insightface.

    What an interrupted call has written is kept, and a finished file only checked. Image bytes
    stay as they are. Records 1 to N are images with the number of their identity, then one record
    for each identity with the range of its images, and record 0 tells where these are.

    Args:
        source: source to convert.
        path: the ``.rec`` file.

    Returns:
        How the result is read, as Python.

    Raises:
        ValueError: if an image is none, or what is there afterwards is not what the source has.
    """
    path = _named(path, '.rec')
    labels = {name: label for label, name in enumerate(source.images_of)}
    if not path.is_file():
        writer = RecordWriter(path)
        done = len(writer.keys)
        for key, face in _progress(source.faces, 'Writing', done):
            content, _ = _read(face)
            writer.write(key, (labels[face.identity],), content)
        number, start = len(source.faces), 1
        records = []
        for key, count in enumerate(source.images_of.values(), number + 1):
            records.append((key, (start, start + count)))
            start += count
        records.append((0, (number + 1, number + 1 + len(labels))))
        for key, ends in records[max(0, done - number) :]:
            writer.write(key, ends, b'')
        writer.finish()
        try:
            _check_records(source, path, labels)
        except ValueError as error:
            # What is wrong is not to be taken for finished.
            os.replace(path, writer.partial)
            path.with_suffix('.idx').unlink()
            raise ValueError(f'{error} (it is {writer.partial} now)') from None
    else:
        _check_records(source, path, labels)
    return f'IdentityRecords({str(path)!r})'


def _check_records(source: Source, path: Path, labels: dict[str, int]) -> None:
    written = RecordFile(path)
    _compare(path, len(written.keys), 1 + len(source.faces) + len(labels))
    for key, face in _progress(source.faces, 'Checking'):
        record = written.read(key)
        if record.labels != (labels[face.identity],) or record.image != face.read():
            raise _differs(f'record {key} of {path}', face)
    _compare(path, len(IdentityRecords(str(path))), len(source.faces))


def to_folder(source: Source, path: str | Path) -> str:
    """Write a folder for each identity, in it ``0001.jpg`` and so on.

    Files that are there already, of an interrupted call, are checked like all others. Names end as
    the format of an image says, whatever its name said before.

    Args:
        source: source to convert.
        path: the folder.

    Returns:
        See :func:`to_records`.

    Raises:
        ValueError: see :func:`to_records`.
    """
    marker = Path(path, UNFINISHED)
    _write_files(source, Path(path), '{0.identity}/{0.number:04d}'.format, marker)
    with _finished(marker):
        _compare(path, len(IdentityFolder(str(path), **ONCE)), len(source.faces))
    return f'IdentityFolder({str(path)!r})'


def to_lfw(source: Source, path: str | Path) -> str:
    """Write images and lists as LFW has them: ``lfw/``, ``pairs.txt`` and ``people.txt``.

    Args:
        source: source to convert, with pairs.
        path: the folder.

    Returns:
        See :func:`to_records`.

    Raises:
        ValueError: if the images are not all of one format, a fold has not equally many pairs of
            each kind, as ``pairs.txt`` needs it, or see :func:`to_folder`.
    """
    path = Path(path)
    pairs = _sorted_pairs(source)
    names = '{0.identity}/{0.identity}_{0.number:04d}'
    marker = path / UNFINISHED
    examples = _write_files(source, path / 'lfw', names.format, marker)
    if len(examples) > 1:
        raise ValueError(
            'LFW has images of one format, and the source has several, such as '
            f'{" and ".join(examples.values())}: leave out or change those of one'
        )
    # Those of a finished conversion stay; an interrupted one has not written them.
    if (path / 'pairs.txt').exists():
        there = [(p.first, p.second, p.fold) for p in read_pairs(path / 'pairs.txt')]
        _compare(path / 'pairs.txt', there, [(p.first, p.second, p.fold) for p in pairs])
    write_pairs(path / 'pairs.txt', pairs, source.num_folds)
    write_people(path / 'people.txt', source.images_of)
    (extension,) = examples
    _compare(path, len(LFW(str(path), 'people', extension=extension, **ONCE)), len(source.faces))
    again = LFW(str(path), extension=extension, **ONCE).metainfo['pairs']
    _compare(path, again.is_same.tolist(), [pair.is_same for pair in pairs])
    _compare(path, again.folds.tolist(), [pair.fold for pair in pairs])
    with _finished(marker):
        _compare(path, len(open_source(path).faces), len(source.faces))
    told = '' if extension == '.jpg' else f", extension='{extension}'"
    return f'LFW({str(path)!r}{told})'


def to_bin(source: Source, path: str | Path) -> str:
    """Write a ``.bin`` file of the source's pairs, with each image as often as it is in pairs.

    The file does not say which pairs are a fold; readers cut it into folds of consecutive pairs.
    Within each fold of the source both kinds of pairs take turns, so that folds of any number have
    both, and those of the source's number are the source's.

    Args:
        source: source to convert, with pairs.
        path: the file; it is written whole, from memory.

    Returns:
        See :func:`to_records`.

    Raises:
        ValueError: see :func:`to_records`.
    """
    path = _named(path, '.bin')
    faces = {(face.identity, face.number): face for face in source.faces}
    pairs = _taking_turns(source.pairs)
    wanted = [faces[image] for pair in pairs for image in (pair.first, pair.second)]
    is_same = [pair.is_same for pair in pairs]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        images = []
        for _, face in _progress(wanted, 'Reading'):
            images.append(_read(face)[0])
        with replacing(path) as partial:
            write_bin(partial, images, is_same)
    written = BinFile(path)
    _compare(path, written.is_same, is_same)
    for place, face in _progress(wanted, 'Checking'):
        if written.images[place - 1] != face.read():
            raise _differs(f'image {place - 1} of {path}', face)
    again = VerificationBin(str(path), num_folds=source.num_folds, **ONCE).metainfo['pairs']
    _compare(path, again.folds.tolist(), [pair.fold for pair in pairs])
    told = '' if source.num_folds == NUM_FOLDS else f', num_folds={source.num_folds}'
    return f'VerificationBin({str(path)!r}{told})'


def with_pairs(
    source: Source, num_folds: int | None, number: int | None, seed: int | None
) -> Source:
    """The same source with pairs: its own, or drawn where it has none.

    Args:
        source: source to convert.
        num_folds: folds to draw, 10 by default; or to share the source's own pairs out among, in
            their order and in each fold equally many of each kind, by default as many as it has.
            A warning in the log says how many identities are then in several folds.
        number: pairs of each kind in a fold; 300 by default.
        seed: seed of the draws; 0 by default.

    Raises:
        ValueError: if there are too few images or pairs for that, or pairs are to be drawn for a
            source that has some.
    """
    if source.pairs is None:
        num_folds, number = num_folds or NUM_FOLDS, number or 300
        pairs = make_pairs(source.images_of, num_folds, number, seed or 0)
        return replace(source, pairs=pairs, num_folds=num_folds)
    for name, value in dict(pairs=number, seed=seed).items():
        if value is not None:
            raise ValueError(
                f'{name} must be left out for a source with pairs, such as this one with '
                f'{len(source.pairs)}, as none are drawn; got {value}'
            )
    source = source if num_folds is None else _fold(source, num_folds)
    folds = {(name, pair.fold) for pair in source.pairs for name, _ in (pair.first, pair.second)}
    shared = [name for name, count in Counter(name for name, _ in folds).items() if count > 1]
    if shared:
        print_log(
            f'{len(shared)} identities are in several of the {source.num_folds} folds, such as '
            f'{shared[0]}: thresholds are then tested on people that they were chosen on',
            'current',
            logging.WARNING,
        )
    return source


def _fold(source: Source, num_folds: int) -> Source:
    """The same source, its pairs shared out among folds as readers of a ``.bin`` cut it."""
    same = sum(pair.is_same for pair in source.pairs)
    most = max(1, min(same, len(source.pairs) - same))
    if num_folds > most:
        raise ValueError(
            f'folds must have pairs of both kinds in each, and the source has {same} of the same '
            f'identity and {len(source.pairs) - same} of different ones: at most {most}, got '
            f'{num_folds}'
        )
    pairs = _taking_turns([replace(pair, fold=0) for pair in source.pairs])
    folds = consecutive_folds(len(pairs), num_folds).tolist()
    pairs = [replace(pair, fold=fold) for pair, fold in zip(pairs, folds, strict=True)]
    return replace(source, pairs=pairs, num_folds=num_folds)


def _taking_turns(pairs: Sequence[ListedPair]) -> list[ListedPair]:
    """Pairs by fold, in each both kinds spread evenly; those of a kind keep their order."""
    counts = Counter((pair.fold, pair.is_same) for pair in pairs)
    seen, places = Counter(), []
    for pair in pairs:
        kind = pair.fold, pair.is_same
        places.append((pair.fold, (seen[kind] + 0.5) / counts[kind], not pair.is_same))
        seen[kind] += 1
    order = sorted(range(len(pairs)), key=places.__getitem__)
    return [pairs[place] for place in order]


def _sorted_pairs(source: Source) -> list[ListedPair]:
    """Pairs as ``pairs.txt`` wants them: in each fold those of one identity first, equally many."""
    pairs = sorted(source.pairs, key=lambda pair: (pair.fold, not pair.is_same))
    counts = Counter((pair.fold, pair.is_same) for pair in pairs)
    if len(set(counts.values())) > 1 or len(counts) != 2 * source.num_folds:
        raise ValueError(
            'pairs.txt needs equally many pairs of each kind in every fold; the source has '
            + ', '.join(
                f'{counts[fold, True]} + {counts[fold, False]}' for fold in range(source.num_folds)
            )
            + _folds_that_do(source.pairs)
        )
    return pairs


def _folds_that_do(pairs: Sequence[ListedPair]) -> str:
    same = sum(pair.is_same for pair in pairs)
    if 2 * same != len(pairs):
        return ': write a .bin instead'
    numbers = [str(number) for number in range(1, 21) if same % number == 0]
    return f': give --folds {" or ".join(numbers)}'


@contextmanager
def _finished(marker: Path) -> Iterator[None]:
    """Take the marker of an unfinished folder away for a last check."""
    marker.unlink()
    try:
        yield
    except ValueError:
        marker.touch()
        raise


def _named(path: str | Path, suffix: str) -> Path:
    if Path(path).suffix != suffix:
        raise ValueError(f'the target must be named *{suffix}, got {path}')
    return Path(path)


def _write_files(
    source: Source, folder: Path, name_of: Callable[[Face], str], marker: Path
) -> dict[str, str]:
    """Write images that are not there yet, and check all; gives an example of each extension.

    The marker says that the whole is not written yet, so that nobody takes the part for it.
    """
    stems = {name_of(face) for face in source.faces}
    _refuse_others(folder, lambda file: os.path.splitext(file)[0] in stems)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    extensions = {}
    for _, face in _progress(source.faces, 'Writing'):
        content, extension = _read(face)
        extensions.setdefault(extension, face.path)
        file = folder / f'{name_of(face)}{extension}'
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            # All are compared with the source below, and waiting for the disk would take longer
            # than converting.
            with replacing(file, sync=False) as partial:
                partial.write_bytes(content)
    wanted = set()
    for _, face in _progress(source.faces, 'Checking'):
        content = face.read()
        name = f'{name_of(face)}{extension_of(content)}'
        wanted.add(name)
        if (folder / name).read_bytes() != content:
            raise _differs(str(folder / name), face)
    _refuse_others(folder, wanted.__contains__)
    return extensions


def _refuse_others(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Refuse files that are none of the source's, but for what an interrupted call left."""
    there = (os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)
    files = (os.path.relpath(file, folder) for file in there)
    extra = sorted(
        file
        for file in files
        if not is_ours(file) and file != UNFINISHED and not file.endswith('.partial')
    )
    if extra:
        raise ValueError(
            f'{folder} must hold the images of the source alone, and has {len(extra)} other files, '
            f'such as {extra[0]}: remove them or choose another folder'
        )


def _read(face: Face) -> tuple[bytes, str]:
    """An encoded image, and the ending for its name; refuses what cannot be read again."""
    content = face.read()
    extension = extension_of(content)
    if extension is None or not can_be_read(content):
        raise ValueError(
            f'image {face.path} of {face.identity} cannot be read: it is damaged, not an image or '
            'of a kind that OpenCV does not read; replace it or leave it out of the source'
        )
    return content, extension


def _progress(faces: Sequence[Face], description: str, done: int = 0) -> Iterator[tuple[int, Face]]:
    """Faces that are not done yet, counted from 1 on."""
    left = islice(enumerate(faces, 1), done, None)
    return iter(track(left, description, total=max(0, len(faces) - done)))


def _compare(path: Path, found: object, wanted: object) -> None:
    if found != wanted:
        numbers = f' ({found} for {wanted})' if isinstance(found, int) else ''
        raise ValueError(
            f'{path} does not hold what the source has{numbers}; it is of another source or '
            'damaged: remove it and convert again'
        )


def _differs(what: str, face: Face) -> ValueError:
    return ValueError(
        f'{what} is not image {face.number} of {face.identity} ({face.path}): it is of another '
        'source or damaged; remove it and convert again'
    )
