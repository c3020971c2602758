"""Writing a source in each format, and comparing what was written with the source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from rich.progress import track

from mmarcface.atomic_files import replacing
from mmarcface.datasets.formats.bin_file import BinFile, write_bin
from mmarcface.datasets.formats.image_files import extension_of
from mmarcface.datasets.formats.pairs import read_pairs, write_pairs, write_people
from mmarcface.datasets.formats.recordio import RecordFile, RecordWriter
from mmarcface.datasets.identity_folder import UNFINISHED, IdentityFolder
from mmarcface.datasets.identity_records import IdentityRecords
from mmarcface.datasets.lfw import LFW
from mmarcface.datasets.verification_bin import VerificationBin

from .checks import mismatch, read_image, refuse_other_files, require_equal, with_suffix
from .folds import NUM_FOLDS, interleave_kinds, sort_for_pairs_file
from .readers import IN_PROCESS, open_source
from .source import Face, Source


def to_records(source: Source, path: str | Path) -> str:
    """Write a ``.rec`` and ``.idx`` file in the layout of insightface.

    An interrupted call is continued, and a finished file is only compared with the source. Image
    bytes stay as they are. Records 1 to N hold the images, each with the number of its identity.
    One record for each identity follows, with the range of its images; record 0 has the range of
    these.

    Args:
        source: data set to convert.
        path: path of the ``.rec`` file.

    Returns:
        The Python expression that reads the result.

    Raises:
        ValueError: if an image cannot be read, or the result differs from the source.
    """
    path = with_suffix(path, '.rec')
    labels = {name: label for label, name in enumerate(source.images_per_identity)}
    if not path.is_file():
        writer = RecordWriter(path)
        done = len(writer.keys)
        for key, face in _track(source.faces, 'Writing', done):
            content, _ = read_image(face)
            writer.write(key, (labels[face.identity],), content)
        number, start = len(source.faces), 1
        records = []
        for key, count in enumerate(source.images_per_identity.values(), number + 1):
            records.append((key, (start, start + count)))
            start += count
        records.append((0, (number + 1, number + 1 + len(labels))))
        for key, ends in records[max(0, done - number) :]:
            writer.write(key, ends, b'')
        writer.finish()
        try:
            _check_records(source, path, labels)
        except ValueError as error:
            # A wrong file must not be taken for a finished one.
            os.replace(path, writer.partial)
            path.with_suffix('.idx').unlink()
            raise ValueError(f'{error} (it is {writer.partial} now)') from None
    else:
        _check_records(source, path, labels)
    return f'IdentityRecords({str(path)!r})'


def _check_records(source: Source, path: Path, labels: dict[str, int]) -> None:
    written = RecordFile(path)
    require_equal(path, len(written.keys), 1 + len(source.faces) + len(labels))
    for key, face in _track(source.faces, 'Checking'):
        record = written.read(key)
        if record.labels != (labels[face.identity],) or record.image != face.read():
            raise mismatch(f'record {key} of {path}', face)
    require_equal(path, len(IdentityRecords(str(path))), len(source.faces))


def to_folder(source: Source, path: str | Path) -> str:
    """Write a folder for each identity, with ``0001.jpg`` and so on in it.

    Files of an interrupted call are kept, and compared with the source like all others. The
    extension of a name is that of the image's format, even where the source has another.

    Args:
        source: data set to convert.
        path: path of the folder.

    Returns:
        See :func:`to_records`.

    Raises:
        ValueError: see :func:`to_records`.
    """
    marker = Path(path, UNFINISHED)
    _write_files(source, Path(path), '{0.identity}/{0.number:04d}'.format, marker)
    with _completed(marker):
        require_equal(path, len(IdentityFolder(str(path), **IN_PROCESS)), len(source.faces))
    return f'IdentityFolder({str(path)!r})'


def to_lfw(source: Source, path: str | Path) -> str:
    """Write images and lists as LFW has them: ``lfw/``, ``pairs.txt`` and ``people.txt``.

    Args:
        source: data set to convert, with pairs.
        path: path of the folder.

    Returns:
        See :func:`to_records`.

    Raises:
        ValueError: see :func:`to_records`, or if the images are of several formats, or a fold does
            not have equally many pairs of each kind.
    """
    path = Path(path)
    pairs = sort_for_pairs_file(source)
    names = '{0.identity}/{0.identity}_{0.number:04d}'
    marker = path / UNFINISHED
    examples = _write_files(source, path / 'lfw', names.format, marker)
    if len(examples) > 1:
        raise ValueError(
            'LFW has images of one format, and the source has several, such as '
            f'{" and ".join(examples.values())}: remove or convert the images of all but one'
        )
    # Lists are written last: those that exist are of a finished conversion.
    if (path / 'pairs.txt').exists():
        listed = [(p.first, p.second, p.fold) for p in read_pairs(path / 'pairs.txt')]
        require_equal(path / 'pairs.txt', listed, [(p.first, p.second, p.fold) for p in pairs])
    write_pairs(path / 'pairs.txt', pairs, source.num_folds)
    write_people(path / 'people.txt', source.images_per_identity)
    (extension,) = examples
    require_equal(
        path, len(LFW(str(path), 'people', extension=extension, **IN_PROCESS)), len(source.faces)
    )
    again = LFW(str(path), extension=extension, **IN_PROCESS).metainfo['pairs']
    require_equal(path, again.is_same.tolist(), [pair.is_same for pair in pairs])
    require_equal(path, again.folds.tolist(), [pair.fold for pair in pairs])
    with _completed(marker):
        require_equal(path, len(open_source(path).faces), len(source.faces))
    told = '' if extension == '.jpg' else f", extension='{extension}'"
    return f'LFW({str(path)!r}{told})'


def to_bin(source: Source, path: str | Path) -> str:
    """Write a ``.bin`` file of the source's pairs, with a copy of each image for each of its pairs.

    The file does not mark folds; readers split it into folds of consecutive pairs. Both kinds of
    pairs are spread evenly over each fold of the source, so that every fold has both kinds however
    many folds a reader takes. With the source's number of folds, they are the source's folds.

    Args:
        source: data set to convert, with pairs. All its images must fit into memory.
        path: path of the file.

    Returns:
        See :func:`to_records`.

    Raises:
        ValueError: see :func:`to_records`.
    """
    path = with_suffix(path, '.bin')
    faces = {(face.identity, face.number): face for face in source.faces}
    pairs = interleave_kinds(source.pairs)
    expected = [faces[image] for pair in pairs for image in (pair.first, pair.second)]
    is_same = [pair.is_same for pair in pairs]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        images = []
        for _, face in _track(expected, 'Reading'):
            images.append(read_image(face)[0])
        with replacing(path) as partial:
            write_bin(partial, images, is_same)
    written = BinFile(path)
    require_equal(path, written.is_same, is_same)
    for place, face in _track(expected, 'Checking'):
        if written.images[place - 1] != face.read():
            raise mismatch(f'image {place - 1} of {path}', face)
    again = VerificationBin(str(path), num_folds=source.num_folds, **IN_PROCESS).metainfo['pairs']
    require_equal(path, again.folds.tolist(), [pair.fold for pair in pairs])
    told = '' if source.num_folds == NUM_FOLDS else f', num_folds={source.num_folds}'
    return f'VerificationBin({str(path)!r}{told})'


def _write_files(
    source: Source, folder: Path, name_of: Callable[[Face], str], marker: Path
) -> dict[str, str]:
    """Write the missing images, and compare all; returns an example of each extension.

    The file ``marker`` exists until all are written, so that nobody uses a part of the data set.
    """
    stems = {name_of(face) for face in source.faces}
    refuse_other_files(folder, lambda file: os.path.splitext(file)[0] in stems)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    extensions = {}
    for _, face in _track(source.faces, 'Writing'):
        content, extension = read_image(face)
        extensions.setdefault(extension, face.path)
        file = folder / f'{name_of(face)}{extension}'
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            # All are compared with the source below, and waiting for the disk would take longer
            # than the conversion.
            with replacing(file, sync=False) as partial:
                partial.write_bytes(content)
    expected = set()
    for _, face in _track(source.faces, 'Checking'):
        content = face.read()
        name = f'{name_of(face)}{extension_of(content)}'
        expected.add(name)
        if (folder / name).read_bytes() != content:
            raise mismatch(str(folder / name), face)
    refuse_other_files(folder, expected.__contains__)
    return extensions


@contextmanager
def _completed(marker: Path) -> Iterator[None]:
    """Remove the marker of an unfinished folder for a last check, which may put it back."""
    marker.unlink()
    try:
        yield
    except ValueError:
        marker.touch()
        raise


def _track(faces: Sequence[Face], description: str, done: int = 0) -> Iterator[tuple[int, Face]]:
    """Show the progress over the faces that are not done yet, and count all from 1 on."""
    left = islice(enumerate(faces, 1), done, None)
    return iter(track(left, description, total=max(0, len(faces) - done)))
