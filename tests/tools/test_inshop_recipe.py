"""The In-Shop recipe through the command lines, on a tree made from real photographs."""

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT

CONFIG = ROOT / 'configs' / 'arcface' / 'resnet50-arcface_inshop.py'


def options(root: Path, pixels: int | None = 64, **others) -> list[str]:
    """The recipe on the small tree; at fewer pixels, where a number is given."""
    changes = {
        'model.image_encoder.0.init_cfg': None,
        'model.head.num_classes': 8,
        'train_cfg.max_epochs': 1,
        'train_dataloader.batch_size': 8,
    } | others
    for loader in ('train', 'val', 'test'):
        changes |= {
            f'{loader}_dataloader.dataset.data_root': root,
            f'{loader}_dataloader.num_workers': 0,
        }
        if pixels:
            pipeline = f'{loader}_dataloader.dataset.pipeline'
            changes |= {f'{pipeline}.1.scale': pixels, f'{pipeline}.2.crop_size': pixels}
    return ['--cfg-options', *(f'{key}={value}' for key, value in changes.items())]


def last_validation(work_dir: Path) -> dict[str, float]:
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    row = [row for row in rows if 'retrieval/Recall@1' in row][-1]
    return {key: value for key, value in row.items() if key.startswith('retrieval/')}


def test_train_resume_and_test(run_tool, inshop, tmp_path):
    work = tmp_path / 'work'
    run_tool('train.py', CONFIG, '--work-dir', work, *options(inshop))
    first = last_validation(work)
    assert {f'retrieval/Recall@{k}' for k in (1, 10, 20, 30, 40, 50)} | {
        'retrieval/mAP@10',
        'retrieval/MAP@R',
        'retrieval/R-Precision',
    } == set(first)
    assert first['retrieval/Recall@50'] == 100

    more = options(inshop, **{'train_cfg.max_epochs': 2})
    done = run_tool('train.py', CONFIG, '--work-dir', work, '--resume', 'auto', *more)
    assert 'resumed epoch: 1' in done.output
    assert 'Epoch(train) [1]' not in done.output
    assert 'Epoch(train) [2]' in done.output

    out = tmp_path / 'figures.json'
    checkpoint = work / 'epoch_2.pth'
    run_tool('test.py', CONFIG, checkpoint, '--out', out, *options(inshop))
    assert json.loads(out.read_text()) == pytest.approx(last_validation(work), abs=1e-4)

    # Two processes, of which the sampler pads one: 18 images, batches of 5.
    again = tmp_path / 'again.json'
    uneven = options(inshop, **{'test_dataloader.batch_size': 5})
    run_tool('dist_test.sh', CONFIG, checkpoint, 2, '--out', again, *uneven)
    assert json.loads(again.read_text()) == pytest.approx(json.loads(out.read_text()), abs=1e-4)


def test_two_processes_train_with_all_flags(run_tool, inshop, tmp_path):
    work = tmp_path / 'a work dir'
    flags = ['--work-dir', work, '--auto-scale-lr', '--resume']
    done = run_tool('dist_train.sh', CONFIG, 2, *flags, *options(inshop))
    assert (work / 'epoch_1.pth').exists()
    assert 'LR is set based on batch size of 256 and the current batch size is 16' in done.output
    assert last_validation(work)['retrieval/Recall@50'] == 100


def test_offline_initialisation_says_how_to_go_on(run_tool, inshop, tmp_path):
    unreachable = 'http://127.0.0.1:9/weights.pth'
    keys = [key for key in options(inshop) if not key.startswith('model.image_encoder')]
    keys.append(f'model.image_encoder.0.init_cfg.checkpoint={unreachable}')
    done = run_tool('train.py', CONFIG, '--work-dir', tmp_path / 'work', *keys, fails=True)
    assert '--cfg-options model.image_encoder.0.init_cfg=None' in done.output.splitlines()[-1]


def test_missing_data_says_what_to_fetch(run_tool, tmp_path):
    done = run_tool('train.py', CONFIG, '--work-dir', tmp_path / 'work', fails=True)
    assert 'data/inshop/Eval/list_eval_partition.txt does not exist' in done.output
    assert 'InShopRetrieval.html' in done.output


@pytest.mark.slow
def test_at_full_resolution(run_tool, inshop, tmp_path):
    work = tmp_path / 'work'
    run_tool('train.py', CONFIG, '--work-dir', work, *options(inshop, pixels=None))
    assert last_validation(work)['retrieval/Recall@50'] == 100
