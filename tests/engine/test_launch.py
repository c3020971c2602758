from argparse import Namespace
from types import SimpleNamespace

import pytest
from mmengine.runner import EpochBasedTrainLoop
from mmpretrain.datasets import PackInputs
from torch.utils.data import DataLoader

from mmarcface.datasets import LoadImageFromFile, ProbesAndGallery, VerificationBin
from mmarcface.datasets.bin_file import write_bin
from mmarcface.engine.launch import check_data, load_config
from mmarcface.evaluation import IdentificationMetric


@pytest.mark.parametrize('keeps_roles', [True, False])
def test_roles_that_the_pipeline_loses(keeps_roles):
    keys = ('sample_idx', 'img_path') + ('role',) * keeps_roles
    dataset = ProbesAndGallery(
        probes=dict(type='mmarcface.ORLFaces', people=[1, 2]),
        gallery=dict(type='mmarcface.ORLFaces', people=[1, 2]),
        pipeline=[LoadImageFromFile(), PackInputs(meta_keys=keys)],
    )
    evaluator = SimpleNamespace(metrics=[IdentificationMetric()])
    loop = SimpleNamespace(dataloader=DataLoader(dataset), evaluator=evaluator)
    if keeps_roles:
        check_data(loop)
    else:
        with pytest.raises(ValueError, match=r"meta_keys=\('sample_idx', 'img_path', 'role'\)"):
            check_data(loop)


def test_a_benchmark_is_not_trained_on(tmp_path):
    write_bin(tmp_path / 'lfw.bin', [b'a', b'b'], [True])
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    loop.dataloader = DataLoader(VerificationBin(str(tmp_path / 'lfw.bin')))
    with pytest.raises(ValueError, match=r'VerificationBin is a benchmark, with pairs: train on'):
        check_data(loop)


@pytest.mark.parametrize(
    ('loader', 'expected'),
    [
        (dict(num_workers=2), True),
        (dict(num_workers=0), False),
        (dict(num_workers=0, persistent_workers=True), False),
        (dict(num_workers=2, persistent_workers=False), False),
    ],
)
def test_workers_stay_where_there_are_some(tmp_path, loader, expected):
    path = tmp_path / 'config.py'
    path.write_text(f'train_dataloader = dict({", ".join(f"{k}={v}" for k, v in loader.items())})')
    args = Namespace(config=str(path), cfg_options={}, launcher='none', work_dir=None)
    assert load_config(args).train_dataloader.persistent_workers is expected
