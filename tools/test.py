"""Test a checkpoint: python tools/test.py CONFIG [CHECKPOINT]."""

import argparse
from pathlib import Path

import mmengine
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from mmarcface.engine.launch import add_common_arguments, build_runner, check_data, load_config
from mmarcface.engine.saved_weights import keep_loaded_weights, trained_model
from mmarcface.evaluation.thresholds import save_thresholds, thresholds_file
from mmarcface.models.retrievers.gallery import fingerprint_model

METRICS = ('.json', '.yml', '.yaml')
PREDICTIONS = ('.pkl', '.pickle')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='path or URL of the checkpoint; none for a model without parameters',
    )
    parser.add_argument('--amp', action='store_true', help='test in mixed precision')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='write the figures (.json, .yml) or the embedding of every image (.pkl) here',
    )
    # Intermixed, as parse_args takes no optional checkpoint that comes after an option.
    args = parser.parse_intermixed_args()
    if args.out and not args.out.endswith(METRICS + PREDICTIONS):
        parser.error(f'--out must end in one of {", ".join(METRICS + PREDICTIONS)}, got {args.out}')
    return args


def write_thresholds(runner: Runner, checkpoint: str | None) -> None:
    """Keep the thresholds that the metrics found, beside the checkpoint where there is a file."""
    calibrations = {
        f'{metric.prefix}/{name}'.rstrip('/'): found
        for metric in runner.test_evaluator.metrics
        for name, found in getattr(metric, 'calibrations', {}).items()
    }
    if not calibrations:
        return
    beside = checkpoint is not None and Path(checkpoint).is_file()
    places = [thresholds_file(checkpoint)] if beside else []
    for place in [*places, Path(runner.work_dir, 'thresholds.json')]:
        try:
            save_thresholds(place, fingerprint_model(trained_model(runner)), calibrations)
        except OSError:  # A folder of others, or read-only: the work dir is ours.
            continue
        runner.logger.info(f'Thresholds are in {place}')
        break


def main() -> None:
    args = parse_args()
    config = load_config(args)
    config.load_from = args.checkpoint
    if args.amp:
        config.test_cfg.fp16 = True
    runner = build_runner(config)
    keep_loaded_weights(runner)
    parameter = next((name for name, _ in runner.model.named_parameters()), None)
    if args.checkpoint is None and parameter is not None:
        raise SystemExit(
            f'test.py: error: a checkpoint is needed: the model has parameters, such as {parameter}'
        )
    check_data(runner.test_loop)
    if args.out and args.out.endswith(PREDICTIONS):
        runner.test_evaluator.metrics.append(DumpResults(args.out))
    figures = runner.test()
    if is_main_process():
        if args.out and args.out.endswith(METRICS):
            mmengine.dump(figures, args.out)
        write_thresholds(runner, args.checkpoint)


if __name__ == '__main__':
    main()
