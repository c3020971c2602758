"""Reading and writing checkpoints: tensors, numbers and logs, and nothing that runs code.

Since torch 2.6 ``torch.load`` builds only types that are known to be harmless, and mmengine 0.10.7
checkpoints hold a few more: they are named here, and nothing else is. Files of safetensors are
recognized by their content, wherever a checkpoint is read.
"""

from __future__ import annotations

import errno
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlparse

import numpy as np
import torch
import torch.hub
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils.dl_utils import load_url

from .atomic_files import replacing
from .foreign_files import advice_on
from .safetensors_files import SUFFIX as SAFETENSORS
from .safetensors_files import is_safetensors, read_safetensors, write_safetensors

try:  # NumPy 2
    from numpy._core import multiarray
except ImportError:
    from numpy.core import multiarray

# Of zip files and pickles, as torch.save writes them.
BEGINNINGS = b'PK', b'\x80'
STATISTICS = ('min', 'max', 'mean', 'current')
# Packages whose classes stand in a Lightning checkpoint beside the weights: keys of callbacks'
# states, and hyper-parameters. In their place an empty class is built, and theirs is not imported.
LIGHTNING = 'pytorch_lightning.', 'lightning.', 'lightning_fabric.', 'argparse.Namespace'
SUFFIXES = '.pth', SAFETENSORS


class RefusedError(ValueError):
    """A file asks for something that may do harm.

    Args:
        message: text of the error.
        asked_for: name of the function or class, with its module.
    """

    def __init__(self, message: str, asked_for: str):
        super().__init__(message)
        self.asked_for = asked_for


class _LeftOut:
    """What stands in for an object of Lightning, and does nothing."""

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _statistic_of_history_buffer(owner: type, name: str):
    """What a pickled HistoryBuffer needs of getattr: its own statistics."""
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'GLOBAL getattr({owner!r}, {name!r})')


def read_weights_only() -> None:
    """Make every way that mmengine has to a checkpoint read weights only, and its own types too.

    torch's default for files is weights only; for URLs it is not, and mmengine leaves it at that.
    onedl-mmengine reads a refused file a second time, without care.
    """
    mmengine_checkpoint.load_url = _load_url
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):
        mmengine_checkpoint._safe_torch_load = _load_once
    allowed = [
        HistoryBuffer,
        (_statistic_of_history_buffer, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in np.typecodes['AllFloat'] + np.typecodes['AllInteger']},
        type(np.dtype(bool)),
        type(np.dtype(str)),
    ]
    for function in (multiarray._reconstruct, multiarray.scalar):
        # Files of NumPy 1 and 2 name the module differently.
        allowed += [
            (function, f'numpy.{core}.multiarray.{function.__name__}') for core in ('core', '_core')
        ]
    torch.serialization.add_safe_globals(allowed)


def _load_once(
    file: str | BinaryIO,
    map_location: str | torch.device | None = None,
    weights_only: bool | None = None,
) -> Any:
    name = file if isinstance(file, str) else 'of a storage backend'
    with _clear_errors(name):
        return torch.load(file, map_location=map_location, weights_only=True)


def _load_url(
    url: str,
    model_dir: str | None = None,
    map_location: str | torch.device | None = None,
    **options,
) -> Any:
    """Fetch a file where it is not in torch's folder yet, and read it, as torch's ``load_url``."""
    folder = Path(model_dir or Path(torch.hub.get_dir(), 'checkpoints'))
    file = folder / Path(urlparse(url).path).name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), progress=options.get('progress', True))
    if is_safetensors(file):
        return read_safetensors(file, map_location)
    return load_url(url, str(folder), map_location, **(options | dict(weights_only=True)))


@CheckpointLoader.register_scheme(prefixes='', force=True)
def _load_any_file(filename: str, map_location: str | torch.device | None = None) -> Any:
    """Replace mmengine's loader of local files, for all models: it returns what mmengine's does."""
    return _note_file(read_file(filename, map_location), filename)


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def _load_any_url(filename: str, map_location: str | torch.device | None = None) -> Any:
    """Replace mmengine's loader of URLs, as :func:`_load_any_file` that of files."""
    with _clear_errors(filename):
        content = mmengine_checkpoint.load_from_http(filename, map_location)
    return _note_file(content, filename)


