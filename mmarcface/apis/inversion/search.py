"""Images back from a trained net: its classes, or what an embedding looked like."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.logging import print_log
from mmpretrain.structures import DataSample
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from torch import nn

from mmarcface.functional.inversion import (
    BatchStatistics,
    batch_norm_layers,
    batch_statistics,
    bn_prior,
    embedding_distances,
    image_energy,
    refuse_untrained,
    total_variation,
)

from .descent import Descent, resize
from .model import InversionModel
from .settings import PRESETS, InversionSettings
from .state import SearchState, WorkItem
from .targets import Targets, resolve

# Of one inversion: points of the history, frames of the animation, and images in a frame.
POINTS, FRAMES, SHOWN = 100, 24, 100


@dataclass
class Inversion:
    """What an inversion found, for N targets.

    Attributes:
        images: (N, H, W, 3), uint8 in [0, 255], BGR.
        labels: the class of each, or None for embeddings.
        terms: by name, one number an image, without the weights: ``target``, ``center`` (for
            classes), ``total_variation``, ``l2``, ``bn`` (that of its batch), their weighted sum
            ``objective``, ``cosine`` to the target, and the ``restart`` it is of. They are those
            of the 8-bit image, seen as it is.
        history: the terms of the first batch, mean over its images, at the ``step`` beside them;
            where a step was undone, and at the end, those of the best images so far.
        frames: the first images of the first batch over time, (T, n, H, W, 3), uint8, BGR.
        settings: as they were used.
        seed: of the noise.
        seconds: that it took, without interruptions; of several processes the sum.
        converged: whether the objective of every batch ended below that of the noise it started
            from.
    """

    images: np.ndarray = field(repr=False)
    labels: list[int] | None
    terms: dict[str, list[float]] = field(repr=False)
    history: dict[str, list[float]] = field(repr=False)
    frames: np.ndarray = field(repr=False)
    settings: InversionSettings
    seed: int
    seconds: float
    converged: bool = True

    def report(self) -> dict:
        """All but the images, ready for JSON; also the mean of every term."""
        means = {name: float(np.mean(values)) for name, values in self.terms.items()}
        del means['restart']
        return dict(
            number=len(self.images),
            labels=self.labels,
            means=means,
            terms=self.terms,
            history=self.history,
            settings=asdict(self.settings),
            seed=self.seed,
            seconds=self.seconds,
            converged=self.converged,
        )


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

    The weights stay as they are; the pixels are what is optimized, towards images whose statistics
    in the BN layers are those of the training images (`ArcFace <https://arxiv.org/abs/1801.07698>`_,
    section 3.3). Every process of a group calls it; batches and restarts are shared out among
    them, with the same result on one process as on many.

    A step after which the objective has jumped is undone and halved, and the best images are kept,
    at full resolution. A warning names the targets whose batch ended no better than it started.

    Args:
        model: an ``EmbeddingRetriever``, mmpretrain's ``ImageClassifier``, or any module from
            images to embeddings with BN layers.
        targets: classes, (N,) integers; or embeddings, (N, D), of any length; or images to be
            embedded first, a list of paths or of arrays (H, W, 3), uint8, BGR, by the model's test
            pipeline.
        head: see :meth:`InversionModel.of`.
        scale: see :meth:`InversionModel.of`.
        preset: 'paper', its terms and weights, with pixels that stay valid; 'deepinversion', the
            same of that one (but for the L2 norm, which is squared here), without its warm-up, its
            stages and its competition; or 'small', for small images and little time.
        companions: other classes that are searched for beside the targets, in every batch, and not
            returned. The BN prior asks a batch to have the statistics of the training images, and
            images of a few classes alone cannot.
        seed: of the noise.
        input_size: see :meth:`InversionModel.of`.
        mean: see :meth:`InversionModel.of`.
        std: see :meth:`InversionModel.of`.
        state: folder that keeps what was done, so that an interrupted call goes on; none by
            default.
        state_interval: steps after which it is written; by default twenty times in all.
        progress: show a bar with the terms.
        **settings: changes of the preset: see :class:`InversionSettings`.

    Raises:
        ValueError: if targets, settings or model do not fit one another, the model has no BN
            statistics and ``bn_weight`` is not 0, the search diverges, or ``state`` is of another
            inversion.
        TypeError: for a setting that there is not.
    """
    net, target, settings = prepare(
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
    refuse_untrained(layers)
    with net.frozen(), torch.enable_grad():
        beside = resolve(net, list(companions)) if companions else None
        search = _Search(net, layers, target, beside, settings, seed)
        units = search.units()
        if len(units) < get_world_size() and is_main_process():
            print_log(
                f'{get_world_size() - len(units)} of {get_world_size()} processes have nothing to '
                'do: lower batch_size',
                'current',
            )
        interval = math.ceil(settings.steps / 20) if state_interval is None else state_interval
        search_state = SearchState(state, interval, net, search.everything, settings, seed)
        with _bar(progress and is_main_process()) as bar:
            mine = units[get_rank() :: get_world_size()]
            task = bar.add_task('', total=len(mine) * settings.steps, terms='')
            found = []
            for number, unit in enumerate(mine):
                before = number * settings.steps
                found.append(
                    search_state.finished(unit)
                    or search.run(
                        unit,
                        search_state,
                        lambda step, terms, before=before: bar.update(
                            task, completed=before + step, terms=terms
                        ),
                    )
                )
                bar.update(task, completed=before + settings.steps)
    return _join(_from_all_processes(found), target, settings, seed)


def prepare(
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
    """All that :func:`invert` can check before it starts, with a model that may not be trained.

    Args:
        model: see :func:`invert`.
        targets: see :func:`invert`.
        head: see :func:`invert`.
        scale: see :func:`invert`.
        preset: see :func:`invert`.
        input_size: see :func:`invert`.
        mean: see :func:`invert`.
        std: see :func:`invert`.
        **settings: changes of the preset.

    Returns:
        The model as it is searched with, the targets, and the settings.

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
        found = resolve(net, targets)
    if settings.center_weight and found.vectors is None:
        raise ValueError(
            f'{type(net.head).__name__} has no centers that its classes could be drawn to: set '
            'center_weight=0'
        )
    return net, found, settings


def _from_all_processes(found: list[dict]) -> list[dict]:
    """What all processes have found, on each of them."""
    if get_world_size() == 1:
        return found
    # One may search for days while another, which had less to do, waits.
    group = torch.distributed.new_group(backend='gloo', timeout=timedelta(days=30))
    shards = [None] * get_world_size()
    torch.distributed.all_gather_object(shards, found, group)
    return [unit for shard in shards for unit in shard]


class _Search:
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

    def units(self) -> list[WorkItem]:
        return [WorkItem(b, r) for r in range(self.settings.restarts) for b in range(self.batches)]

    @property
    def batches(self) -> int:
        return math.ceil(len(self.targets) / self.settings.batch_size)

    def indices(self, unit: WorkItem) -> range:
        # Evenly: the statistics of a last batch of one would be those of one image.
        first, last = ((unit.batch + i) * len(self.targets) // self.batches for i in (0, 1))
        return range(first, last)

    @property
    def everything(self) -> Targets:
        """All targets and the companions."""
        return self.targets if self.companions is None else self.targets + self.companions

    def wanted(self, unit: WorkItem) -> Targets:
        """The targets of a batch, and after them the companions."""
        part = self.targets[self.indices(unit)]
        return part if self.companions is None else part + self.companions

    def generator(self, unit: WorkItem, step: int) -> torch.Generator:
        # Of the step alone, so that a resumed run needs no state of it.
        text = f'{self.seed} {unit.batch} {unit.restart} {step}'
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], 'little')
        return torch.Generator().manual_seed(number)

    def run(self, unit: WorkItem, search_state: SearchState, show) -> dict:
        settings, net = self.settings, self.net
        indices = self.indices(unit)
        wanted = self.wanted(unit)
        labels, vectors = wanted.labels, wanted.vectors
        samples = labels and _samples(labels, net.device)
        first = unit == WorkItem(0, 0)
        saved = search_state.resume(unit)
        step = saved['step']
        descent = Descent(self._start(unit, len(wanted)), self._limits())
        if step:
            descent.load_state_dict(saved)
            print_log(f'Going on at step {step} of {settings.steps}', 'current')
        history, frames, began_at = saved['history'], saved['frames'], saved['began_at']
        interval, frame_interval = (math.ceil(settings.steps / n) for n in (POINTS, FRAMES))
        started = time.perf_counter() - saved['seconds']

        def seen(pixels: torch.Tensor, statistics: list[BatchStatistics]) -> dict:
            """The terms of pixels, moved as they are in this step."""
            images = self._images(pixels)
            feats = net.feats(self._moved(images, unit, step))
            return self._terms(feats, images, samples, vectors, self._prior(statistics))

        @torch.no_grad()
        def objective(pixels: torch.Tensor) -> float:
            with batch_statistics(self.layers) as statistics:
                return float(seen(pixels, statistics)['objective'])

        while step < settings.steps:
            size = self._resolution(step)
            if descent.pixels.shape[-2:] != size:
                descent.resize(size)
            # Until the gradient is there, as checkpointed layers run once more for it.
            with batch_statistics(self.layers) as statistics:
                try:
                    terms = seen(descent.pixels, statistics)
                    values = {name: float(value.detach()) for name, value in terms.items()}
                    trouble = _words(values)
                except ValueError as error:
                    if step == 0:
                        raise
                    values, trouble = dict(objective=math.nan), str(error)
                if not math.isfinite(values['objective']) and descent.is_lost:
                    raise ValueError(
                        f'the search diverged at step {step} ({trouble}): lower lr, or the weights'
                    )
                # Before the backward pass, for which the device need not be waited for.
                if stands := descent.stands(values, objective if self.moves else None):
                    (gradient,) = torch.autograd.grad(terms['objective'], descent.pixels)
            if began_at is None:
                began_at = values['objective']
            last = step == settings.steps - 1
            now = descent.pixels
            if last or not stands:
                values, now = descent.best['terms'], descent.best['pixels']
            if step % interval == 0 or last:
                history.append(dict(step=step, **values))
                show(step, _short(values))
            if first and (step % frame_interval == 0):
                frames.append(net.to_pixels(self._images(now.detach()[: min(SHOWN, len(indices))])))
            if stands:
                descent.step(gradient, settings.learning_rate(step))
            step += 1
            if step % search_state.interval == 0 and not last:
                seconds = time.perf_counter() - started
                search_state.save(unit, step, descent, history, frames, began_at, seconds)
        with torch.no_grad():
            # The last step was not judged, and by other moves the best may have been another.
            ends = [self._images(p) for p in (descent.best['pixels'], descent.pixels)]
            ends = [net.to_pixels(images) for images in ends]
            if torch.equal(*ends):
                ends.pop()
            final, ended_at, columns = min(
                ((end, *self._per_image(end, wanted)) for end in ends), key=lambda end: end[1]
            )
            if first:
                frames.append(final[: min(SHOWN, len(indices))])
            result = dict(
                batch=unit.batch,
                restart=unit.restart,
                first=indices.start,
                images=final[: len(indices)],
                terms={name: values[: len(indices)] for name, values in columns.items()},
                began_at=began_at,
                ended_at=ended_at,
                history=history,
                frames=frames,
                seconds=time.perf_counter() - started,
            )
        search_state.finish(unit, result)
        return result

    def _start(self, unit: WorkItem, number: int) -> torch.Tensor:
        channels = 1 if self.settings.gray else len(self.net.mean)
        noise = torch.randn(
            number, channels, *self._resolution(0), generator=self.generator(unit, -1)
        )
        return (noise * self.settings.init_std).to(self.net.device)

    def _resolution(self, step: int) -> tuple[int, int]:
        scale = self.settings.scale(step)
        return tuple(max(1, side // scale) for side in self.net.size)

    def _images(self, pixels: torch.Tensor) -> torch.Tensor:
        """The model's input for what is optimized."""
        if pixels.shape[-2:] != self.net.size:
            pixels = resize(pixels, self.net.size)
        if not self.settings.gray:
            # Autocast would go on with its first copy of a leaf, which the steps change in place.
            return pixels.view_as(pixels)
        mean, std = self.net.mean, self.net.std
        return (pixels * std.mean() + mean.mean() - mean) / std

    def _limits(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        if not self.settings.clip:
            return None
        mean, std = self.net.mean, self.net.std
        if self.settings.gray:
            mean, std = mean.mean(), std.mean()
        return -mean / std, (255 - mean) / std

    @property
    def moves(self) -> bool:
        """Whether the model sees the same images otherwise in every step."""
        return bool(self.settings.jitter or self.settings.flip)

    def _moved(self, images: torch.Tensor, unit: WorkItem, step: int) -> torch.Tensor:
        jitter = self.settings.jitter
        if not self.moves:
            return images
        generator = self.generator(unit, step)
        if jitter:
            moves = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
            images = images.roll(moves, (2, 3))
        if self.settings.flip and torch.rand((), generator=generator) < 0.5:
            images = images.flip(3)
        return images

    def _terms(
        self,
        feats: tuple[torch.Tensor, ...],
        images: torch.Tensor,
        samples: list[DataSample] | None,
        vectors: torch.Tensor | None,
        prior: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """The terms of a batch, means over its images, and the ``objective``, their sum.

        ``feats`` are those of the images as the model sees them, which may have been moved.
        """
        net, settings = self.net, self.settings
        terms = {}
        if samples is not None:
            terms['target'] = net.class_loss(feats, samples)
        if vectors is not None:
            name = 'target' if samples is None else 'center'
            terms[name] = embedding_distances(net.embeddings(feats), vectors).mean()
        if prior is not None:
            terms['bn'] = prior
        terms['total_variation'] = total_variation(images, settings.tv_variant)
        terms['l2'] = image_energy(images)
        return terms | dict(objective=self._weighted(terms))

    def _prior(self, statistics: list[BatchStatistics]) -> torch.Tensor | None:
        return bn_prior(statistics, self.settings.bn_variant) if self.layers else None

    def _weighted(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        s = self.settings
        weights = dict(
            target=s.target_weight,
            center=s.center_weight,
            bn=s.bn_weight,
            total_variation=s.tv_weight,
            l2=s.l2_weight,
        )
        return sum(weights[name] * value for name, value in terms.items() if weights[name])

    def _per_image(
        self, pixels: torch.Tensor, wanted: Targets
    ) -> tuple[float, dict[str, list[float]]]:
        """The objective of a batch of 8-bit images, and the terms of each, alone but for BN."""
        net, vectors = self.net, wanted.vectors
        samples = wanted.labels and _samples(wanted.labels, net.device)
        images = net.from_pixels(pixels)
        with batch_statistics(self.layers) as statistics:
            feats = net.feats(images)
        prior = self._prior(statistics)
        columns: dict[str, list[float]] = {}
        for i in range(len(images)):
            row = slice(i, i + 1)
            terms = self._terms(
                tuple(feat[row] for feat in feats),
                images[row],
                samples and samples[row],
                None if vectors is None else vectors[row],
                prior,
            )
            if vectors is not None:
                # |a - b|^2 = 2 - 2 cos of unit vectors.
                terms['cosine'] = 1 - terms['target' if samples is None else 'center'] / 2
            for name, value in terms.items():
                columns.setdefault(name, []).append(float(value))
        batch = self._terms(feats, images, samples, vectors, prior)
        return float(batch['objective']), columns


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
            f'{part["began_at"]:.4g} and is {part["ended_at"]:.4g}. The images mean nothing: lower '
            'lr, or raise steps',
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


def _samples(labels: list[int], device: torch.device) -> list[DataSample]:
    return [DataSample().set_gt_label(label).to(device) for label in labels]


def _words(terms: dict[str, float]) -> str:
    return ', '.join(f'{name} {value:.4g}' for name, value in terms.items())


def _short(terms: dict[str, float]) -> str:
    """All terms beside the progress in a terminal of 80 columns."""
    names = dict(objective='total', total_variation='tv')
    terms = dict(objective=terms['objective']) | terms
    return ' '.join(f'{names.get(name, name)} {value:.4g}' for name, value in terms.items())


def _bar(visible: bool) -> Progress:
    return Progress(
        TextColumn('{task.percentage:>3.0f}%'),
        TimeRemainingColumn(),
        TextColumn('{task.fields[terms]}'),
        disable=not visible,
    )
