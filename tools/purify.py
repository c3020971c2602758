"""Find mislabeled samples of a training set: python tools/purify.py CONFIG CHECKPOINT --out DIR.

python tools/purify.py run CONFIG trains with K centers a class, purifies, and trains with one
center a class on what is kept and, to compare, on everything.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import mmengine
from mmengine.config import Config
from mmengine.dist import is_main_process
from rich.console import Console
from rich.table import Table

from mmarcface.cli import ArgumentParser, command_of, run_command
from mmarcface.engine.launch import add_common_arguments, load_config, start_processes
from mmarcface.engine.purification_pipeline import (
    CLEAN,
    NOISY,
    PURIFIED,
    purify_checkpoint,
    run_stages,
    with_seed,
)

FOUND = ('kept', 'dropped', 'relabeled')
# Ends of the names of figures that the table leaves out: intervals, and what is no merit.
NOT_COMPARED = ('_low', '_high', '_std', 'Threshold')
LESS_IS_BETTER = ('EER',)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    find = commands.add_parser(
        'find', help='purify with a checkpoint; the word find may be left out'
    )
    add_common_arguments(find)
    find.add_argument('checkpoint', help='path or URL of the checkpoint')
    find.add_argument(
        '--out',
        metavar='DIR',
        help='folder of the results; ./work_dirs/CONFIG/purification by default',
    )
    find.set_defaults(run=purify_once)
    stages = commands.add_parser('run', help='train, purify, and train on what is kept')
    add_common_arguments(stages)
    stages.add_argument(
        '--seeds',
        type=int,
        nargs='+',
        help='seeds of training and of NoisyLabels; every stage runs once for each seed',
    )
    stages.add_argument(
        '--ceiling',
        action='store_true',
        help='also train on the true labels, to compare; the data set must be a NoisyLabels',
    )
    stages.set_defaults(run=run_for_seeds)
    for command in (find, stages):
        _add_settings(command)
    if argv and argv[0] not in (*commands.choices, '-h', '--help'):
        argv = ['find', *argv]
    return parser.parse_args(argv)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    settings = parser.add_argument_group(
        'settings', "those of the config's purification by default"
    )
    settings.add_argument(
        '--threshold',
        type=degrees,
        metavar='auto|DEGREES',
        help='largest angle to the dominant center; auto, the default, finds it from the angles',
    )
    settings.add_argument(
        '--min-per-class', type=int, metavar='N', help='keep at least N samples of each class'
    )
    settings.add_argument(
        '--relabel',
        action='store_true',
        default=None,
        help='give a sample to another class that it is near to, instead of dropping it',
    )
    parser.add_argument(
        '--format', choices=('csv', 'parquet'), default='csv', help='format of the lists'
    )


def degrees(text: str) -> float | str:
    return text if text == 'auto' else float(text)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    config = load_config(args)
    settings = dict(config.get('purification', {}))
    given = {name: getattr(args, name) for name in ('threshold', 'min_per_class', 'relabel')}
    settings |= {name: value for name, value in given.items() if value is not None}
    if args.launcher != 'none':
        start_processes(config)
    args.run(args, config, settings)


def purify_once(args: argparse.Namespace, config: Config, settings: dict) -> None:
    out = Path(args.out or Path(config.work_dir, 'purification'))
    summary = purify_checkpoint(config, args.checkpoint, out, settings, args.format)
    if summary is not None:
        print(describe(summary))
        command = shlex.join([*command_of('train'), str(out / 'purified.py')])
        print(
            f'Lists, summary.json and figures are in {out}. To train on what is kept, with one '
            f'center a class:\n{command}'
        )


def run_for_seeds(args: argparse.Namespace, config: Config, settings: dict) -> None:
    seeds = args.seeds or [config.get('randomness', {}).get('seed') or 0]
    runs = []
    for seed in seeds:
        own = with_seed(config, seed)
        own.work_dir = str(Path(config.work_dir, f'seed{seed}'))
        results = run_stages(own, settings, args.format, args.ceiling)
        if is_main_process():
            mmengine.dump(results, Path(own.work_dir, 'results.json'), indent=1)
            runs.append(results)
    if is_main_process():
        show(runs, seeds)
        print(f'Lists and figures are in {config.work_dir}/seed*/purification')


def describe(summary: dict) -> str:
    """What a purification found, in a few lines."""
    how = 'given'
    if summary['auto']:
        auto = summary['auto']
        how = f'found from the angles, with an estimated {auto["noise_share"]:.1%} wrong labels'
    lines = [
        ', '.join(f'{summary[name]} {name}' for name in FOUND if summary[name])
        + f' of {summary["samples"]} samples in {summary["classes"]} classes',
        f'threshold {summary["threshold"]:.1f} degrees, {how}',
    ]
    if summary['dropped'] > summary['samples'] / 2:
        lines.append('more than half of the samples are dropped: was the net trained to its end?')
    if summary['below_minimum']:
        lines.append(
            f'in {summary["below_minimum"]} classes samples are kept beyond it, as '
            f'{summary["min_per_class"]} are to stay in each (--min-per-class)'
        )
    truth = summary['truth']
    if truth:
        lines.append(
            'by the truth: ' + ', '.join(f'{k} {v:.3f}' for k, v in truth.items() if v is not None)
        )
    return '\n'.join(lines)


def show(runs: list[dict], seeds: list[int]) -> None:
    """The mean over the seeds, a column for each stage."""
    stages = [stage for stage in runs[0] if stage != 'purification']
    title = f'Mean of seeds {", ".join(map(str, seeds))}' if len(seeds) > 1 else f'Seed {seeds[0]}'
    table = Table(title=title, title_justify='left')
    for column in ['', *stages, *['won back'] * (CLEAN in stages)]:
        table.add_column(column, justify='right' if column else 'left')
    for name in runs[0][PURIFIED]:
        if name.endswith(NOT_COMPARED):
            continue
        values = {stage: mean(run[stage][name] for run in runs) for stage in stages}
        cells = [f'{value:.2f}' for value in values.values()]
        if CLEAN in stages:
            sign = -1 if name.endswith(LESS_IS_BETTER) else 1
            lost, won = values[CLEAN] - values[NOISY], values[PURIFIED] - values[NOISY]
            cells.append(f'{won / lost:.0%}' if sign * lost > 0 else '-')
        table.add_row(name.partition('/')[2] or name, *cells)
    Console(width=100).print(table)
    for seed, results in zip(seeds, runs, strict=True):
        print(f'Seed {seed}: {describe(results["purification"])}')


if __name__ == '__main__':
    run_command(main)
