"""The command, with nets that train for seconds; and, slow, what it is to show."""

import re
import shutil

import cv2
import pytest

# Forty images, some of every digit, in two batches.
PLACES = [*range(0, 4000, 100)]
SMALL = (
    'train_cfg.max_epochs=2',
    'model.image_encoder.base_channels=1',
    'train_dataloader.batch_size=20',
    'default_hooks.checkpoint.max_keep_ckpts=2',
    f'train_dataloader.dataset.indices={PLACES}'.replace(' ', ''),
)
LOSSES = ['softmax', 'weight norm', 'SphereFace', 'feature norm', 'CosFace', 'ArcFace']


def rows_of(output: str) -> dict[str, list[float]]:
    rows = re.findall(r'│ (\w[\w ]*?) +│ +([\d.]+) │ +([\d.]+) │ +([\d.]+) │', output)
    return {name: [float(figure) for figure in figures] for name, *figures in rows}


def test_trains_goes_on_and_takes_what_is_there(run_tool, tmp_path):
    work_dir = tmp_path / 'nets'
    command = ('plot.py', 'mnist', '--work-dir', work_dir, '--cfg-options', *SMALL)
    first = run_tool(*command, OMP_NUM_THREADS='1')
    rows = rows_of(first.stdout)
    assert list(rows) == LOSSES
    image = cv2.imread(str(work_dir / 'evolution.png'))
    assert image.shape == (480, 810, 3)

    # One was interrupted in its second epoch, one is gone, all others have finished.
    nets = {path.name: path for path in work_dir.glob('lenet-*')}
    assert len(nets) == 6
    written = {name: (net / 'epoch_2.pth').stat().st_mtime_ns for name, net in nets.items()}
    interrupted, gone = nets['lenet-cosface_mnist-3d'], nets['lenet-arcface_mnist-3d']
    (interrupted / 'epoch_2.pth').unlink()
    (interrupted / 'last_checkpoint').write_text(str(interrupted / 'epoch_1.pth'))
    shutil.rmtree(gone)
    started = (interrupted / 'epoch_1.pth').stat().st_mtime_ns
    figure = tmp_path / 'figures' / 'again.png'
    again = run_tool(*command[:2], '--out', figure, *command[2:], OMP_NUM_THREADS='1')
    assert {**rows_of(again.stdout), 'CosFace': rows['CosFace']} == rows
    assert cv2.imread(str(figure)).shape == image.shape
    for name, net in nets.items():
        made_anew = (net / 'epoch_2.pth').stat().st_mtime_ns != written[name]
        assert made_anew == (net in (interrupted, gone))
    assert (interrupted / 'epoch_1.pth').stat().st_mtime_ns == started

    refused = run_tool(*command, 'randomness.seed=3', fails=True)
    assert 'epoch_2.pth was trained with another randomness: remove it' in refused.output


@pytest.mark.slow
@pytest.mark.parametrize(('dim', 'share'), [(2, 0.7), (3, 0.5)])
def test_margin_makes_classes_compact_and_far_apart(run_tool, dim, share):
    rows = rows_of(run_tool('plot.py', 'mnist', '--dim', dim).stdout)
    (within, nearest, accuracy), (plain_within, plain_nearest, _) = rows['ArcFace'], rows['softmax']
    assert within <= share * plain_within
    assert nearest > plain_nearest
    assert accuracy > 95
