"""Measure speed and memory, as ratios within one run: python tools/benchmark.py COMMAND."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mmarcface.evaluation import RetrievalMetric
from mmarcface.functional.retrieval import SCORES_PER_BLOCK


def best_times(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least seconds of each candidate over rounds in which they take turns."""
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


def peak_extra_memory(run: Callable[[], object]) -> float | None:
    """Most resident memory during a call above that before it, in bytes; Linux only."""
    status, clear = Path('/proc/self/status'), Path('/proc/self/clear_refs')
    if not status.exists():
        return None

    def resident(field: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024

    clear.write_text('5')
    before = resident('VmRSS')
    run()
    return resident('VmHWM') - before


def retrieval(args: argparse.Namespace) -> dict:
    """RetrievalMetric against the bare matrix products between queries and gallery.

    Defaults are the size of In-Shop. The metric starts from the collected embeddings, and its
    memory is counted above them.
    """
    generator = torch.Generator().manual_seed(0)
    vectors = {
        role: torch.randn(number, args.dim, generator=generator)
        for role, number in (('query', args.queries), ('gallery', args.gallery))
    }
    labels = {
        role: (torch.arange(len(rows)) % args.items).tolist() for role, rows in vectors.items()
    }

    def collect() -> RetrievalMetric:
        metric = RetrievalMetric(recall_at=(1, 10, 20, 30, 40, 50), map_at=(10,))
        first = 0
        for role, rows in vectors.items():
            for start in range(0, len(rows), 32):
                metric.process(
                    None,
                    [
                        dict(
                            embedding=rows[i],
                            gt_label=torch.tensor([labels[role][i]]),
                            sample_idx=first + i,
                            role=role,
                        )
                        for i in range(start, min(start + 32, len(rows)))
                    ],
                )
            first += len(rows)
        return metric

    size = args.queries + args.gallery
    rows = max(1, SCORES_PER_BLOCK // args.gallery)
    buffer = torch.empty(rows, args.gallery)

    def products() -> None:
        for block in vectors['query'].split(rows):
            torch.mm(block, vectors['gallery'].T, out=buffer[: len(block)])

    metrics = [collect() for _ in range(args.rounds)]
    extra = peak_extra_memory(lambda: metrics[0].evaluate(size))
    metrics[0] = collect()
    waiting = iter(metrics)
    seconds = best_times(
        {'metric': lambda: next(waiting).evaluate(size), 'limit': products}, args.rounds
    )
    return {
        'metric_ms': 1000 * seconds['metric'],
        'limit_ms': 1000 * seconds['limit'],
        'ratio': seconds['metric'] / seconds['limit'],
        'embeddings_mb': 4e-6 * size * args.dim,
        'extra_memory_mb': extra and extra / 1e6,
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--rounds', type=int, default=3, help='turns, of which the least counts')
    common.add_argument('--json', metavar='FILE', help='write the figures here too')

    command = commands.add_parser('retrieval', parents=[common], help=retrieval.__doc__)
    command.add_argument('--queries', type=int, default=14218)
    command.add_argument('--gallery', type=int, default=12612)
    command.add_argument('--items', type=int, default=3985)
    command.add_argument('--dim', type=int, default=2048)
    command.set_defaults(run=retrieval)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(f'torch {torch.__version__}, {torch.get_num_threads()} threads, {args.rounds} rounds')
    figures = args.run(args)
    for name, value in figures.items():
        print(f'{name:20} {value:12.2f}' if value is not None else f'{name:20} not measured')
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2))


if __name__ == '__main__':
    main()
