"""The end of a training: what was reached, beside a baseline, and what to do next."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, find_latest_checkpoint
from rich.console import Console
from rich.table import Table

from mmarcface.models import EmbeddingRetriever
from mmarcface.registry import HOOKS


@HOOKS.register_module()
class ResultsTableHook(Hook):
    """Ends a training with a table of the last validation, and the commands that come next.

    The baseline is an encoder that needs no training, evaluated in the same run on the same data
    with the same metrics and preprocessing.

    Args:
        title: the heading of the table.
        figures: names of the metrics' figures to show; all by default.
        baseline: config of an image encoder, such as ``dict(type='mmarcface.Pixels')``; none by
            default.
    """

    def __init__(
        self,
        title: str = 'Results',
        figures: Sequence[str] | None = None,
        baseline: dict | None = None,
    ):
        self.title = title
        self.figures = figures
        self.baseline = baseline
        self.latest = None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Remember the figures of the last validation.

        Raises:
            ValueError: if one of ``figures`` is none of the metrics'.
        """
        self.latest = metrics
        unknown = [name for name in self.figures or [] if name not in metrics]
        if unknown:
            raise ValueError(f'figures must be among {list(metrics)}, got {unknown[0]!r}')

    def after_train(self, runner: Runner) -> None:
        """Log the table and the next commands."""
        if not self.latest:
            return
        rows = {'this model': self.latest}
        if self.baseline is not None:
            rows[self.baseline_name] = self._evaluate_baseline(runner)
        figures = self.figures or list(self.latest)
        table = Table(title=f'{self.title} (percent)', title_justify='left')
        table.add_column('')
        for name in figures:
            table.add_column(name.split('/')[-1], justify='right')
        for model, values in rows.items():
            table.add_row(model, *(f'{values[name]:.2f}' for name in figures))
        text = io.StringIO()
        Console(file=text, width=20 + 16 * len(figures)).print(table)
        runner.logger.info(f'\n{text.getvalue()}{self._next_steps(runner)}')

    @property
    def baseline_name(self) -> str:
        """The encoder's class, as a word in the table."""
        kind = self.baseline['type']
        return (kind if isinstance(kind, str) else kind.__name__).split('.')[-1].lower()

    @torch.no_grad()
    def _evaluate_baseline(self, runner: Runner) -> dict[str, float]:
        trained = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model = EmbeddingRetriever(
            self.baseline, data_preprocessor=trained.data_preprocessor
        ).eval()
        evaluator = runner.build_evaluator(runner.cfg.val_evaluator)
        evaluator.dataset_meta = runner.val_dataloader.dataset.metainfo
        for batch in runner.val_dataloader:
            evaluator.process(data_samples=model.test_step(batch), data_batch=batch)
        return evaluator.evaluate(len(runner.val_dataloader.dataset))

    @staticmethod
    def _next_steps(runner: Runner) -> str:
        config = Path(runner.cfg.filename)
        # As mmengine wrote it, with all that the command line changed.
        used = Path(runner.work_dir, config.name)
        checkpoint = find_latest_checkpoint(runner.work_dir)
        test = shlex.join(['python', 'tools/test.py', str(used), str(checkpoint)])
        return (
            'Next, test the checkpoint, and search a folder of images of your own with it:\n'
            f'  {test} --out figures.json\n'
            '  python -c "from mmarcface.apis import ImageRetrievalInferencer as Search; '
            f"print(Search('{config}', 'FOLDER', pretrained='{checkpoint}', head=None)"
            "('IMAGE', topk=3))\"\n"
        )
