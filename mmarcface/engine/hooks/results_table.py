"""The end of a training: what was reached, beside a baseline, and what to do next."""

from __future__ import annotations

import copy
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from mmarcface.checkpoint import open_training
from mmarcface.cli import command_of
from mmarcface.engine.resuming import latest_checkpoint
from mmarcface.engine.saved_weights import require_averaged_figures, trained_model
from mmarcface.models import EmbeddingRetriever
from mmarcface.registry import HOOKS


@HOOKS.register_module()
class ResultsTableHook(Hook):
    """Ends a training with a table of the last validation, and the commands that come next.

    The baseline is an encoder that needs no training, evaluated in the same run on the same data
    with the same metrics and preprocessing.

    Args:
        title: the heading of the table.
        figures: names of the metrics' figures to show; all by default. One that the metrics do not
            give is named in the log at the first validation, and left out.
        baseline: config of an image encoder, such as ``dict(type='mmarcface.RawPixels')``; none by
            default.
        ranges: figures of other runs of the recipe, which show how much one run may differ: by
            name of the row, such as 'seeds 0 to 4', the lowest and highest value of each figure, in
            percent.

    Raises:
        ValueError: if a range is not of two numbers, the lower one first.
    """

    # After CheckpointHook.
    priority = 'VERY_LOW'

    def __init__(
        self,
        title: str = 'Results',
        figures: Sequence[str] | None = None,
        baseline: dict | None = None,
        ranges: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    ):
        for name, row in (ranges or {}).items():
            for figure, ends in row.items():
                if len(ends) != 2 or not ends[0] <= ends[1]:
                    raise ValueError(
                        f'ranges[{name!r}][{figure!r}] must be the lowest and the highest value, '
                        f'got {ends}'
                    )
        self.title = title
        self.figures = figures
        self.baseline = baseline
        self.ranges = ranges or {}
        self.latest = None

    def before_train(self, runner: Runner) -> None:
        """Build the baseline, so that a wrong one is noticed at once."""
        require_averaged_figures(runner)
        if self.baseline is not None:
            preprocessor = trained_model(runner).data_preprocessor
            self.encoder = EmbeddingRetriever(self.baseline, data_preprocessor=preprocessor).eval()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Remember the figures of the last validation."""
        unknown = [name for name in self.figures or [] if name not in metrics]
        if unknown and self.latest is None:
            runner.logger.error(
                f'figures of ResultsTableHook must be among {list(metrics)}, got {unknown[0]!r}: '
                'it will not be in the table',
            )
        self.latest, self.validated = metrics, runner.iter

    def after_train(self, runner: Runner) -> None:
        """Log the table and the next commands."""
        if not self.latest:
            return
        rows = {'this model': self.latest}
        if self.baseline is not None:
            rows[self.baseline_name] = self._evaluate_baseline(runner)
        names = self.figures or self.latest
        figures = [name for name in names if name in self.latest]
        table = Table(title=f'{self.title} (percent)', title_justify='left')
        table.add_column('')
        for name in figures:
            table.add_column(name.split('/')[-1], justify='right')
        cells = {
            row: {name: f'{values[name]:.2f}' for name in figures} for row, values in rows.items()
        }
        for row, ends in self.ranges.items():
            cells[row] = {name: f'{low:.2f}-{high:.2f}' for name, (low, high) in ends.items()}
        for row, values in cells.items():
            table.add_row(row, *(values.get(name, '') for name in figures))
        text = io.StringIO()
        Console(file=text, width=24 + 16 * len(figures)).print(table)
        runner.logger.info(f'\n{text.getvalue()}{self._next_steps(runner)}')

    @property
    def baseline_name(self) -> str:
        """Name of the encoder's class."""
        kind = self.baseline['type']
        return (kind if isinstance(kind, str) else kind.__name__).split('.')[-1]

    @torch.no_grad()
    def _evaluate_baseline(self, runner: Runner) -> dict[str, float]:
        loop = runner.val_loop
        # A copy: metrics keep what they find, such as thresholds, and must keep the model's.
        evaluator = copy.deepcopy(loop.evaluator)
        for batch in loop.dataloader:
            evaluator.process(data_samples=self.encoder.test_step(batch), data_batch=batch)
        return evaluator.evaluate(len(loop.dataloader.dataset))

    def _next_steps(self, runner: Runner) -> str:
        checkpoint = latest_checkpoint(runner.work_dir)
        if checkpoint is None:
            return 'No checkpoint was kept: set interval or save_last of CheckpointHook\n'
        note, saved = '', open_training(checkpoint)['meta']['iter']
        if saved != self.validated:
            note = (
                f'The figures are of iteration {self.validated}, and the last checkpoint, '
                f'{checkpoint}, is of {saved}\n'
            )
        if 'model' not in runner.cfg:  # A runner that was not built from a config.
            return note or f'The checkpoint is {checkpoint}\n'
        # The config as mmengine wrote it, with the changes of the command line.
        name = Path(runner.cfg.filename or f'{runner.timestamp}.py').name
        used = str(Path(runner.work_dir, name))
        # In double quotes, which the shell's single ones leave as they are.
        paths = [json.dumps(file, ensure_ascii=False) for file in (used, checkpoint)]
        search = (
            'from mmarcface.apis import ImageRetrievalInferencer as Search; '
            f'print(Search({paths[0]}, "FOLDER", pretrained={paths[1]}, head=None)'
            '("IMAGE", topk=3))'
        )
        return (
            f'{note}Next, test the checkpoint, and search a folder of images of your own with it:\n'
            f'  {shlex.join([*command_of("test"), used, checkpoint])} --out figures.json\n'
            f'  {shlex.join(["python", "-c", search])}\n'
        )
