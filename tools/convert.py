"""Convert face data sets and weights: python tools/convert.py FORMAT SOURCE TARGET.

python tools/convert.py weights FILE TARGET makes a checkpoint, a config and a manifest of weights
of insightface, AdaFace or CVLface, or of a checkpoint of ours in the other format.

SOURCE is a .rec or .bin file, or a folder: with pairs.txt (LFW), with identity_CelebA.txt (CelebA),
or with one folder for each identity. The same command continues an interrupted conversion. In the
end everything that was written is compared with the source.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmarcface.cli import ArgumentParser, command_of, run_command
from mmarcface.datasets import convert
from mmarcface.models.weights.conversion import CHANNEL_ORDERS, convert_weights

WRITERS = {
    'rec': (convert.to_records, 'a .rec file with its .idx, as insightface lays them out'),
    'folder': (convert.to_folder, 'one folder for each identity'),
    'bin': (convert.to_bin, 'a .bin file of pairs, as insightface has them'),
    'lfw': (convert.to_lfw, 'lfw/, pairs.txt and people.txt'),
}


def positive(text: str) -> int:
    """A number of at least 1, for argparse."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {text}')
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='format', metavar='FORMAT', required=True)
    for name, (_, text) in WRITERS.items():
        command = commands.add_parser(name, help=f'write {text}')
        command.add_argument('source', help='file or folder to read')
        command.add_argument('target', help='file or folder to write')
        if name in ('bin', 'lfw'):
            command.add_argument(
                '--folds',
                type=positive,
                help='number of folds of the pairs; that of the source by default, or 10 for a '
                '.bin, which does not say, and for sources without pairs',
            )
            command.add_argument(
                '--pairs',
                type=positive,
                help='number of pairs of each kind in a fold; 300 by default; for sources without '
                'pairs',
            )
            command.add_argument(
                '--seed',
                type=int,
                help='seed of the pairs; 0 by default; for sources without pairs',
            )
    command = commands.add_parser(
        'weights', help='write a checkpoint, its config and its manifest, from weights'
    )
    command.add_argument(
        'source',
        help='file of the weights: backbone.pth, .ckpt, model.safetensors, or the checkpoint of a '
        'whole training',
    )
    command.add_argument(
        'target', help='checkpoint to write, .pth or .safetensors; the config beside it is .py'
    )
    command.add_argument(
        '--input-size',
        type=positive,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images in pixels, where the weights leave it open',
    )
    command.add_argument(
        '--channel-order',
        choices=CHANNEL_ORDERS,
        help='order in which the net sees color channels, where the file does not tell',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.format == 'weights':
        done = convert_weights(args.source, args.target, args.input_size, args.channel_order)
        print(f'{args.source}: {done.found}')
        test = ' '.join([*command_of('test'), str(done.config), str(done.checkpoint)])
        print(f'{done.checkpoint} is written, with its config and manifest. Test it with {test}')
        return
    convert.refuse_nested(args.source, args.target)
    source = convert.open_source(args.source)
    if args.format in ('bin', 'lfw'):
        source = convert.with_pairs(source, args.folds, args.pairs, args.seed)
        if args.source.endswith('.bin') and args.folds is None:
            print(
                f'note: a .bin does not say how many folds it has; {source.num_folds} are assumed. '
                'Give --folds if that is wrong'
            )
    elif source.pairs is not None and args.source.endswith('.bin'):
        print(
            'note: a .bin does not name its identities. One person may become several identities; '
            'do not train on this'
        )
    reader = WRITERS[args.format][0](source, args.target)
    written, counts = [], source.images_per_identity
    if args.format != 'bin':
        written.append(f'{len(source.faces)} images of {len(counts)} identities')
    if args.format in ('bin', 'lfw'):
        written.append(f'{len(source.pairs)} pairs in {source.num_folds} folds')
    print(f'{args.target}: {", ".join(written)}. Read it with {reader}')


if __name__ == '__main__':
    run_command(main)
