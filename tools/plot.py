"""Draw the embeddings that a loss leads to: python tools/plot.py mnist."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from mmarcface.cli import ArgumentParser, run_command
from mmarcface.engine import EmbeddingPlotHook
from mmarcface.engine.config_files import KeyValues
from mmarcface.engine.launch import load_config, train_unless_done
from mmarcface.visualization import EmbeddingPanel, draw_embeddings

CONFIGS = Path(__file__).resolve().parent.parent / 'configs' / 'mnist'
# In the order of their publication.
LOSSES = {
    'softmax': 'softmax',
    'weight norm': 'weight-norm',
    'SphereFace': 'sphereface',
    'feature norm': 'normsoftmax',
    'CosFace': 'cosface',
    'ArcFace': 'arcface',
}


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    mnist = commands.add_parser(
        'mnist', help='embed the digits of MNIST with six losses, trained first'
    )
    mnist.add_argument(
        '--dim',
        type=int,
        choices=(2, 3),
        default=3,
        help='dimensions of the embeddings: a plane or a sphere',
    )
    mnist.add_argument(
        '--work-dir', help='folder for the trainings; ./work_dirs/mnist-3d by default'
    )
    mnist.add_argument(
        '--out', metavar='FILE', help='path of the figure; WORK_DIR/evolution.png by default'
    )
    mnist.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValues,
        default={},
        help='change all six configs: key=value ..., as in tools/train.py',
    )
    return parser


def train(config: Config) -> EmbeddingPanel:
    """Train a model unless the work dir has it, and return its embeddings."""
    runner = train_unless_done(config)
    hook = next(hook for hook in runner.hooks if isinstance(hook, EmbeddingPlotHook))
    if hook.panel is None:
        runner.val()
    return hook.panel


def plot_mnist(args: argparse.Namespace) -> None:
    work_dir = Path(args.work_dir or f'work_dirs/mnist-{args.dim}d')
    ending = {2: '', 3: '-3d'}[args.dim]
    panels = []
    for name, loss in LOSSES.items():
        start = time.perf_counter()
        path = CONFIGS / f'lenet-{loss}_mnist{ending}.py'
        config = load_config(
            argparse.Namespace(
                config=str(path),
                work_dir=str(work_dir / path.stem),
                cfg_options=args.cfg_options,
                launcher='none',
            )
        )
        # Six logs would hide the table.
        config.log_level = 'WARNING'
        panels.append(replace(train(config), title=name))
        print(f'{name}: {time.perf_counter() - start:.0f} s', flush=True)
    out = Path(args.out or work_dir / 'evolution.png')
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_embeddings(panels).savefig(out, dpi=100)
    table = Table(title=f'Held-out digits in {args.dim} dimensions', title_justify='left')
    table.add_column('')
    for figure in panels[0].statistics:
        table.add_column(figure, justify='right')
    for panel in panels:
        table.add_row(panel.title, *(f'{value:.1f}' for value in panel.statistics.values()))
    Console(width=80).print(table)
    print(f'The figure is in {out}')


def main(argv: Sequence[str] | None = None) -> None:
    plot_mnist(build_parser().parse_args(argv))


if __name__ == '__main__':
    run_command(main)
