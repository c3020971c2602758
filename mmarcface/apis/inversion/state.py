"""The state of an inversion on disk, so that an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmarcface.atomic_files import replacing
from mmarcface.functional.arguments import check_number

from .descent import Descent
from .model import InversionModel
from .settings import InversionSettings
from .targets import Targets

# Version of the files; other versions are not read.
FORMAT = 2


@dataclass(frozen=True)
class WorkItem:
    """One batch of one restart.

    Attributes:
        batch: number of the batch, from 0 on.
        restart: number of the restart, from 0 on.
    """

    batch: int
    restart: int


class SearchState:
    """Progress of an inversion in a folder: one file per work item, replaced whole or not at all.

    Args:
        folder: folder of the files; None to keep nothing.
        interval: number of steps between two saves, at least 1.
        net: model that is inverted.
        targets: targets of the inversion.
        settings: settings of the inversion.
        seed: seed of the inversion.

    Raises:
        ValueError: if ``interval`` is not a whole number of at least 1.
    """

    def __init__(
        self,
        folder: str | Path | None,
        interval: int,
        net: InversionModel,
        targets: Targets,
        settings: InversionSettings,
        seed: int,
    ):
        check_number('state_interval', interval, minimum=1, whole=True)
        self.interval = interval
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            self.identity = _identity(net, targets, settings, seed)
            self.folder.mkdir(parents=True, exist_ok=True)

    def _path(self, item: WorkItem) -> Path:
        return self.folder / f'batch{item.batch}_restart{item.restart}.pth'

    def _load(self, item: WorkItem) -> dict:
        if self.folder is None or not self._path(item).exists():
            return {}
        path = self._path(item)
        try:
            content = torch.load(path, map_location='cpu', weights_only=True)
            identity = content['identity']
        except Exception as error:
            raise ValueError(f'{path} is damaged ({error}): delete it to start again') from error
        if identity != self.identity:
            raise ValueError(
                f'{path} is of another inversion (other model, targets, settings or seed) or an '
                'older version: delete the folder, or name another'
            )
        return content

    def _write(self, item: WorkItem, content: dict) -> None:
        if self.folder is None:
            return
        with replacing(self._path(item)) as partial:
            torch.save(dict(content, identity=self.identity), partial)

    def finished(self, item: WorkItem) -> dict | None:
        """The result of a work item that is finished; None for another.

        Args:
            item: batch and restart.

        Raises:
            ValueError: if the file is damaged, or of another inversion.
        """
        return self._load(item).get('result')

    def resume(self, item: WorkItem) -> dict:
        """Where to go on with a work item; step 0 for one that was not begun.

        Args:
            item: batch and restart.

        Raises:
            ValueError: as :meth:`finished`.
        """
        fresh = dict(step=0, history=[], frames=[], began_at=None, seconds=0.0)
        return self._load(item).get('running', fresh)

    def save(
        self,
        item: WorkItem,
        step: int,
        descent: Descent,
        history: list[dict[str, float]],
        frames: list[torch.Tensor],
        began_at: float,
        seconds: float,
    ) -> None:
        """Save a work item that is running.

        Args:
            item: batch and restart.
            step: number of steps that are done.
            descent: descent after these steps.
            history: terms over the steps.
            frames: images over the steps.
            began_at: objective of the noise at the start.
            seconds: time spent so far.
        """
        running = dict(
            step=step,
            history=history,
            frames=frames,
            began_at=began_at,
            seconds=seconds,
            **descent.state_dict(),
        )
        self._write(item, dict(running=running))

    def finish(self, item: WorkItem, result: dict) -> None:
        """Save the result of a work item in place of its progress.

        Args:
            item: batch and restart.
            result: images and figures of the item, as a weights-only load can read them back.
        """
        self._write(item, dict(result=result))


def _identity(net: InversionModel, targets: Targets, settings: InversionSettings, seed: int) -> str:
    """Hash of everything that the images depend on."""
    digest = hashlib.sha256(json.dumps([FORMAT, asdict(settings)], sort_keys=True).encode())
    digest.update(f'{seed} {targets.labels} {net.size}'.encode())
    modules = [net.model, net.head]
    tensors = [v for m in modules if m is not None for v in m.state_dict().values()]
    tensors += [net.mean, net.std]
    if net.head is not None:
        # Margins and scale, which are not in the state dict.
        tensors += net.head.buffers()
        digest.update(f'{type(net.head).__name__} {_numbers(net.head)}'.encode())
    if targets.labels is None:
        tensors.append(targets.vectors)
    for value in tensors:
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _numbers(module: nn.Module) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, (int, float, str, tuple)) and not name.startswith('_')
    }
