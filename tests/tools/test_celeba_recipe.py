"""The CelebA recipe, on a tree in the shape of CelebA made of ORL photographs."""

import json
import re

import cv2
import pytest

from mmarcface.datasets import convert
from tests.conftest import ROOT

CONFIG = ROOT / 'configs' / 'arcface' / 'iresnet50-arcface_celeba-lfw.py'
ITERATIONS = ROOT / 'configs' / 'magface' / 'iresnet18-magface_celeba_20k-iter.py'
# Where they are in a typical photograph of ORL: eyes, nose, corners of the mouth.
LANDMARKS = (28, 48, 62, 48, 45, 66, 32, 86, 58, 86)
SMALL = [
    'model.image_encoder.depth=18',
    'model.image_encoder.base_channels=8',
    'model.image_encoder.embedding_dim=64',
    'model.head.num_classes=12',
    'model.head.in_channels=64',
    'model.head.scale=16',
    'train_dataloader.batch_size=40',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'val_dataloader.batch_size=40',
]


@pytest.fixture
def data(orl, tmp_path):
    """CelebA of s1 .. s12, and pairs of s21 .. s30 in lfw.bin; gives the options to use them."""
    celeba = tmp_path / 'celeba'
    (celeba / 'img_align_celeba').mkdir(parents=True)
    names, identities = [], []
    for person in range(1, 13):
        for number in range(1, 11):
            names.append(f'{len(names) + 1:06}.jpg')
            identities.append(100 * person)
            photograph = cv2.imread(str(orl / f's{person}' / f'{number}.pgm'))
            cv2.imwrite(str(celeba / 'img_align_celeba' / names[-1]), photograph)
    lines = [f'{name} {identity}' for name, identity in zip(names, identities, strict=True)]
    (celeba / 'identity_CelebA.txt').write_text('\n'.join(lines) + '\n')
    points = ' '.join(map(str, LANDMARKS))
    lines = [str(len(names)), 'lefteye_x lefteye_y', *(f'{name} {points}' for name in names)]
    (celeba / 'list_landmarks_align_celeba.txt').write_text('\n'.join(lines) + '\n')
    for person in range(21, 31):
        for number in range(1, 11):
            path = tmp_path / 'others' / f's{person}' / f'{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph = cv2.imread(str(orl / f's{person}' / f'{number}.pgm'))
            cv2.imwrite(str(path), cv2.resize(photograph[10:102], (112, 112)))
    source = convert.with_pairs(convert.open_source(tmp_path / 'others'), 5, 20, seed=0)
    convert.to_bin(source, tmp_path / 'lfw.bin')
    return [
        f'train_dataloader.dataset.data_root={celeba}',
        f'val_dataloader.dataset.path={tmp_path / "lfw.bin"}',
        'val_dataloader.dataset.num_folds=5',
        *SMALL,
    ]


def accuracies(work_dir) -> dict[int, float]:
    """Accuracy by step, as written by mmengine beside the log."""
    lines = [json.loads(line) for line in next(work_dir.glob('*/vis_data/scalars.json')).open()]
    return {r['step']: r['verification/Accuracy'] for r in lines if 'verification/Accuracy' in r}


def test_every_epoch_is_verified_and_the_best_is_kept(run_tool, data, tmp_path):
    work_dir = tmp_path / 'work'
    options = ['train_cfg.max_epochs=3', 'optim_wrapper.optimizer.lr=0.02']
    run_tool('train.py', CONFIG, '--work-dir', work_dir, '--cfg-options', *data, *options)
    found = accuracies(work_dir)
    assert list(found) == [1, 2, 3]
    (best,) = work_dir.glob('best_*.pth')
    assert found[int(re.search(r'epoch_(\d)', best.name)[1])] == max(found.values())
    # Photographs of ORL are told apart better than by chance even so.
    assert max(found.values()) > 55
    done = run_tool(
        'test.py', work_dir / CONFIG.name, best, '--out', tmp_path / 'figures.json',
        '--cfg-options', f'test_dataloader.dataset.path={tmp_path / "lfw.bin"}',
        'test_dataloader.dataset.num_folds=5', 'test_dataloader.num_workers=0',
    )  # fmt: skip
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert figures['verification/Accuracy'] == pytest.approx(max(found.values()), abs=1e-4)
    thresholds = best.with_suffix('.thresholds.json')
    assert f'Thresholds are in {thresholds}' in done.output
    (chosen,) = (
        t
        for t in json.loads(thresholds.read_text())['sets']['verification']
        if t['wanted_far'] == 0.01
    )
    assert chosen['tar'] * 100 == pytest.approx(figures['verification/TAR@FAR=0.01'])
    assert chosen['note'].startswith('FAR=0.01 allows 1 of 100 pairs')


def test_training_stops_where_nothing_gets_better(run_tool, data, tmp_path):
    # An accuracy that is better by 100 there is never.
    options = ['custom_hooks.1.min_delta=100', 'custom_hooks.1.patience=2']
    done = run_tool(
        'train.py', CONFIG, '--work-dir', tmp_path / 'work', '--cfg-options', *data, *options
    )
    assert list(accuracies(tmp_path / 'work')) == [1, 2, 3]
    assert 'the monitored metric did not improve in the last 2 records' in done.output


def test_training_by_iterations(run_tool, data, tmp_path):
    work_dir = tmp_path / 'work'
    options = [
        'train_cfg.max_iters=6',
        'train_cfg.val_interval=2',
        'param_scheduler.0.milestones=[4]',
    ]
    run_tool('train.py', ITERATIONS, '--work-dir', work_dir, '--cfg-options', *data, *options)
    assert list(accuracies(work_dir)) == [2, 4, 6]
    assert len(list(work_dir.glob('best_*.pth'))) == 1
