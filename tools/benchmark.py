"""Measure speed and memory, as ratios within one run: python tools/benchmark.py COMMAND."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import mmarcface.plugin  # isort: skip  # noqa: F401 - hides mmcv-lite's warning, if it is first

from mmarcface.apis.benchmarks.heads import LOSSES, measure_heads, measure_step
from mmarcface.apis.benchmarks.inversion import measure_inversion
from mmarcface.apis.benchmarks.models import NETS, RUNS, measure_models
from mmarcface.apis.benchmarks.reading import measure_reading
from mmarcface.apis.benchmarks.retrieval import measure_retrieval
from mmarcface.cli import ArgumentParser, run_command
from mmarcface.functional.losses import IMPLEMENTATIONS


def print_table(rows: list[dict]) -> None:
    """Print rows with the same keys as columns."""
    cells = [list(rows[0])] + [[_text(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print('  '.join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _text(value: object) -> str:
    if value is None:
        return 'not measured'
    return f'{value:.2f}' if isinstance(value, float) else str(value)


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--rounds', type=int, default=15, help='number of rounds, of which the fastest counts'
    )
    common.add_argument('--json', metavar='FILE', help='file for the figures')
    command = commands.add_parser('head', parents=[common], help=_about(measure_heads))
    command.add_argument('--batch', type=int, default=128, help='number of embeddings in a batch')
    command.add_argument('--dim', type=int, default=512, help='dimensions of the embeddings')
    command.add_argument(
        '--subcenters', type=int, default=1, help='number of centers of each class'
    )
    command.add_argument(
        '--classes', type=int, nargs='+', default=[85742], help='numbers of classes'
    )
    command.add_argument(
        '--loss',
        dest='losses',
        nargs='+',
        choices=LOSSES,
        default=['arcface'],
        help='losses to measure',
    )
    command.add_argument(
        '--impl',
        dest='implementations',
        nargs='+',
        choices=IMPLEMENTATIONS,
        default=['fused', 'chunked'],
        help='implementations to measure',
    )
    command.add_argument(
        '--no-peers', dest='peers', action='store_false', help='measure no other libraries'
    )
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    command.add_argument('--device', default=device, help=f'{device} by default here')
    command.set_defaults(measure=measure_heads)

    command = commands.add_parser('step', parents=[common], help=_about(measure_step))
    command.add_argument('--batch', type=int, default=512, help='number of embeddings in a batch')
    command.add_argument('--dim', type=int, default=512, help='dimensions of the embeddings')
    command.add_argument(
        '--subcenters', type=int, default=1, help='number of centers of each class'
    )
    command.add_argument('--classes', type=int, default=1_000_000, help='number of classes')
    command.add_argument('--loss', choices=LOSSES, default='arcface', help='loss to measure')
    command.add_argument(
        '--impl',
        dest='implementation',
        choices=IMPLEMENTATIONS,
        default='auto',
        help='implementation to measure',
    )
    command.set_defaults(measure=measure_step)

    command = commands.add_parser('retrieval', parents=[common], help=_about(measure_retrieval))
    command.add_argument('--queries', type=int, default=14218, help='number of query images')
    command.add_argument('--gallery', type=int, default=12612, help='number of gallery images')
    command.add_argument(
        '--items', type=int, default=3985, help='number of items that the images show'
    )
    command.add_argument('--dim', type=int, default=2048, help='dimensions of the embeddings')
    command.set_defaults(measure=measure_retrieval)

    command = commands.add_parser('data', parents=[common], help=_about(measure_reading))
    command.add_argument('--images', type=int, default=2000, help='number of images to write')
    command.add_argument('--folder', help='folder of identities to read instead')
    command.add_argument(
        '--workers',
        type=int,
        nargs='*',
        default=[0, 1, 2],
        help='numbers of DataLoader workers to measure',
    )
    command.set_defaults(measure=measure_reading)

    command = commands.add_parser('inversion', parents=[common], help=_about(measure_inversion))
    command.add_argument('--depth', type=int, default=18, help='depth of the IResNet')
    command.add_argument(
        '--batch', type=int, default=16, help='number of images that are searched for together'
    )
    command.add_argument(
        '--size', type=int, default=112, help='width and height of the images in pixels'
    )
    command.add_argument('--device', default=device, help=f'{device} by default here')
    command.set_defaults(measure=measure_inversion)

    command = commands.add_parser('model', parents=[common], help=_about(measure_models))
    command.add_argument(
        '--model',
        dest='models',
        nargs='+',
        metavar='MODEL',
        default=list(NETS),
        help=f'{", ".join(NETS)}, or configs; all of the former by default',
    )
    command.add_argument(
        '--run',
        dest='runs',
        nargs='+',
        choices=RUNS,
        default=list(RUNS),
        help='ways to run each of them, all by default',
    )
    command.add_argument('--batch', type=int, default=32, help='number of images in a batch')
    command.set_defaults(measure=measure_models)
    return parser


def _about(measure: Callable) -> str:
    """What a function measures, without its arguments."""
    return inspect.getdoc(measure).partition('\n\nArgs:')[0]


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    print(f'torch {torch.__version__}, {torch.get_num_threads()} threads, {args.rounds} rounds')
    settings = inspect.signature(args.measure).parameters
    rows = args.measure(**{name: getattr(args, name) for name in settings})
    print_table(rows)
    if args.json:
        # An inversion has a single row.
        figures = rows[0] if args.measure is measure_inversion else rows
        Path(args.json).write_text(json.dumps(figures, indent=2))


if __name__ == '__main__':
    run_command(main)
