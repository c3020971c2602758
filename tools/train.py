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
        help='go on from a checkpoint; auto, the default, takes the latest of the work dir',
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
    """See that a config in the work dir of a training, where mmengine copies it, names that one."""
    of_training = (path.parent / 'last_checkpoint').exists()
    if of_training and path.parent.resolve() != Path(work_dir).resolve():
        raise ValueError(
            f'{path} lies in the work dir of a training and names {work_dir}, which has no '
            f'checkpoint: was it moved? Add --work-dir {path.parent} to go on with that training'
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
        # The first start of a job that resumes by itself finds nothing yet, and load_from holds.
        if latest_checkpoint(config.work_dir) is not None:
            config.resume, config.load_from = True, None
        elif args.work_dir is None:
            refuse_other_work_dir(Path(args.config), config.work_dir)
    elif args.resume is not None:
        config.resume, config.load_from = True, args.resume
    train_missing_judges(config)
    runner = build_runner(config)
    checkpoint = runner._load_from
    if config.get('resume') and is_finished(config, open_training(checkpoint)['meta']):
        runner.logger.info(
            f'{checkpoint} is the end of this training: raise train_cfg.max_epochs or max_iters to '
            'train on'
        )
    for loop in (runner.train_loop, runner.val_loop):
        if loop is not None:
            check_data(loop)
    runner.train()


if __name__ == '__main__':
    run_command(main)
