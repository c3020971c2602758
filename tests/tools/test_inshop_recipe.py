"""The In-Shop recipe through the command lines, on a tree made from real photographs."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT

CONFIG = ROOT / 'configs' / 'arcface' / 'resnet50-arcface_inshop.py'


def options(root: Path, small: bool = True, **others) -> list[str]:
    """The recipe on the small tree; with a smaller net and fewer pixels, or as it is."""
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
        if small:
            pipeline = f'{loader}_dataloader.dataset.pipeline'
            changes |= {f'{pipeline}.1.scale': 64, f'{pipeline}.2.crop_size': 64}
    if small:
        net = 'model.image_encoder.0'
        changes |= {f'{net}.depth': 18, f'{net}.base_channels': 8, f'{net}.stem_channels': 8}
        changes |= {'model.head.in_channels': 64}
    return ['--cfg-options', *(f'{key}={value}' for key, value in changes.items())]


def last_validation(work_dir: Path) -> dict[str, float]:
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    row = [row for row in rows if 'retrieval/Recall@1' in row][-1]
    return {key: value for key, value in row.items() if key.startswith('retrieval/')}


def naive_figures(path: Path) -> dict[str, float]:
    """Of every query the gallery in order of cosine, image by image."""
    samples = pickle.loads(path.read_bytes())
    recalls, precisions = {1: [], 10: []}, []
    for query in (sample for sample in samples if sample['role'] == 'query'):
        found = sorted(
            (
                (
                    float(torch.cosine_similarity(query['embedding'], s['embedding'], 0)),
                    bool(s['gt_label'] == query['gt_label']),
                )
                for s in samples
                if s['role'] == 'gallery'
            ),
            reverse=True,
        )
        hits = [hit for _, hit in found]
        for k, values in recalls.items():
            values.append(any(hits[:k]))
        precisions.append(
            sum(sum(hits[: i + 1]) / (i + 1) * hits[i] for i in range(10)) / sum(hits)
        )
    figures = {f'retrieval/Recall@{k}': 100 * np.mean(values) for k, values in recalls.items()}
    return figures | {'retrieval/mAP@10': 100 * np.mean(precisions)}


def test_train_resume_and_test(run_tool, run_on_two, inshop, tmp_path):
    work = tmp_path / 'work'
    run_tool('train.py', CONFIG, '--work-dir', work, *options(inshop))
    first = last_validation(work)
    assert {f'retrieval/Recall@{k}' for k in (1, 10, 20, 30, 40, 50)} | {
        'retrieval/mAP@10',
        'retrieval/MAP@R',
        'retrieval/R-Precision',
    } == set(first)

    more = options(inshop, **{'train_cfg.max_epochs': 2})
    done = run_tool('train.py', CONFIG, '--work-dir', work, '--resume', 'auto', *more)
    assert 'resumed epoch: 1' in done.output
    assert 'Epoch(train) [1]' not in done.output
    assert 'Epoch(train) [2]' in done.output

    out = tmp_path / 'figures.json'
    checkpoint = work / 'epoch_2.pth'
    run_tool('test.py', CONFIG, checkpoint, '--out', out, *options(inshop))
    figures = json.loads(out.read_text())
    assert figures == pytest.approx(last_validation(work), abs=1e-4)
    run_tool('test.py', CONFIG, checkpoint, '--out', tmp_path / 'all.pkl', *options(inshop))
    naive = naive_figures(tmp_path / 'all.pkl')
    assert {name: figures[name] for name in naive} == pytest.approx(naive)

    # Two processes, of which the sampler pads one: 18 images, batches of 5.
    again = tmp_path / 'again.json'
    uneven = options(inshop, **{'test_dataloader.batch_size': 5})
    run_on_two('test.py', CONFIG, checkpoint, '--out', again, *uneven)
    assert json.loads(again.read_text()) == pytest.approx(figures, abs=1e-4)


def test_two_processes_train_with_all_flags(run_tool, inshop, tmp_path):
    work = tmp_path / 'a work dir'
    flags = ['--work-dir', work, '--auto-scale-lr', '--resume']
    done = run_tool('dist_train.sh', CONFIG, 2, *flags, *options(inshop))
    assert (work / 'epoch_1.pth').exists()
    assert 'LR is set based on batch size of 256 and the current batch size is 16' in done.output
    # Their figures are those of one.
    assert figures_of(run_tool, work, inshop) == pytest.approx(last_validation(work), abs=1e-4)


def figures_of(run_tool, work: Path, root: Path, **how) -> dict[str, float]:
    out = work / 'figures.json'
    run_tool('test.py', CONFIG, work / 'epoch_1.pth', '--out', out, *options(root, **how))
    return json.loads(out.read_text())


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
    run_tool('train.py', CONFIG, '--work-dir', work, *options(inshop, small=False))
    found = figures_of(run_tool, work, inshop, small=False)
    assert found == pytest.approx(last_validation(work), abs=1e-4)
