"""Test a checkpoint: python tools/test.py CONFIG CHECKPOINT."""

import argparse

import mmengine
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults

from mmarcface.engine.launch import add_common_arguments, build_runner, check_data, load_config

METRICS = ('.json', '.yml', '.yaml')
PREDICTIONS = ('.pkl', '.pickle')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--amp', action='store_true', help='test in mixed precision')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='write the figures (.json, .yml) or the embedding of every image (.pkl) here',
    )
    args = parser.parse_args()
    if args.out and not args.out.endswith(METRICS + PREDICTIONS):
        parser.error(f'--out must end in one of {", ".join(METRICS + PREDICTIONS)}, got {args.out}')
    return args


def main() -> None:
    args = parse_args()
    config = load_config(args)
    config.load_from = args.checkpoint
    if args.amp:
        config.test_cfg.fp16 = True
    runner = build_runner(config)
    check_data(runner.test_loop)
    if args.out and args.out.endswith(PREDICTIONS):
        runner.test_evaluator.metrics.append(DumpResults(args.out))
    figures = runner.test()
    if args.out and args.out.endswith(METRICS) and is_main_process():
        mmengine.dump(figures, args.out)


if __name__ == '__main__':
    main()
