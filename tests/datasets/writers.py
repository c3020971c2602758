"""Files and trees of the field's data sets, put together without the code under test."""

import itertools
import pickle
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

MAGIC = struct.pack('<I', 0xCED7230A)
# What a damaged file may raise, and nothing else.
DAMAGED = (ValueError, FileNotFoundError)


def part(content: bytes, kind: int = 0) -> bytes:
    """A part of a record; kind 0 is a whole one, and 1, 2 and 3 are first, middle and last."""
    return MAGIC + struct.pack('<I', kind << 29 | len(content)) + content + bytes(-len(content) % 4)


def content(labels: Sequence[float], image: bytes, number: int = 0) -> bytes:
    """What the record of an image holds."""
    if len(labels) == 1:
        return struct.pack('<IfQQ', 0, labels[0], number, 0) + image
    return struct.pack(f'<IfQQ{len(labels)}f', len(labels), 0, number, 0, *labels) + image


def record(labels: Sequence[float], image: bytes, number: int = 0) -> bytes:
    """A record, split at each aligned magic word."""
    pieces, whole = [b''], content(labels, image, number)
    for start in range(0, len(whole), 4):
        if whole[start : start + 4] == MAGIC:
            pieces.append(b'')
        else:
            pieces[-1] += whole[start : start + 4]
    kinds = [1, *[2] * (len(pieces) - 2), 3] if len(pieces) > 1 else [0]
    return b''.join(map(part, pieces, kinds))


def write_rec(path: Path, records: dict[int, bytes], index: bool = True) -> str:
    """A .rec file of records by key, in their order; gives its path."""
    ends = itertools.accumulate(map(len, records.values()), initial=0)
    lines = [f'{key}\t{offset}\n' for key, offset in zip(records, ends, strict=False)]
    path.write_bytes(b''.join(records.values()))
    path.with_suffix('.idx').unlink(missing_ok=True)
    if index:
        path.with_suffix('.idx').write_text(''.join(lines))
    return str(path)


def insightface(people: dict[int, Sequence[bytes]]) -> dict[int, bytes]:
    """Records in insightface's layout: images by label, then people, and record 0 last."""
    images = [(label, image) for label in people for image in people[label]]
    records = {
        key: record([label], image, key) for key, (label, image) in enumerate(images, start=1)
    }
    first = start = 1
    first += len(images)
    for key, label in enumerate(people, first):
        end = start + len(people[label])
        records[key] = record([start, end], b'', key)
        start = end
    return records | {0: record([first, first + len(people)], b'')}


def photographs(orl: Path, people: int, images: int) -> dict[str, list[np.ndarray]]:
    """Photographs of some ORL people."""
    return {
        f's{person}': [
            cv2.imread(str(orl / f's{person}' / f'{number}.pgm')) for number in range(1, images + 1)
        ]
        for person in range(1, people + 1)
    }


def png(image: np.ndarray) -> bytes:
    """An encoded image, without loss."""
    return cv2.imencode('.png', image)[1].tobytes()


def tiny(value: int) -> bytes:
    """A small encoded image of one color."""
    return png(np.full((6, 5, 3), value, np.uint8))


