"""Export a trained model for other runtimes: python tools/export.py CONFIG CHECKPOINT --out FILE.

FILE ends in .onnx, .pt2 (torch.export) or .ts (TorchScript). It takes any number of images, and its
embeddings are compared with the model's on real images before it is written. A manifest beside it
says what it takes. With a lower precision, model and file are also tested as tools/test.py does.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from mmarcface.apis import export_model, get_model
from mmarcface.apis.export.exporting import DEFAULT_OPSET, PREPROCESSING, TOLERANCES
from mmarcface.apis.export.pixels import folder_pixels, test_pixels, training_pixels
from mmarcface.atomic_files import replacing
from mmarcface.cli import ArgumentParser, command_of, run_command
from mmarcface.datasets.transforms.align_face import alignment_of
from mmarcface.datasets.wrappers import class_of, pipeline_of
from mmarcface.engine.launch import add_common_arguments, build_runner, check_data, load_config
from mmarcface.engine.saved_weights import remove_averaging_hooks
from mmarcface.evaluation.metrics.embedding_metric import EmbeddingMetric
from mmarcface.manifest import Manifest, architecture_of, load_manifest
from mmarcface.registry import METRICS

# Images that a file is compared on.
CHECKED = 64
# First line of a config that this tool writes, and may write again.
WRITTEN = '# Written by tools/export.py'
# Entries of a config that a test needs.
TESTED_BY = (
    'default_scope', 'custom_imports', 'model', 'data_preprocessor', 'test_dataloader',
    'test_evaluator', 'test_cfg', 'env_cfg', 'visualizer', 'log_level',
)  # fmt: skip
# What is shown of the figures, where they are measured.
SHOWN = ('TAR@FAR', 'AUC', 'EER', 'Recall@1', 'MAP@R', 'Rank-1')


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser, on_processes=False)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        '--out', required=True, metavar='FILE', help='file to write: .onnx, .pt2 or .ts'
    )
    parser.add_argument(
        '--for',
        dest='reader',
        choices=['insightface'],
        help='write an ONNX file that the loader of the package insightface feeds rightly',
    )
    parser.add_argument(
        '--preprocessing',
        choices=PREPROCESSING,
        default='outside',
        help='place of channel order, mean and std; inside, the file takes RGB pixels in [0, 255]; '
        'outside by default',
    )
    parser.add_argument('--normalize', action='store_true', help='give embeddings of unit length')
    parser.add_argument(
        '--precision',
        choices=list(TOLERANCES),
        default='fp32',
        help='precision of an ONNX file; fp32 by default',
    )
    parser.add_argument(
        '--calibration-images',
        type=int,
        default=256,
        metavar='N',
        help='number of images that int8 is calibrated on; 256 by default',
    )
    parser.add_argument(
        '--calibration-folder',
        metavar='FOLDER',
        help='folder of images to calibrate on; by default the training set of the config',
    )
    parser.add_argument(
        '--opset',
        type=int,
        default=DEFAULT_OPSET,
        help=f'version of the ONNX operators; {DEFAULT_OPSET} by default',
    )
    parser.add_argument(
        '--images',
        metavar='FOLDER',
        help=f'folder of images, {CHECKED} of which are compared; by default the test set of the '
        'config',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        help='largest difference of unit vectors in one of their numbers; by default '
        + ', '.join(f'{value:g} for {name}' for name, value in TOLERANCES.items()),
    )
    return parser


def config_of_file(config: Config, out: Path, manifest: Manifest) -> Config:
    """The config that tests an ONNX file on the same data."""
    of_file = Config({name: copy.deepcopy(config[name]) for name in TESTED_BY if name in config})
    model = of_file.model
    model.image_encoder = dict(type='mmarcface.OnnxBackbone', path=str(out))
    model.head = None
    # The flip test is in the file, and the head that tells classes is not.
    model.test_cfg = dict(flip=False)
    if manifest.preprocessing == 'inside':
        known = model.get('data_preprocessor') or config.get('data_preprocessor') or {}
        pixels = dict(mean=[0.0] * 3, std=[1.0] * 3, to_rgb=True)
        model.data_preprocessor = dict(known, **pixels)
    metrics = config.get('test_evaluator') or []
    metrics = metrics if isinstance(metrics, (list, tuple)) else [metrics]
    of_file.test_evaluator = [
        m for m in metrics if issubclass(class_of(m, METRICS), EmbeddingMetric)
    ]
    return of_file


def place_of_config(out: Path) -> Path:
    """Where the config of an exported file goes: ``model_onnx.py`` beside ``model.onnx``.

    Raises:
        ValueError: if a file is there that this tool did not write.
    """
    path = out.with_name(f'{out.stem}_onnx.py')
    if path.exists() and not path.read_bytes().startswith(WRITTEN.encode()):
        raise ValueError(
            f'{path} exists, and the config that tests {out} would replace it: give --out another '
            'name, or move that file'
        )
    return path


def write_config(config: Config, path: Path) -> None:
    """Write the config of an exported file."""
    with replacing(path) as partial:
        partial.write_text(f'{WRITTEN}\n{config.pretty_text}', 'utf-8')


def figures_of(config: Config, checkpoint: str | None, work_dir: str) -> dict[str, float]:
    """Figures on the test set of a config, by name."""
    config = copy.deepcopy(config)
    config.load_from, config.resume, config.work_dir = checkpoint, False, work_dir
    # Two tests that begin within a second would share their log.
    config.experiment_name = f'export_{"file" if checkpoint is None else "checkpoint"}'
    runner = build_runner(config)
    remove_averaging_hooks(runner)
    check_data(runner.test_loop)
    return {
        name: value
        for name, value in runner.test().items()
        if any(word in name for word in SHOWN) and not name.endswith(('_low', '_high'))
    }


def print_figures(before: dict, after: dict, sizes: tuple[int, int]) -> None:
    """A table of the figures of checkpoint and file, and of the bytes of both nets."""
    table = Table(title='On the test set, in percent')
    for column in ('', 'checkpoint', 'exported', 'difference'):
        table.add_column(column, justify='right' if column else 'left')
    rows = [(name, before[name], after[name]) for name in before]
    rows.append(('size of the net (MB)', *(size / 1e6 for size in sizes)))
    for name, one, other in rows:
        table.add_row(name, f'{one:.2f}', f'{other:.2f}', f'{other - one:+.2f}')
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    config = load_config(args)
    out = Path(args.out)
    written = place_of_config(out) if out.suffix == '.onnx' else None
    dataset = (config.get('test_dataloader') or {}).get('dataset')
    known = load_manifest(args.checkpoint)
    model = get_model(copy.deepcopy(config), pretrained=args.checkpoint, device='cpu')
    if args.images:
        pixels = folder_pixels(config, args.images, CHECKED)
    else:
        pixels = test_pixels(config, CHECKED)
    calibration = None
    if args.precision == 'int8':
        number = args.calibration_images
        if args.calibration_folder:
            calibration = folder_pixels(config, args.calibration_folder, number)
        else:
            calibration = training_pixels(config, number)
    kept = {name: getattr(known, name) for name in ('training_data', 'license')} if known else {}
    manifest = export_model(
        model,
        out,
        pixels,
        preprocessing=args.preprocessing,
        normalize=args.normalize,
        precision=args.precision,
        calibration=calibration,
        opset=args.opset,
        for_insightface=args.reader == 'insightface',
        tolerance=args.tolerance,
        architecture=architecture_of(config.model.get('image_encoder')),
        alignment=(known and known.alignment) or alignment_of(pipeline_of(dataset or {})),
        source=args.checkpoint,
        **kept,
    )
    measured = manifest.measured
    height, width = manifest.input_size
    if args.reader and (height != width or (height % 112 and height % 128)):
        print(
            'note: insightface aligns faces to squares of 112 or 128 pixels, or multiples; this '
            f'net takes {height} x {width} (height x width), so there only get_feat works, on '
            'images of that size'
        )
    if out.suffix == '.onnx':
        of_file = config_of_file(config, out, manifest)
        write_config(of_file, written)
        if args.precision != 'fp32' and of_file.test_evaluator:
            config.test_evaluator = of_file.test_evaluator
            before = figures_of(config, args.checkpoint, config.work_dir)
            after = figures_of(of_file, None, config.work_dir)
            encoder = sum(value.nbytes for value in model.image_encoder.state_dict().values())
            sizes = encoder, out.stat().st_size
            print_figures(before, after, sizes)
            measured['figures'] = dict(checkpoint=before, exported=after)
            measured['bytes'] = dict(zip(('checkpoint', 'exported'), sizes, strict=True))
            manifest.save(out)
    opset = f', opset {measured["opset"]}' if 'opset' in measured else ''
    print(
        f'{out}: {measured["format"]}{opset}, {args.precision}, preprocessing '
        f'{manifest.preprocessing}, {manifest.embedding_dim} numbers'
        f'{" of unit length" if args.normalize else ""}. On {measured["images"]} images unit '
        f'vectors differ by up to {measured["largest_difference"]:.2g} from those of the '
        f'checkpoint, and their smallest cosine is {measured["smallest_cosine"]:.6f}'
    )
    if out.suffix == '.onnx':
        print(f'Its manifest is beside it. Test it with {" ".join(command_of("test"))} {written}')


if __name__ == '__main__':
    run_command(main)