def load_from_local(filename: str, map_location: str | torch.device | None = None) -> dict:
    """Read a checkpoint file.

    Args:
        filename: path of the file.
        map_location: device of the tensors; see :func:`torch.load`.

    Returns:
        The content of the file: a state dict, or a dict with ``state_dict`` and usually ``meta``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as :func:`read_file`, or if the file holds no state dict.
    """
    return _with_weights(_load_any_file(filename, map_location), filename)


def read_file(
    filename: str, map_location: str | torch.device | None = None, lazily: bool = False
) -> Any:
    """Read whatever ``torch.save`` wrote, weights only, or a file of safetensors.

    Args:
        filename: path of the file.
        map_location: device of the tensors; see :func:`torch.load`.
        lazily: leave tensors in the file until they are used, where its format permits that.

    Returns:
        The content of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if it is one of safetensors, and that package is not installed.
        ValueError: if the file is damaged, or of another kind.
        RefusedError: if it asks for anything but tensors, numbers and logs.
    """
    path = Path(filename).expanduser()
    if path.is_dir():
        raise FileNotFoundError(f'checkpoint {filename} is a folder: name a file in it')
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {filename} does not exist')
    name = f'{filename} ({path.stat().st_size} bytes)'
    if is_safetensors(path):
        return read_safetensors(path, map_location, lazily)
    advice = advice_on(path)
    if advice is not None:
        raise ValueError(f'checkpoint {name} cannot be read: {advice}')
    with _clear_errors(name, path):
        mmap = lazily and zipfile.is_zipfile(path)
        load = partial(torch.load, path, map_location=map_location, weights_only=True, mmap=mmap)
        try:
            return load()
        except pickle.UnpicklingError:
            left_out = _of_lightning(path)
            if not left_out:
                raise
        with torch.serialization.safe_globals(left_out):
            return load()


def _of_lightning(path: Path) -> list[tuple[type, str]]:
    """What stands in for what a refused file asks for, if that is classes of Lightning alone."""
    try:
        asked_for = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # Damaged bytes raise whatever the reader stumbles over.
        return []
    if not all(name.startswith(LIGHTNING) for name in asked_for):
        return []
    stand_ins = []
    for name in asked_for:
        last = name.rpartition('.')[2]
        # torch sets items of a dict, and not of another class.
        stand_in = dict if last == 'AttributeDict' else type(last, (_LeftOut,), {})
        stand_ins.append((stand_in, name))
    return stand_ins


def save_checkpoint(content: dict, filename: str | Path) -> None:
    """Write a checkpoint, by its suffix with ``torch.save`` or as safetensors, and read it back.

    Args:
        content: dict with ``state_dict`` and ``meta``; see
            :func:`mmarcface.safetensors_files.write_safetensors` for what safetensors keep of them.
        filename: path of the file, in a folder that exists; an existing file is replaced.

    Raises:
        ImportError: if it is to be safetensors, and that package is not installed.
        ValueError: if the suffix is neither .pth nor .safetensors, the format cannot hold the
            content, or the file does not hold what was written.
    """
    filename = Path(filename)
    if filename.suffix not in SUFFIXES:
        raise ValueError(f'a checkpoint must be named {" or ".join(SUFFIXES)}, got {filename}')
    with replacing(filename) as unfinished:
        if filename.suffix == SAFETENSORS:
            write_safetensors(content, unfinished)
        else:
            torch.save(content, unfinished)
        written = read_file(str(unfinished), 'cpu', lazily=True)['state_dict']
        for key, value in content['state_dict'].items():
            if isinstance(value, torch.Tensor) and not _are_same(value, written[key]):
                raise ValueError(f'{key} of {filename} is not what was written: is the disk full?')


def _are_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    # Bytes, as NaN is not equal to itself.
    one, other = (t.detach().cpu().contiguous().reshape(-1) for t in (one, other))
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def open_checkpoint(filename: str | Path) -> dict:
    """Look into a checkpoint without reading its tensors, if it is a file.

    Args:
        filename: path, URL, or whatever else mmengine's ``CheckpointLoader`` takes.

    Returns:
        As :func:`load_from_local`. Do not keep it: its tensors are lost when the file is replaced.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as :func:`load_from_local`.
    """
    filename = str(filename)
    if '://' in filename:
        content = CheckpointLoader.load_checkpoint(filename, map_location='cpu')
    else:
        content = _note_file(read_file(filename, 'cpu', lazily=True), filename)
    return _with_weights(content, filename)


