"""The ``.bin`` files of verification sets: a pickle of encoded images and answers.

``(images, is_same)``: pair i is images 2i and 2i + 1. A pickle from elsewhere could run any code;
here an interpreter of the few instructions that such a file needs reads it. It builds lists,
tuples, bytes, bools, integers and NumPy arrays of them, and nothing else.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

INSTRUCTIONS = frozenset(
    {
        'PROTO', 'FRAME', 'STOP', 'MARK', 'POP', 'POP_MARK', 'DUP', 'NONE',
        'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'NEWTRUE', 'NEWFALSE',
        'STRING', 'BINSTRING', 'SHORT_BINSTRING',
        'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8',
        'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8',
        'EMPTY_LIST', 'LIST', 'APPEND', 'APPENDS',
        'EMPTY_TUPLE', 'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3',
        'PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE', 'GET', 'BINGET', 'LONG_BINGET',
        'GLOBAL', 'STACK_GLOBAL', 'REDUCE', 'BUILD',
    }
)  # fmt: skip


class _Refused(Exception):
    """The file asks for something that a list of images does not need."""


class _DType:
    """Stands for ``numpy.dtype`` while a file is read: plain numbers only."""

    def __init__(self, code: bytes | str, *_):
        code = code.decode() if isinstance(code, bytes) else code
        if not re.fullmatch(r'[<>|=]?[biu]\d?|[<>|=]?\?', code):
            raise _Refused(f'NumPy numbers of type {code!r}')
        self.code = code

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.code = order.strip('=|') + self.code.lstrip('<>|=')


class _Array:
    """Stands for ``numpy.ndarray`` while a file is read."""

    values = content = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, _, content = state
        self.values = np.frombuffer(content, np.dtype(dtype.code)).reshape(shape)
        # An encoded image; it is not copied, as it may be there many times.
        self.content = content if self.values.dtype == np.uint8 else None


def _reconstruct(*_) -> _Array:
    return _Array()


def _from_buffer(content: bytes, dtype: _DType, shape: tuple, *_) -> _Array:
    """How protocol 5 writes arrays."""
    array = _Array()
    array.__setstate__((1, shape, dtype, False, content))
    return array


def _scalar(dtype: _DType, content: bytes) -> int:
    return np.frombuffer(content, np.dtype(dtype.code), 1)[0].item()


GLOBALS = {
    ('numpy', 'dtype'): _DType,
    # It is only an argument of _reconstruct.
    ('numpy', 'ndarray'): None,
}
for _core in ('numpy.core', 'numpy._core'):
    GLOBALS |= {
        (f'{_core}.multiarray', '_reconstruct'): _reconstruct,
        (f'{_core}.multiarray', 'scalar'): _scalar,
        (f'{_core}.numeric', '_frombuffer'): _from_buffer,
    }
_NAMES = {ord(code.code): code.name for code in pickletools.opcodes}


def _refusal(name: str) -> Callable[[pickle._Unpickler], NoReturn]:
    def refuse(reader: pickle._Unpickler) -> NoReturn:
        raise _Refused(f'the instruction {name}')

    return refuse


# The C interpreter would allocate as many results as an instruction asks for, without limit.
class _Reader(pickle._Unpickler):
    dispatch = {
        code: run if _NAMES[code] in INSTRUCTIONS else _refusal(_NAMES[code])
        for code, run in pickle._Unpickler.dispatch.items()
    }
    # As bytes they need no more memory than the file has content.
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding='bytes')
        self.left = len(content)

    def find_class(self, module: str, name: str):
        if (module, name) == ('_codecs', 'encode'):
            return self._encode
        if (module, name) not in GLOBALS:
            raise _Refused(f'{module}.{name}')
        return GLOBALS[module, name]

    def _encode(self, text: str, encoding: str) -> bytes:
        """How Python 3 writes bytes into pickles of old protocols, each once."""
        self.left -= len(text)
        if self.left < 0:
            raise _Refused('more bytes than it holds')
        return text.encode('latin1')


class BinFile:
    """Images and answers of a ``.bin`` file, held in memory.

    Args:
        path: path of the file.

    Attributes:
        images: 2P encoded images.
        is_same: P answers, whether images 2i and 2i + 1 are of one identity.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is cut short or no such pickle, asks for anything but plain data,
            or images and answers do not fit together.
    """

    def __init__(self, path: str | Path):
        self.path = path
        self.images, self.is_same = _check(path, _read(Path(path)))

    def image(self, place: int) -> bytes:
        """The encoded image at a place.

        Args:
            place: index of the image, from 0 on.

        Raises:
            ValueError: if there is none.
        """
        if not 0 <= place < len(self.images):
            raise ValueError(f'{self.path} has no image {place}')
        return self.images[place]


def _read(path: Path) -> object:
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: a .bin file of image pairs is needed')
    content = path.read_bytes()
    try:
        return _Reader(content).load()
    except _Refused as error:
        raise ValueError(
            f'{path} is refused: it asks for {error}, and a .bin file may hold lists of encoded '
            'images and of bools only. It may be malicious, or damaged'
        ) from None
    except Exception as error:  # Damaged bytes can raise anything.
        raise ValueError(
            f'{path} ({len(content)} bytes) cannot be read: it is cut short or not a .bin file of '
            f'image pairs ({type(error).__name__}: {str(error)[:200]})'
        ) from None


def write_bin(path: str | Path, images: Sequence[bytes], is_same: Sequence[bool]) -> None:
    """Write a ``.bin`` file, as insightface's scripts read it.

    Args:
        path: path of the file.
        images: 2P encoded images.
        is_same: P answers, whether images 2i and 2i + 1 are of one identity.

    Raises:
        ValueError: if the numbers do not fit together.
    """
    _check(path, (list(images), list(is_same)))
    with Path(path).open('wb') as file:
        # Protocol 2, the last one of Python 2, has no bytes; all versions of Python 3 read 4.
        pickle.dump((list(images), [bool(same) for same in is_same]), file, protocol=4)


def _check(path: str | Path, data: object) -> tuple[list[bytes], list[bool]]:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(f'{path} must hold (images, is_same), got {_kind(data)}')
    images, is_same = (part.values if isinstance(part, _Array) else part for part in data)
    for name, part in dict(images=images, is_same=is_same).items():
        if not isinstance(part, (list, tuple)) and np.ndim(part) == 0:
            raise ValueError(f'{path}: {name} must be a list, got {_kind(part)}')
    if len(images) == 0 or len(images) % 2:
        raise ValueError(
            f'{path}: an even number of images is needed, two a pair; got {len(images)}'
        )
    if len(is_same) != len(images) // 2:
        raise ValueError(
            f'{path}: {len(images)} images are {len(images) // 2} pairs, and there are '
            f'{len(is_same)} answers'
        )
    encoded = []
    for place, image in enumerate(images):
        if isinstance(image, _Array):
            image = image.content
        elif isinstance(image, np.ndarray) and image.dtype == np.uint8:
            image = image.tobytes()  # A row of one array of all images.
        if not isinstance(image, bytes):
            raise ValueError(f'{path}: image {place} must be bytes, got {_kind(image)}')
        encoded.append(image)
    for place, same in enumerate(is_same):
        if not isinstance(same, (bool, int, np.bool_, np.integer)) or same not in (0, 1):
            raise ValueError(f'{path}: answer {place} must be a bool, got {_kind(same)}')
    return encoded, [bool(same) for same in is_same]


def _kind(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f'a {type(value).__name__} of {len(value)}'
    # Python refuses to show numbers of thousands of digits.
    shown = isinstance(value, int) and value.bit_length() < 64
    return f'{type(value).__name__.strip("_").lower()} {value if shown else ""}'
