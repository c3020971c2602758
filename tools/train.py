"""Train a model: python tools/train.py CONFIG."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmarcface.checkpoint import open_training
from mmarcface.cli import ArgumentParser, run_command
from mmarcface.engine.hooks.inversion import train_missing_judges
from mmarcface.engine.launch import (
    add_common_arguments,
    build_runner,
    check_data,
    is_finished,
    load_config,
)
from mmarcface.engine.resuming import latest_checkpoint


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='auto|PATH',
        help='continue from a checkpoint; auto, the default, takes the latest of the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the batch of all processes together',
    )
    return parser


def refuse_other_work_dir(path: Path, work_dir: str) -> None:
    """Refuse the config in the work dir of a training, its copy by mmengine, if that dir moved."""
    in_work_dir = (path.parent / 'last_checkpoint').exists()
    if in_work_dir and path.parent.resolve() != Path(work_dir).resolve():
        raise ValueError(
            f'{path} is in the work dir of a training, but its work_dir is {work_dir}, which has '
            f'no checkpoint: if it was moved, add --work-dir {path.parent} to continue the training'
        )


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    config = load_config(args)
    if args.amp:
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
    if args.auto_scale_lr:
        if not config.get('auto_scale_lr'):
            raise ValueError(
                f'--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in {args.config}'
            )
        config.auto_scale_lr.enable = True
    if args.resume == 'auto':
        # The first start of a job that always resumes finds no checkpoint, and uses load_from.
        if latest_checkpoint(config.work_dir) is not None:
            config.resume, config.load_from = True, None
        elif args.work_dir is None:
            refuse_other_work_dir(Path(args.config), config.work_dir)
    elif args.resume is not None:
        config.resume, config.load_from = True, args.resume
    train_missing_judges(config)
    runner = build_runner(config)
    checkpoint = runner._load_from if config.get('resume') else None
    if checkpoint is not None and is_finished(config, open_training(checkpoint)['meta']):
        runner.logger.info(
            f'{checkpoint} is the end of this training: raise train_cfg.max_epochs or max_iters to '
            'continue it'
        )
    for loop in (runner.train_loop, runner.val_loop):
        if loop is not None:
            check_data(loop)
    runner.train()


if __name__ == '__main__':
    run_command(main)
