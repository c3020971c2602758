"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: str | Path, shared: bool = False, sync: bool = True) -> Iterator[Path]:
    """Write a file beside its target, which it replaces once it is complete.

    Where writing fails, the target stays as it was and the part that was written is removed. A
    killed process leaves that part, which the next writer overwrites.

    Args:
        path: the target, in a folder that exists.
        shared: whether other processes may write the same file at the same moment; the file that
            is written gets a name of its own then.
        sync: see :func:`move_into_place`.

    Yields:
        The path to write to: ``NAME.partial`` in the folder of the target.
    """
    path = Path(path)
    partial = path.with_name(
        f'{path.name}.{uuid4().hex}.partial' if shared else f'{path.name}.partial'
    )
    try:
        yield partial
        move_into_place(partial, path, sync)
    except BaseException:
        with suppress(OSError):  # It would hide why writing failed.
            partial.unlink()
        raise


def move_into_place(partial: str | Path, path: str | Path, sync: bool = True) -> None:
    """Give a complete file its name, replacing the file that has it.

    Args:
        partial: the complete file, closed.
        path: its name, on the same file system.
        sync: whether the content is forced to the disk first. Without it a power failure may leave
            an empty or a partly written file under the name.
    """
    if sync:
        with open(partial, 'rb+') as file:
            os.fsync(file.fileno())
    os.replace(partial, path)
