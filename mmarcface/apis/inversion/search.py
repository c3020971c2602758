"""Model inversion: images of the classes of a trained net, or of embeddings."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.logging import print_log
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from torch import nn

from mmarcface.functional.inversion import (
    batch_norm_layers,
    batch_statistics,
    check_trained,
)

from .descent import Descent
from .model import InversionModel
from .objective import Objective
from .recorder import Recorder
from .result import Inversion
from .settings import PRESETS, InversionSettings
from .state import SearchState, WorkItem
from .targets import Targets, resolve_targets

# Images in a frame of the animation.
MAX_IN_FRAME = 100


def invert(
    model: nn.Module,
    targets: Any,
    *,
    head: nn.Module | torch.Tensor | None = None,
    scale: float | None = None,
    preset: str = 'paper',
    companions: Sequence[int] = (),
    seed: int = 0,
    input_size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    state: str | Path | None = None,
    state_interval: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> Inversion:
    """Search for images that a trained model takes for given classes or embeddings.

    The weights are fixed and the pixels are optimized, so that the statistics in the BN layers come
    close to those of the training images (`ArcFace <https://arxiv.org/abs/1801.07698>`_, section
    3.3). Every process of a group must call this function; they share batches and restarts, and
    the result does not depend on their number.

    A step after which the objective jumps is undone and halved, and the best images at full
    resolution are kept. A warning names the targets whose batch ended no better than it started.

    Args:
        model: an ``EmbeddingRetriever``, mmpretrain's ``ImageClassifier``, or any module from
            images to embeddings with BN layers.
        targets: classes, (N,) integers; or embeddings, (N, D), of any norm; or images, a list of
            paths or of arrays (H, W, 3), uint8, BGR, which the model embeds first, with its test
            pipeline.
        head: see :meth:`InversionModel.of`.
        scale: see :meth:`InversionModel.of`.
        preset: settings to start from: 'paper', the terms and weights of ArcFace's, with pixels
            that stay valid; or 'small', for small images and little time.
        companions: other classes that are searched for beside the targets in every batch, and not
            returned. The BN prior compares the statistics of a batch with those of the training
            images, which images of a few classes alone cannot have.
        seed: seed of the noise.
        input_size: see :meth:`InversionModel.of`.
        mean: see :meth:`InversionModel.of`.
        std: see :meth:`InversionModel.of`.
        state: folder that keeps the state, so that an interrupted call goes on; none by default.
        state_interval: steps between two saves of the state; by default a twentieth of the steps.
        progress: whether to show a progress bar with the terms.
        **settings: changes of the preset: see :class:`InversionSettings`.

    Raises:
        ValueError: if targets, settings or model do not fit one another, the model has no BN
            statistics and ``bn_weight`` is not 0, the search diverges, or ``state`` is of another
            inversion.
        TypeError: if a setting is unknown.
    """
    net, target, settings = prepare_inversion(
        model,
        targets,
        head=head,
        scale=scale,
        preset=preset,
        input_size=input_size,
        mean=mean,
        std=std,
        **settings,
    )
    layers = batch_norm_layers(net.model) if settings.bn_weight else {}
    check_trained(layers)
    with net.frozen(), torch.enable_grad():
        others = resolve_targets(net, list(companions)) if companions else None
        search = _Search(net, layers, target, others, settings, seed)
        items = search.items
        if len(items) < get_world_size() and is_main_process():
            print_log(
                f'{get_world_size() - len(items)} of {get_world_size()} processes have nothing to '
                'do: lower batch_size',
                'current',
            )
        interval = math.ceil(settings.steps / 20) if state_interval is None else state_interval
        search_state = SearchState(state, interval, net, search.everything, settings, seed)
        mine, results = items[get_rank() :: get_world_size()], []
        with _bar(progress and is_main_process(), len(mine) * settings.steps) as show:
            for number, item in enumerate(mine):
                before = number * settings.steps

                def advance(step, terms, before=before):
                    show(completed=before + step, terms=_progress_text(terms))

                results.append(
                    search_state.finished(item) or search.run(item, search_state, advance)
                )
                show(completed=before + settings.steps)
    return _join(_gather(results), target, settings, seed)


def prepare_inversion(
    model: nn.Module,
    targets: Any,
    *,
    head: nn.Module | torch.Tensor | None = None,
    scale: float | None = None,
    preset: str = 'paper',
    input_size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **settings: Any,
) -> tuple[InversionModel, Targets, InversionSettings]:
    """Check the arguments of :func:`invert`, also for a model that is not trained yet.

    Args:
        model: see :func:`invert`.
        targets: see :func:`invert`.
        head: see :func:`invert`.
        scale: see :func:`invert`.
        preset: see :func:`invert`.
        input_size: see :func:`invert`.
        mean: see :func:`invert`.
        std: see :func:`invert`.
        **settings: see :func:`invert`.

    Returns:
        The model, the targets and the settings of the search.

    Raises:
        ValueError: see :func:`invert`.
        TypeError: see :func:`invert`.
    """
    if preset not in PRESETS:
        raise ValueError(f'preset must be one of {tuple(PRESETS)}, got {preset!r}')
    unknown = set(settings) - {f.name for f in fields(InversionSettings)}
    if unknown:
        raise TypeError(
            f'there is no setting {sorted(unknown)[0]!r}; there are '
            f'{", ".join(f.name for f in fields(InversionSettings))}'
        )
    settings = replace(PRESETS[preset], **settings)
    net = InversionModel.of(model, head, input_size, mean, std, scale)
    if settings.bn_weight:
        batch_norm_layers(net.model)
    with net.frozen():
        found = resolve_targets(net, targets)
    if settings.center_weight and found.vectors is None:
        raise ValueError(
            f'{type(net.head).__name__} has no centers for the center term: set center_weight=0'
        )
    return net, found, settings


def _gather(results: list[dict]) -> list[dict]:
    """The results of all processes, on each of them."""
    if get_world_size() == 1:
        return results
    # A process with fewer batches may wait for days.
    group = torch.distributed.new_group(backend='gloo', timeout=timedelta(days=30))
    shards = [None] * get_world_size()
    torch.distributed.all_gather_object(shards, results, group)
    return [result for shard in shards for result in shard]


class _Search:
    """An inversion, split into work items: batches of targets, each searched for several times."""

    def __init__(
        self,
        net: InversionModel,
        layers: dict[str, nn.Module],
        targets: Targets,
        companions: Targets | None,
        settings: InversionSettings,
        seed: int,
    ):
        self.net, self.layers, self.targets = net, layers, targets
        self.companions = companions
        self.settings, self.seed = settings, seed

    @property
    def batches(self) -> int:
        return math.ceil(len(self.targets) / self.settings.batch_size)

    @property
    def items(self) -> list[WorkItem]:
        return [WorkItem(b, r) for r in range(self.settings.restarts) for b in range(self.batches)]

    @property
    def everything(self) -> Targets:
        """All targets and the companions."""
        return self.targets if self.companions is None else self.targets + self.companions

    def indices(self, item: WorkItem) -> range:
        """Which of the targets are in a batch."""
        # Evenly: the statistics of a last batch of one would be those of one image.
        first, last = ((item.batch + i) * len(self.targets) // self.batches for i in (0, 1))
        return range(first, last)

    def objective(self, item: WorkItem) -> Objective:
        """The objective of a batch, whose companions come after its targets."""
        targets = self.targets[self.indices(item)]
        if self.companions is not None:
            targets = targets + self.companions
        generator = partial(_generator, self.seed, item)
        return Objective(self.net, self.layers, targets, self.settings, generator)

    def run(
        self,
        item: WorkItem,
        search_state: SearchState,
        show: Callable[[int, dict[str, float]], None],
    ) -> dict:
        """Search for the images of a work item; ``show`` is told the terms now and then."""
        objective, number = self.objective(item), len(self.indices(item))
        shown = min(MAX_IN_FRAME, number)
        descent = Descent(objective.noise(), objective.limits)
        recorder = Recorder(item, search_state, self.settings.steps, show)
        recorder.resume(descent)
        while recorder.step < self.settings.steps:
            step = recorder.step
            descent.resize(objective.resolution(step))
            terms, gradient = _step(objective, descent, step)
            if recorder.began_at is None:
                recorder.began_at = terms['objective']
            pixels = descent.pixels
            if gradient is None or step == self.settings.steps - 1:
                terms, pixels = descent.best['terms'], descent.best['pixels']
            recorder.add_point(terms)
            if recorder.needs_frame:
                images = objective.images(pixels.detach()[:shown])
                recorder.frames.append(self.net.to_pixels(images))
            if gradient is not None:
                descent.step(gradient, self.settings.learning_rate(step))
            recorder.finish_step(descent)
        images, ended_at, columns = _best_end(objective, descent)
        if recorder.has_frames:
            recorder.frames.append(images[:shown])
        result = dict(
            batch=item.batch,
            restart=item.restart,
            first=self.indices(item).start,
            images=images[:number],
            terms={name: values[:number] for name, values in columns.items()},
            began_at=recorder.began_at,
            ended_at=ended_at,
            history=recorder.history,
            frames=recorder.frames,
            seconds=recorder.seconds,
        )
        search_state.finish(item, result)
        return result


def _generator(seed: int, item: WorkItem, step: int) -> torch.Generator:
    text = f'{seed} {item.batch} {item.restart} {step}'
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], 'little')
    return torch.Generator().manual_seed(number)


def _step(
    objective: Objective, descent: Descent, step: int
) -> tuple[dict[str, float], torch.Tensor | None]:
    """The terms at the pixels of a descent, and the gradient unless the last step is undone."""
    # Until the gradient is there, as checkpointed layers run once more for it.
    with batch_statistics(objective.layers) as statistics:
        try:
            terms = objective.terms(descent.pixels, step, statistics)
            values = {name: float(value.detach()) for name, value in terms.items()}
            trouble = ', '.join(f'{name} {value:.4g}' for name, value in values.items())
        except ValueError as error:
            if step == 0:
                raise
            values, trouble = dict(objective=math.nan), str(error)
        if not math.isfinite(values['objective']) and descent.is_lost:
            raise ValueError(
                f'the search diverged at step {step} ({trouble}): lower lr, or the weights'
            )
        again = partial(objective.value, step=step) if objective.augments else None
        # Before the backward pass, for which the device need not be waited for.
        if not descent.accept(values, again):
            return values, None
        (gradient,) = torch.autograd.grad(terms['objective'], descent.pixels)
    return values, gradient


@torch.no_grad()
def _best_end(
    objective: Objective, descent: Descent
) -> tuple[torch.Tensor, float, dict[str, list[float]]]:
    """The better of the best and the last images, with their objective and terms."""
    # The last step was not compared yet, and the best was found under its own jitter and flip.
    pixels = descent.best['pixels'], descent.pixels
    ends = [objective.net.to_pixels(objective.images(p)) for p in pixels]
    if torch.equal(*ends):
        ends.pop()
    return min(((end, *objective.evaluate(end)) for end in ends), key=lambda end: end[1])


def _join(parts: list[dict], targets: Targets, settings: InversionSettings, seed: int):
    """The best restart of each image, in the order of the targets."""
    best: dict[int, tuple[dict, int]] = {}
    for part in sorted(parts, key=lambda p: (p['restart'], p['batch'])):
        for row, objective in enumerate(part['terms']['objective']):
            index = part['first'] + row
            if index not in best or _is_better(objective, _objective(best[index])):
                best[index] = part, row
    chosen = [best[index] for index in range(len(targets))]
    lost = [index for index, found in enumerate(chosen) if math.isnan(_objective(found))]
    if lost:
        raise ValueError(f'the search for target {lost[0]} ended in NaN: lower lr, or the weights')
    stuck = [i for i, (part, _) in enumerate(chosen) if not part['ended_at'] < part['began_at']]
    if stuck and is_main_process():
        part, _ = chosen[stuck[0]]
        print_log(
            f'The search for {len(stuck)} of {len(chosen)} targets, the first of them target '
            f'{stuck[0]}, got no better than its start: the objective of its batch was '
            f'{part["began_at"]:.4g} and is {part["ended_at"]:.4g}. These images show nothing of '
            'the targets: lower lr, or raise steps',
            'current',
            logging.WARNING,
        )
    names = chosen[0][0]['terms']
    terms = {name: [part['terms'][name][row] for part, row in chosen] for name in names}
    terms['restart'] = [part['restart'] for part, _ in chosen]
    first = next(p for p in parts if p['batch'] == p['restart'] == 0)
    return Inversion(
        images=torch.stack([part['images'][row] for part, row in chosen]).numpy(),
        labels=targets.labels,
        terms=terms,
        history={name: [h[name] for h in first['history']] for name in first['history'][0]},
        frames=torch.stack(first['frames']).numpy(),
        settings=settings,
        seed=seed,
        seconds=sum(part['seconds'] for part in parts),
        converged=not stuck,
    )


def _is_better(objective: float, than: float) -> bool:
    return objective < than or math.isnan(than)


def _objective(found: tuple[dict, int]) -> float:
    part, row = found
    return part['terms']['objective'][row]


def _progress_text(terms: dict[str, float]) -> str:
    """The terms, short enough for a terminal of 80 columns."""
    short = dict(objective='total', total_variation='tv')
    terms = dict(objective=terms['objective']) | terms
    return ' '.join(f'{short.get(name, name)} {value:.4g}' for name, value in terms.items())


@contextmanager
def _bar(visible: bool, steps: int) -> Iterator[Callable[..., None]]:
    columns = '{task.percentage:>3.0f}%', '{task.fields[terms]}'
    columns = TextColumn(columns[0]), TimeRemainingColumn(), TextColumn(columns[1])
    with Progress(*columns, disable=not visible) as bar:
        yield partial(bar.update, bar.add_task('', total=steps, terms=''))
