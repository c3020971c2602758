"""Checkpoints as safetensors: tensors by name, and text in a header; nothing in them can run.

The `format <https://huggingface.co/docs/safetensors/index>`_ is 8 bytes with the length of the
header, the header (JSON, which starts with a brace), and the bytes of all tensors. Its header has
room for text; what else a checkpoint of ours holds is there as JSON.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

SUFFIX = '.safetensors'
# The format's own limit. A damaged file must not make a reader ask for more memory than it has.
MAX_HEADER = 100_000_000
# Entry of the header with the metadata of a checkpoint of ours.
ENTRY = 'mmarcface'
# Beginnings of zip files and of pickles from protocol 2 on.
OTHERS = b'PK\x03\x04', *(bytes([0x80, protocol]) for protocol in range(2, 6))


def is_safetensors(path: Path) -> bool:
    """Whether a file is one of safetensors, by its content, or claims to be one, by its name.

    Args:
        path: path of the file.
    """
    with path.open('rb') as file:
        begin = file.read(9)
    is_one = begin[8:] == b'{' and int.from_bytes(begin[:8], 'little') <= MAX_HEADER
    return is_one or path.suffix == SUFFIX


def read_safetensors(
    path: Path, map_location: str | torch.device | None = None, lazily: bool = False
) -> dict:
    """Read a checkpoint.

    Args:
        path: path of the file.
        map_location: device of the tensors; the CPU by default.
        lazily: leave tensors in the file until they are used.

    Returns:
        The state dict; or of a file of :func:`write_safetensors` a dict with ``state_dict`` and
        ``meta``.

    Raises:
        ImportError: if the package ``safetensors`` is not installed.
        ValueError: if the file is cut short, damaged or none of safetensors.
    """
    safetensors = _import_safetensors(f'read {path}')
    _check_header(path)
    try:
        with safetensors.safe_open(path, framework='pt') as file:
            header = file.metadata() or {}
            tensors = OrderedDict((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f'{_named(path)} cannot be read: it is damaged ({str(error) or type(error).__name__}); '
            'fetch or write it again'
        ) from None
    if not lazily or map_location is not None:
        device = torch.device('cpu') if map_location is None else map_location
        for name, tensor in tensors.items():
            # A copy: the file may be replaced.
            tensors[name] = tensor.to(device, copy=not lazily)
    if ENTRY not in header:
        return tensors
    try:
        return dict(state_dict=tensors, meta=dict(json.loads(header[ENTRY])))
    except (ValueError, TypeError):
        raise ValueError(
            f'{_named(path)} cannot be read: it is damaged, as the entry {ENTRY} of its header is '
            'not the metadata of a checkpoint; fetch or write it again'
        ) from None


def write_safetensors(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint.

    Args:
        content: dict with ``state_dict``, tensors by name, and ``meta``, of which what JSON can
            hold is written: text, numbers, lists of them, dicts of them by text.
        path: path of the file; see :func:`mmarcface.atomic_files.replacing`.

    Raises:
        ImportError: if the package ``safetensors`` is not installed.
        ValueError: if the state dict holds something that the format cannot.
    """
    safetensors = _import_safetensors(f'write {path}')
    from safetensors.torch import save_file

    tensors = {}
    for name, value in content['state_dict'].items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            kind = getattr(value, 'layout', type(value).__name__)
            raise ValueError(
                f'{name} of the state dict is {kind}, and {SUFFIX} holds dense tensors only: write '
                'a .pth file'
            )
        # The format has no tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
    meta = {}
    for name, value in content.get('meta', {}).items():
        try:
            meta[str(name)] = json.loads(json.dumps(value, default=_plain))
        except (TypeError, ValueError):
            continue
    header = dict(format='pt') | {ENTRY: json.dumps(meta)}
    if sum(map(len, header.values())) > MAX_HEADER // 2:
        raise ValueError(
            f'the metadata of {path} takes {len(header[ENTRY])} bytes, too much for the header of '
            f'a {SUFFIX} file: write a .pth file'
        )
    try:
        save_file(tensors, path, metadata=header)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f'{path} cannot be written: {error}; write a .pth file') from None


def _import_safetensors(purpose: str):
    try:
        import safetensors
    except ModuleNotFoundError:
        raise ImportError(
            f"safetensors is not installed, to {purpose}: pip install 'mmarcface[weights]'"
        ) from None
    return safetensors


def _check_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open('rb') as file:
        first = file.read(9)
    length, begin = int.from_bytes(first[:8], 'little'), first[8:]
    if begin != b'{' and first.startswith(OTHERS):
        raise ValueError(
            f'{_named(path)} is a file of torch.save under the name {SUFFIX}: rename it to .pth'
        )
    if size < 9 or (begin == b'{' and length <= MAX_HEADER and size < 8 + length):
        problem = 'it is cut short'
    elif length > MAX_HEADER:
        problem = (
            f'its header would take {length} bytes, more than the {MAX_HEADER} of the format, so '
            f'that it is damaged or no {SUFFIX} file'
        )
    elif begin != b'{':
        problem = f'it is damaged or no {SUFFIX} file'
    else:
        return
    raise ValueError(f'{_named(path)} cannot be read: {problem}; fetch or write it again')


def _named(path: Path) -> str:
    return f'checkpoint {path} ({path.stat().st_size} bytes)'


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f'{type(value).__name__} is none of the types of JSON')
