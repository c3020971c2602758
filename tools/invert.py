"""Images back from a trained net: python tools/invert.py CONFIG CHECKPOINT --out DIR.

python tools/invert.py audit CONFIG CHECKPOINT says how many identities the weights give away.
run --help and audit --help list their options.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import mmengine
import numpy as np
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from rich.console import Console
from rich.table import Table

from mmarcface.apis import get_model, invert, read_embeddings, save_inversion
from mmarcface.apis.embedding_files import refuse_embeddings_of_another_model
from mmarcface.apis.inversion.search import prepare_inversion
from mmarcface.apis.inversion.settings import PRESETS
from mmarcface.checkpoint import has_head, open_checkpoint
from mmarcface.cli import ArgumentParser, run_command
from mmarcface.datasets.class_names import class_mismatch
from mmarcface.datasets.formats.image_files import find_images, log_left_out
from mmarcface.engine.config_files import KeyValues, read_config
from mmarcface.engine.inversion_plan import (
    InversionPlan,
    build_evaluator,
    plan_inversion,
    train_judge,
)
from mmarcface.engine.launch import start_processes
from mmarcface.fingerprints import fingerprint_weights
from mmarcface.visualization import draw_audit

# Changes of the settings that switch terms off.
ABLATIONS = {
    'as it is': {},
    'without BN prior': dict(bn_weight=0.0),
    'without total variation': dict(tv_weight=0.0),
    'without both': dict(bn_weight=0.0, tv_weight=0.0),
}
# Entries of a report that are too long for the page of an audit.
DETAILS = ('terms', 'history', 'files', 'labels')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('config', help='name or path of the config of the trained model')
    common.add_argument('checkpoint', help='path or URL of the checkpoint')
    common.add_argument(
        '--out',
        metavar='DIR',
        help='folder of the results; ./work_dirs/CONFIG/inversion by default',
    )
    common.add_argument(
        '--judge',
        nargs='+',
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a second model, which says whom the images show; that of the config by default. '
        'Without CHECKPOINT it is trained first, in ./work_dirs/CONFIG, unless that has been done '
        'or it has no parameters',
    )
    common.add_argument(
        '--per-target',
        type=int,
        metavar='N',
        help="number of images of each target; by default that of the config's inversion for "
        'classes, and else 1',
    )
    common.add_argument('--seed', type=int, help='seed of the noise that the search starts from')
    common.add_argument(
        '--preset',
        choices=tuple(PRESETS),
        help="settings to start from; that of the config's inversion, or paper",
    )
    common.add_argument(
        '--settings',
        nargs='+',
        action=KeyValues,
        default={},
        help='change settings: key=value ..., such as steps=300 bn_weight=0.1',
    )
    common.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='what started the processes; pytorch for torchrun',
    )

    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    command = commands.add_parser(
        'run',
        parents=[common],
        help='invert classes, images or embeddings; the word run may be left out',
    )
    targets = command.add_mutually_exclusive_group()
    targets.add_argument(
        '--labels',
        type=int,
        nargs='+',
        help="classes to invert; those of the config's inversion, or all, by default",
    )
    targets.add_argument(
        '--images', metavar='PATH', help='images, or a folder of them, to embed and invert'
    )
    targets.add_argument(
        '--embeddings',
        metavar='FILE',
        help='file of embeddings to invert: .pkl as tools/test.py --out writes it, .npy or .pth',
    )
    command.add_argument(
        '--ablation',
        action='store_true',
        help='invert again without BN prior, without total variation, and without both',
    )
    command = commands.add_parser(
        'audit', parents=[common], help='invert every identity, and write one page on the result'
    )
    command.add_argument(
        '--identities',
        type=int,
        default=256,
        help='largest number of identities to invert, spread evenly over all; 256 by default',
    )
    command.set_defaults(ablation=False)

    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and argv[0] not in (*commands.choices, '-h', '--help'):
        argv = ['run', *argv]
    args = parser.parse_args(argv)
    if args.judge and len(args.judge) > 2:
        parser.error(f'--judge takes CONFIG and CHECKPOINT, got {" ".join(args.judge)}')
    return args


def check_classes(checkpoint: str, content: dict, plan: InversionPlan, only_names: bool) -> None:
    """Check that class numbers mean the same in a checkpoint and in the training set of the config.

    Args:
        checkpoint: path of the checkpoint.
        content: content of the checkpoint.
        plan: the inversion.
        only_names: whether only the names of files depend on the numbers, so that a log will do.

    Raises:
        ValueError: if they do not, or the checkpoint has no classes.
    """
    if not has_head(content):
        raise ValueError(
            f'{checkpoint} has no weights of a head, and so no classes: name a checkpoint of the '
            'training, with head.weight; or give --images or --embeddings'
        )
    difference = class_mismatch(content.get('meta') or {}, plan.dataset)
    if difference and not only_names:
        raise ValueError(
            f'{checkpoint} was trained on other classes: {difference}, so that images would be '
            'taken for those of others. Give the training set of the config the classes that it '
            'had, or name --labels and no judge'
        )
    if difference and is_main_process():
        print(f'Labels are those of the checkpoint, not of the current training set: {difference}')


def make_plan(args: argparse.Namespace, config: Config, default: str | list[int]) -> InversionPlan:
    """The targets that the command line names, or else the config."""
    if args.command == 'audit':
        return plan_inversion(config, 'classes', args.identities)
    if args.labels is not None:
        return plan_inversion(config, args.labels)
    if args.images is not None:
        paths = [args.images] if os.path.isfile(args.images) else []
        if os.path.isdir(args.images):
            paths, others = find_images(args.images)
            log_left_out(args.images, others)
        if not paths:
            raise FileNotFoundError(f'there are no images in {args.images}')
        # Numbered, as images in two folders, or in two formats, may have one name.
        names = [f'{number:04d}_{Path(path).stem}' for number, path in enumerate(paths)]
        return InversionPlan(paths, names, None, None)
    if args.embeddings is not None:
        embeddings = read_embeddings(args.embeddings).numpy()
        names = [f'embedding{i}' for i in range(len(embeddings))]
        return InversionPlan(embeddings, names, None, None)
    return plan_inversion(config, default)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    config = read_config(args.config)
    config.launcher = args.launcher
    if args.launcher != 'none':
        start_processes(config)
    # Before any data is read.
    content = open_checkpoint(args.checkpoint)
    settings = dict(config.get('inversion', {}))
    targets = settings.pop('targets', 'classes')
    plan = make_plan(args, config, targets)
    per_target, judge = settings.pop('per_target', 1), settings.pop('judge', None)
    if args.per_target is not None:
        per_target = args.per_target
    elif plan.identities is None:
        per_target = 1
    plan = plan.repeat(per_target)
    given = dict(preset=args.preset, seed=args.seed)
    settings |= {name: value for name, value in given.items() if value is not None}
    settings |= args.settings
    by_class = plan.identities is not None and not isinstance(plan.targets[0], np.ndarray)
    if args.judge:
        judge = dict(zip(('config', 'checkpoint'), args.judge, strict=False))
    if by_class:
        numbered = args.command == 'run' and (
            args.labels is not None or not isinstance(targets, str)
        )
        check_classes(args.checkpoint, content, plan, numbered and judge is None)
    model = get_model(config, pretrained=args.checkpoint, device=get_device())
    if getattr(args, 'embeddings', None) is not None:
        refuse_embeddings_of_another_model(args.embeddings, model)
    if judge is not None and plan.identities is None:
        judge = None
        if is_main_process():
            print('The judge does not know these identities, and is not asked')
    if judge is None and (args.command == 'audit' or args.ablation):
        raise ValueError('an audit or ablation needs a judge: --judge CONFIG [CHECKPOINT]')
    without_seed = {name: value for name, value in settings.items() if name != 'seed'}
    _, _, full = prepare_inversion(model, plan.targets, **without_seed)
    evaluator = None
    if judge is not None:
        train_judge(judge, config)
        evaluator = build_evaluator(judge, config, plan, model)
    if is_main_process():
        print(f'{len(plan.names)} images, {full.steps} steps for each batch of {full.batch_size}')
    about = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        model=fingerprint_weights(model),
        judge=judge,
        judge_model=evaluator and fingerprint_weights(evaluator.model),
        real_images=evaluator and len(evaluator.real),
    )
    out = Path(args.out or Path('work_dirs', Path(args.config).stem, 'inversion'))
    reports = {}
    for name, change in ABLATIONS.items() if args.ablation else [('as it is', {})]:
        folder = out if not change else out / name.replace(' ', '_')
        inversion = invert(
            model,
            plan.targets,
            companions=plan.companions,
            state=folder / 'state',
            **(settings | change),
        )
        if is_main_process():
            reports[name] = save_inversion(
                inversion, folder, plan.names, evaluator, plan.identities, about
            )
            if args.command == 'audit':
                images = evaluator.pair_with_real(inversion.images, plan.identities)
                save_audit(reports[name], images, folder)
            shutil.rmtree(folder / 'state')
    if not is_main_process():
        return
    if evaluator is not None:
        show(reports)
    if args.ablation:
        mmengine.dump(reports, out / 'ablation.json', indent=1)
    print(f'Images, grid.png, convergence.gif and report.json are in {out}')


def save_audit(report: dict, images: dict, folder: Path) -> None:
    """Write the page of an audit, as JSON and as a figure."""
    page = {name: value for name, value in report.items() if name not in DETAILS}
    mmengine.dump(page, folder / 'audit.json', indent=1)
    draw_audit(report, images).savefig(folder / 'audit.png', dpi=110)
    low, high = (100 * report[f'reidentified_{end}'] for end in ('low', 'high'))
    print(
        f'{report["identities_reidentified"]} of {report["identities"]} identities are '
        f're-identified from the weights alone (95% interval {low:.0f} to {high:.0f}%): '
        f'{folder / "audit.png"}'
    )


def show(reports: dict[str, dict]) -> None:
    """Print what the judge says, a row for each ablation."""
    figures = {
        'judge names right': ('attack_accuracy', '{:.1%}'),
        'cosine to own': ('cosine_own', '{:.2f}'),
        'real to own': ('cosine_real', '{:.2f}'),
        'to others': ('cosine_other', '{:.2f}'),
        'Frechet': ('frechet', '{:.2f}'),
    }
    table = Table(title='Inverted images, by the judge', title_justify='left')
    table.add_column('')
    for name in figures:
        table.add_column(name, justify='right')
    for name, report in reports.items():
        # Of a single image there is no Frechet distance.
        values = [(report[key], form) for key, form in figures.values()]
        table.add_row(name, *('-' if v is None else form.format(v) for v, form in values))
    Console(width=100).print(table)


if __name__ == '__main__':
    run_command(main)