def open_training(filename: str | Path) -> dict:
    """Look into a checkpoint that a training can go on from.

    Args:
        filename: path or URL as for :func:`open_checkpoint`.

    Returns:
        As :func:`open_checkpoint`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as :func:`open_checkpoint`, or if it holds weights only.
    """
    content = open_checkpoint(filename)
    lacking = lacking_state(content)
    if lacking is None:
        return content
    raise ValueError(
        f'checkpoint {filename} holds weights without the {lacking} of a training, which cannot be '
        'resumed from it: to start one from its weights, name it as load_from (--cfg-options '
        f'load_from={filename}) and do not resume'
    )


def lacking_state(content: dict) -> str | None:
    """What a checkpoint lacks for a training to go on from it; None for nothing.

    Args:
        content: content of the checkpoint.
    """
    meta = content.get('meta')
    if not isinstance(meta, dict) or not {'epoch', 'iter'} <= set(meta):
        return 'epoch and iteration'
    return None if 'message_hub' in content else 'message_hub'


def has_head(content: dict) -> bool:
    """Whether a checkpoint has weights of a head, whose rows are of its classes.

    Args:
        content: content of the checkpoint.
    """
    return any(name.startswith('head.') for name in content.get('state_dict', content))


@contextmanager
def _clear_errors(name: str, path: Path | None = None) -> Iterator[None]:
    """Say of a checkpoint that cannot be read what is wrong with it."""
    try:
        yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # Damaged bytes raise whatever the unpickler stumbles over.
        # torch's reader of zip files seeks to places before the beginning of one that is cut short.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        # Without torch's advice to read such a file without care.
        found = re.split(r'\n| Re-running| In PyTorch', str(error))[0] or type(error).__name__
        refused = re.search(r'GLOBAL (\S+)', str(error))
        if path is not None:
            with path.open('rb') as file:
                begin = file.read(12)
            # Any text may ask for something, read as a pickle.
            refused = refused if begin.startswith(BEGINNINGS) else None
            if isinstance(error, (pickle.UnpicklingError, LookupError)):
                found = f'it begins with {begin}'
        if refused:
            raise RefusedError(
                f'checkpoint {name} is refused: reading it would call {refused[1]}, and a '
                'checkpoint may hold tensors, numbers and logs only. It may be malicious; if you '
                'trust its source, ask for a file with its state_dict alone',
                refused[1],
            ) from None
        raise ValueError(
            f'checkpoint {name} cannot be read: it is cut short or not a checkpoint ({found}); '
            'name another file, or fetch or write it again'
        ) from None


def _note_file(content: Any, filename: str) -> Any:
    """Note the file in the metadata that travels with a state dict, for errors to name it."""
    nested = isinstance(content, dict) and 'state_dict' in content
    state_dict = content['state_dict'] if nested else content
    if not isinstance(state_dict, dict):
        return content
    if not isinstance(state_dict, OrderedDict):
        state_dict = OrderedDict(state_dict)
    metadata = OrderedDict(getattr(state_dict, '_metadata', {}))
    metadata[''] = {**metadata.get('', {}), 'checkpoint_file': filename}
    state_dict._metadata = metadata
    if not nested:
        return state_dict
    content['state_dict'] = state_dict
    return content


def _with_weights(content: Any, filename: str) -> dict:
    """The content of a checkpoint, refused if there are no weights in it."""
    nested = isinstance(content, dict) and 'state_dict' in content
    state_dict = content['state_dict'] if nested else content
    if (
        not isinstance(state_dict, dict)
        or not any(isinstance(value, torch.Tensor) for value in state_dict.values())
        or not all(isinstance(name, str) for name in state_dict)
    ):
        found = f'keys {list(content)[:5]}' if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f'checkpoint {filename} holds no weights: a state dict, alone or as state_dict, is '
            f'needed; got {found}'
        )
    return content
