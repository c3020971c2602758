"""Test a checkpoint: python tools/test.py CONFIG [CHECKPOINT]."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import mmengine
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from mmarcface.cli import ArgumentParser, run_command
from mmarcface.datasets.transforms.align_face import alignment_of
from mmarcface.datasets.wrappers import pipeline_of
from mmarcface.engine.launch import add_common_arguments, build_runner, check_data, load_config
from mmarcface.engine.saved_weights import remove_averaging_hooks, trained_model
from mmarcface.evaluation.thresholds import Thresholds, save_thresholds, thresholds_file
from mmarcface.fingerprints import fingerprint_model
from mmarcface.manifest import describe_model, load_manifest

METRICS = ('.json', '.yml', '.yaml')
PREDICTIONS = ('.pkl', '.pickle')


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='path or URL of the checkpoint; not needed for a model without parameters',
    )
    parser.add_argument(
        '--untrained',
        action='store_true',
        help='test the weights that training starts from, without a checkpoint: random ones by '
        'randomness.seed, or 0, except where an init_cfg names a file; writes no thresholds',
    )
    parser.add_argument('--amp', action='store_true', help='test in mixed precision')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='file for the figures (.json, .yml) or the embeddings of all images (.pkl)',
    )
    return parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = build_parser()
    # parse_args does not accept an optional checkpoint after an option.
    args = parser.parse_intermixed_args(argv)
    if args.out and not args.out.endswith(METRICS + PREDICTIONS):
        parser.error(f'--out must end in one of {", ".join(METRICS + PREDICTIONS)}, got {args.out}')
    if args.untrained and args.checkpoint is not None:
        parser.error(f'--untrained takes no checkpoint, got {args.checkpoint}')
    return args


def write_thresholds(runner: Runner, checkpoint: str | None) -> None:
    """Write the thresholds that the metrics chose: beside the checkpoint, or into the work dir."""
    calibrations = {
        f'{metric.prefix}/{name}'.rstrip('/'): found
        for metric in runner.test_evaluator.metrics
        for name, found in getattr(metric, 'calibrations', {}).items()
    }
    if not calibrations:
        return
    model = trained_model(runner)
    found = Thresholds(fingerprint_model(model), describe_model(model).contract, calibrations)
    beside = checkpoint is not None and Path(checkpoint).is_file()
    paths = [thresholds_file(checkpoint)] if beside else []
    for path in [*paths, Path(runner.work_dir, 'thresholds.json')]:
        try:
            save_thresholds(path, found)
        except OSError:  # The folder of the checkpoint may be read-only; the work dir is not.
            continue
        runner.logger.info(f'Thresholds are in {path}')
        break


def note_alignment(runner: Runner, checkpoint: str | None) -> None:
    """Say what nothing here can see: whether faces that no transform aligns are aligned already."""
    encoder = getattr(trained_model(runner), 'image_encoder', None)
    manifest = getattr(encoder, 'manifest', None)
    if checkpoint is not None:
        manifest = load_manifest(checkpoint)
    known = manifest and manifest.alignment
    found = alignment_of(pipeline_of(runner.test_dataloader.dataset))
    if known and found != known:
        runner.logger.info(
            f'The net was trained on faces aligned to the template {known!r}, and the test '
            f'pipeline has {found or "no AlignFace"}: the images must be aligned already'
        )


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    config = load_config(args)
    config.load_from, config.resume = args.checkpoint, False
    if args.amp:
        config.test_cfg.fp16 = True
    if args.untrained:
        config.setdefault('randomness', {})
        config.randomness.seed = config.randomness.get('seed') or 0
    runner = build_runner(config)
    remove_averaging_hooks(runner)
    parameter = next((name for name, _ in runner.model.named_parameters()), None)
    if args.untrained:
        runner._init_model_weights()
        runner.logger.info(f'Testing untrained weights, of seed {runner.seed}')
    elif args.checkpoint is None and parameter is not None:
        raise ValueError(
            f'the model has parameters, such as {parameter}, and needs a checkpoint; --untrained '
            'tests random ones'
        )
    check_data(runner.test_loop)
    note_alignment(runner, args.checkpoint)
    if args.out and args.out.endswith(PREDICTIONS):
        runner.test_evaluator.metrics.append(DumpResults(args.out))
    figures = runner.test()
    if is_main_process():
        if args.out and args.out.endswith(METRICS):
            mmengine.dump(figures, args.out)
        if not args.untrained:
            write_thresholds(runner, args.checkpoint)


if __name__ == '__main__':
    run_command(main)
