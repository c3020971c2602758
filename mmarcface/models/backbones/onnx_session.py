"""Opening ONNX files with onnxruntime: a clear error for each way in which that fails."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.logging import print_log

from mmarcface.functional.arguments import check_number

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CPU = 'CPUExecutionProvider'
CUDA = 'CUDAExecutionProvider'
# In the protobuf the name of a file with tensors is a string with the key 'location'; one of 128
# bytes and more has a length of two bytes.
LOCATION = re.compile(rb'\x0a\x08location\x12([\x80-\xff]?)([\x00-\x7f])', re.DOTALL)
# Code, status, file and place in the source, which onnxruntime puts before what it has to say.
PREFIX = re.compile(
    r'\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .+ failed:|/onnxruntime_src/\S+ .*\) '
)


def open_session(
    path: str | Path,
    providers: Sequence[str | Sequence] | None = None,
    threads: int | None = None,
) -> InferenceSession:
    """Open an ONNX file.

    Args:
        path: the ``.onnx`` file.
        providers: onnxruntime's execution providers, best first, as names or (name, options); by
            default CUDA, on the GPU of the process, where this onnxruntime has it, and CPU.
        threads: number of threads on the CPU, at least 1; by default as many as torch uses.

    Raises:
        FileNotFoundError: if there is no such file, or one beside it that holds its weights is
            missing.
        ImportError: without onnxruntime.
        RuntimeError: if one of ``providers`` does not start.
        ValueError: if the file is not an ONNX model, ``threads`` is no whole number of at least 1,
            or this onnxruntime lacks one of ``providers``.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'path must be that of an ONNX file; {path} is not a file')
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('ONNX files need onnxruntime: pip install onnxruntime') from error
    if threads is not None:
        check_number('threads', threads, minimum=1, whole=True)
    available = onnxruntime.get_available_providers()
    wanted = _with_options(providers, available)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    # Fatal errors only. Released models declare an output of one row, and each batch would warn;
    # an error is raised, too.
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=wanted)
    except Exception as error:  # onnxruntime's errors have no class in common.
        raise _describe(error, path, onnxruntime.__version__) from error
    idle = [name for name, _ in wanted if name not in session.get_providers()]
    if idle and providers is not None:
        raise RuntimeError(
            f'{idle[0]} does not start here, as a library or device that it needs is missing: '
            f'leave it out of providers, {providers}'
        )
    if idle:
        message = f'{idle[0]} does not start here: {path} runs on the CPU'
        print_log(message, 'current', logging.WARNING)
    return session


def hash_onnx(path: str | Path) -> str:
    """SHA-256 of an ONNX file and of the files beside it that hold tensors of it.

    Args:
        path: the ``.onnx`` file.
    """
    digest = hashlib.sha256(Path(path).read_bytes())
    for file in external_files(path):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def external_files(path: str | Path) -> list[Path]:
    """The files beside an ONNX file that it names as holding tensors of it, sorted.

    Args:
        path: the ``.onnx`` file.
    """
    content = Path(path).read_bytes()
    names = set()
    for found in LOCATION.finditer(content):
        length = found[2][0] if not found[1] else (found[1][0] & 127) + 128 * found[2][0]
        names.add(content[found.end() : found.end() + length])
    return [Path(path).parent / name.decode(errors='replace') for name in sorted(names)]


def short_reason(error: Exception) -> str:
    """What an error of onnxruntime says, without the places in its source.

    Args:
        error: exception that onnxruntime raised.
    """
    line = PREFIX.sub('', str(error).strip().partition('\n')[0])
    return f'{type(error).__name__}: {line}'


def _with_options(
    providers: Sequence[str | Sequence] | None, available: list[str]
) -> list[tuple[str, dict]]:
    if providers is None:
        device = torch.cuda.current_device() if torch.cuda.is_available() else 0
        on_gpu = [(CUDA, dict(device_id=device))] if CUDA in available else []
        return [*on_gpu, (CPU, {})]
    wanted = [(p, {}) if isinstance(p, str) else tuple(p) for p in providers]
    if not wanted or not {p[0] for p in wanted} <= set(available):
        raise ValueError(f'providers must be among {available}, got {providers}')
    return wanted


def _describe(error: Exception, path: Path, version: str) -> Exception:
    missing = [file.name for file in external_files(path) if not file.exists()]
    if missing:
        return FileNotFoundError(
            f'{path} keeps its weights in {", ".join(missing)}, which is not beside it: copy it '
            f'into {path.parent.absolute()} under the same name'
        )
    with path.open('rb') as file:
        if file.read(23) == b'version https://git-lfs':
            return ValueError(f'{path} is a pointer of Git LFS: fetch the file with git lfs pull')
    return ValueError(
        f'{path} ({path.stat().st_size} bytes) cannot be opened by onnxruntime {version}: it is '
        f'cut short, not an ONNX model, or needs another version ({short_reason(error)})'
    )
