"""Model files that are no checkpoints, by their first bytes or names, and what to do with each."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

TO_ONNX = (
    'export the model to ONNX where it was made, and name that file as the path of an '
    'OnnxBackbone, as configs/verification/onnx_lfw.py does'
)
# MXNet's magic number of a list of arrays, in 8 bytes.
MXNET = (0x112).to_bytes(8, 'little')


def _names_in_zip(path: Path) -> list[str]:
    """Names of the files in a zip file; none of one that is damaged, or of another file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return []


def _is_torchscript(path: Path, begin: bytes) -> bool:
    return any(name.endswith('/constants.pkl') for name in _names_in_zip(path))


def _is_numpy(path: Path, begin: bytes) -> bool:
    names = _names_in_zip(path)
    in_zip = bool(names) and all(name.endswith('.npy') for name in names)
    return in_zip or begin.startswith(b'\x93NUMPY')


def _is_index(path: Path, begin: bytes) -> bool:
    if not begin.lstrip().startswith(b'{'):
        return False
    try:
        return 'weight_map' in json.loads(path.read_text('utf-8'))
    except ValueError:
        return False


# What a file is, how that is told, and what to do.
KINDS: tuple[tuple[str, Callable[[Path, bytes], bool], str], ...] = (
    (
        'a TorchScript archive, which holds code',
        _is_torchscript,
        'write its weights where you trust it: '
        "torch.save(torch.jit.load({name!r}).state_dict(), 'weights.pth')",
    ),
    (
        'an ONNX file, which brings its own net',
        lambda path, begin: path.suffix == '.onnx',
        'name it as the path of an OnnxBackbone, as configs/verification/onnx_lfw.py does',
    ),
    (
        'an HDF5 file, as Keras writes them',
        lambda path, begin: begin.startswith(b'\x89HDF\r\n\x1a\n'),
        TO_ONNX,
    ),
    ('a .params file of MXNet', lambda path, begin: begin.startswith(MXNET), TO_ONNX),
    ('a TensorFlow Lite file', lambda path, begin: begin[4:8] == b'TFL3', TO_ONNX),
    (
        'a file of TensorFlow',
        lambda path, begin: path.suffix in ('.pb', '.index') or path.suffix.startswith('.data-'),
        TO_ONNX,
    ),
    (
        'a file of NumPy arrays',
        _is_numpy,
        'write them as tensors: torch.save({{name: torch.from_numpy(array) ...}}, '
        "'weights.pth')",
    ),
    (
        'the index of a model in several safetensors files',
        _is_index,
        "join the files: from safetensors.torch import load_file; torch.save({{k: v for part in "
        "parts for k, v in load_file(part).items()}}, 'weights.pth')",
    ),
    (
        'a pointer of Git LFS, which stands for the file',
        lambda path, begin: begin.startswith(b'version https://git-lfs'),
        'fetch the file itself: git lfs pull',
    ),
    (
        'a page of the web',
        lambda path, begin: begin.lstrip().lower().startswith((b'<!doctype', b'<html')),
        'the address that was fetched is that of a page: fetch the file itself',
    ),
)  # fmt: skip


def advice_on(path: Path) -> str | None:
    """What a file is that is no checkpoint, and what to do with it; None for any other.

    Args:
        path: path of the file.
    """
    with path.open('rb') as file:
        begin = file.read(64)
    for kind, is_one, advice in KINDS:
        if is_one(path, begin):
            return f'it is {kind}: {advice.format(name=path.name)}'
    return None