def save(path: Path, image: np.ndarray | bytes) -> None:
    """A file with an image, in a folder that need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image if isinstance(image, bytes) else png(image))


def write_lines(path: Path, rows: Iterable[Sequence | str], separator: str = ' ') -> None:
    """A text file of rows."""
    lines = [row if isinstance(row, str) else separator.join(map(str, row)) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


def lfw(root: Path, faces: dict[str, list]) -> None:
    """A tree of LFW with two folds of 2 + 2 pairs, for four people of at least three images."""
    for name, images in faces.items():
        for number, image in enumerate(images, 1):
            save(root / 'lfw' / name / f'{name}_{number:04d}.jpg', image)
    a, b, c, d = list(faces)[:4]
    one = [(a, 1, 2), (b, 1, 3), (a, 1, b, 1), (a, 2, b, 3)]
    two = [(c, 1, 2), (d, 2, 1), (c, 3, d, 3), (d, 1, c, 2)]
    tables = {
        'pairs.txt': [(2, 2), *one, *two],
        'pairsDevTrain.txt': [(2,), *one],
        'pairsDevTest.txt': [(2,), *two],
        'people.txt': [(2,), (2,), (a, 3), (b, 2), (2,), (c, 1), (d, 3)],
        'peopleDevTrain.txt': [(2,), (a, 3), (b, 2)],
        'peopleDevTest.txt': [(1,), (d, 3)],
    }
    for name, rows in tables.items():
        write_lines(root / name, rows, '\t')


# Eyes, nose and corners of a mouth, in images of the size of ORL's.
FIVE = (30, 45, 62, 45, 46, 66, 33, 85, 60, 85)


def celeba(root: Path, faces: dict[str, list]) -> None:
    """A tree of CelebA: image i is of the split (i - 1) mod 3, people have numbers 7, 17, ..."""
    rows = [(f's{10 * i + 7}', image) for i, name in enumerate(faces) for image in faces[name]]
    names = [f'{number:06d}.jpg' for number in range(1, len(rows) + 1)]
    for name, (_, image) in zip(names, rows, strict=True):
        save(root / 'img_align_celeba' / name, image)
    people = [person[1:] for person, _ in rows]
    write_lines(root / 'identity_CelebA.txt', zip(names, people, strict=True))
    write_lines(root / 'list_eval_partition.txt', [(n, i % 3) for i, n in enumerate(names)])
    header = 'lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y'
    points = [(name, *(value + i for value in FIVE)) for i, name in enumerate(names)]
    write_lines(root / 'list_landmarks_align_celeba.txt', [str(len(names)), header, *points])


def ijb(root: Path, faces: dict[str, list], benchmark: str = 'ijbc') -> None:
    """A tree of IJB: person i has templates 10 i + 1 (first image) and 10 i + 2 (the others)."""
    tables = {name: [] for name in ('face_tid_mid.txt', 'name_5pts_score.txt')}
    number, counts = 0, {}
    for person, images in enumerate(faces.values(), 1):
        for place, image in enumerate(images):
            number += 1
            template = 10 * person + (1 if place == 0 else 2)
            save(root / 'loose_crop' / f'{number}.jpg', image)
            tables['face_tid_mid.txt'].append((f'{number}.jpg', template, 100 + number // 2))
            points = (f'{number}.jpg', *FIVE, number / 100)
            # The order of the lists need not be the same.
            tables['name_5pts_score.txt'].insert(0, points)
            counts.setdefault(template, person)
    templates = list(counts)
    tables['template_pair_label.txt'] = [
        (one, other, int(counts[one] == counts[other]))
        for one, other in itertools.combinations(templates, 2)
    ]
    for name, rows in tables.items():
        write_lines(root / 'meta' / f'{benchmark}_{name}', rows)
    first, second = ('S1', 'S2') if benchmark == 'ijbb' else ('G1', 'G2')
    half = len(faces) // 2
    enrolled = {
        f'gallery_{first}': templates[::2][:half],
        f'gallery_{second}': templates[::2][half:],
        'probe_mixed': templates[1::2],
    }
    for name, chosen in enrolled.items():
        # A line for each image, so that templates are named again.
        rows = [(t, 1000 + counts[t], f'{i}.jpg') for t in chosen for i in range(2)]
        write_lines(
            root / 'meta' / f'{benchmark}_1N_{name}.csv',
            ['TEMPLATE_ID,SUBJECT_ID,FILENAME', *rows],
            ',',
        )


def write_bin(path: Path, data: object, protocol: int = 4) -> str:
    """A .bin file as scripts of Python 3 make it; gives its path."""
    path.write_bytes(pickle.dumps(data, protocol))
    return str(path)


def python2_bin(images: Sequence[bytes], answers: Sequence[bool], protocol: int = 2) -> bytes:
    """The pickle of (images, answers) that Python 2 makes."""
    memo = itertools.count()
    if protocol == 0:
        strings = [f'S{repr(image)[1:]}\np{next(memo)}\na'.encode() for image in images]
        put = [f'p{next(memo)}\n'.encode() for _ in range(3)]
        bools = [b'I01\na' if answer else b'I00\na' for answer in answers]
        parts = [b'((l', put[0], *strings, b'(l', put[1], *bools, b't', put[2], b'.']
        return b''.join(parts)

    def put_next() -> bytes:
        place = next(memo)
        return struct.pack('<BB', 0x71, place) if place < 256 else struct.pack('<BI', 0x72, place)

    out = b'\x80\x02]' + put_next() + b'('
    for image in images:
        size = struct.pack('<B', len(image)) if len(image) < 256 else struct.pack('<i', len(image))
        out += (b'U' if len(image) < 256 else b'T') + size + image + put_next()
    out += b'e]' + put_next() + b'('
    out += b''.join(b'\x88' if answer else b'\x89' for answer in answers)
    return out + b'e\x86' + put_next() + b'.'
