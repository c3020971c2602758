"""From a config to a purified training: the samples to look at, the stages, what came of them."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import find_latest_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from mmarcface.apis import get_model, purify, save_purification
from mmarcface.datasets import NoisyLabels
from mmarcface.datasets.labelled import LabelledDataset
from mmarcface.engine.hooks import SubCenterHook
from mmarcface.registry import DATASETS, HOOKS

from .launch import train_unless_done

CLEAN, NOISY, SUBCENTER, PURIFIED = 'clean, K=1', 'noisy, K=1', 'noisy, K={}', 'purified, K=1'


def purify_checkpoint(
    config: Config,
    checkpoint: str,
    out: str | Path,
    settings: dict[str, Any],
    format: str = 'csv',
) -> dict | None:
    """Purify the training set of a config, and write down what was found.

    Args:
        config: of the trained model.
        checkpoint: its weights.
        out: folder for lists, summary and figures, and for the embeddings.
        settings: of :func:`mmarcface.apis.purify`.
        format: of the lists, 'csv' or 'parquet'.

    Returns:
        The summary, on the main process; None on the others.

    Raises:
        ValueError: if config, checkpoint and data do not fit; see :func:`mmarcface.apis.purify`.
    """
    _refuse_single_centre(config, checkpoint)
    model = get_model(config, pretrained=checkpoint, device=get_device())
    dataset = training_set(config)
    loader = config.train_dataloader
    found = purify(
        model,
        dataset,
        state=Path(out, 'embeddings'),
        batch_size=loader.batch_size,
        num_workers=loader.get('num_workers', 0),
        **settings,
    )
    if found is None:
        return None
    about = dict(config=config.filename, checkpoint=str(checkpoint))
    return save_purification(found, dataset, out, format, about)


def training_set(config: Config) -> BaseDataset:
    """The data set that a config trains on, unfiltered, with the pipeline that it tests with.

    Args:
        config: with data loaders.

    Raises:
        ValueError: if the config trains on nothing, or tests on nothing.
    """
    for name in ('train_dataloader', 'test_dataloader'):
        if not config.get(name):
            raise ValueError(f'the config has no {name}, which purification needs')
    settings = copy.deepcopy(_innermost(config.train_dataloader.dataset))
    settings.pop('filter_file', None)
    pipeline = _innermost(config.test_dataloader.dataset).get('pipeline')
    if not pipeline:
        raise ValueError('the data set of test_dataloader has no pipeline to prepare images with')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(dict(settings, pipeline=pipeline))


def run_stages(
    config: Config, settings: dict[str, Any], format: str = 'csv', ceiling: bool = False
) -> dict[str, dict] | None:
    """Train on all samples with one centre and with several, purify, train on what is kept.

    Every stage has a folder of its own in the work dir. What is there is not done again, and what
    was interrupted goes on.

    Args:
        config: with a head that has several centres a class.
        settings: of :func:`mmarcface.apis.purify`.
        format: of the lists, 'csv' or 'parquet'.
        ceiling: also train on the true labels, which a ``NoisyLabels`` knows.

    Returns:
        The figures of the test by stage, and under 'purification' the summary; on the main
        process, None on the others.

    Raises:
        ValueError: if the head has one centre a class, there is no truth for ``ceiling``, or a
            folder has a checkpoint of other settings.
    """
    folder = Path(config.work_dir)
    number = config.model.head.get('num_subcenters', 3)
    if number < 2:
        raise ValueError(f'model.head.num_subcenters must be at least 2, got {number}')
    results = {}
    if ceiling:
        results[CLEAN] = _train(_one_centre(_truth(config)), folder / 'clean')
    results[NOISY] = _train(_one_centre(config), folder / 'noisy')
    results[SUBCENTER.format(number)] = _train(config, folder / 'subcenter')
    out = folder / 'purification'
    checkpoint = find_latest_checkpoint(folder / 'subcenter')
    summary = purify_checkpoint(config, checkpoint, out, settings, format)
    barrier()
    purified = _filtered(_one_centre(config), out / f'keep.{format}')
    results[PURIFIED] = _train(purified, folder / 'purified')
    return results | dict(purification=summary) if is_main_process() else None


def _train(config: Config, folder: Path) -> dict[str, float]:
    """Train where that is not done, and test."""
    config = copy.deepcopy(config)
    config.work_dir = str(folder)
    # Runners of one name in one process would share a log.
    config.experiment_name = '-'.join(folder.parts[-3:])
    print_log(f'{folder}: training, if it is not done', 'current')
    return train_unless_done(config).test()


def _one_centre(config: Config) -> Config:
    """The same training with one centre a class."""
    config = copy.deepcopy(config)
    config.model.head.num_subcenters = 1
    hooks = config.get('custom_hooks') or []
    config.custom_hooks = [h for h in hooks if _class_of(h, HOOKS) is not SubCenterHook]
    return config


def _truth(config: Config) -> Config:
    """The same training on the data set that noise was added to."""
    config = copy.deepcopy(config)
    noisy = config.train_dataloader.dataset
    if _class_of(noisy) is not NoisyLabels:
        raise ValueError(
            'a ceiling needs the true labels: train_dataloader.dataset must be a NoisyLabels, got '
            f'{noisy.type}'
        )
    config.train_dataloader.dataset = ConfigDict(noisy.dataset, pipeline=noisy.pipeline)
    return config


def _filtered(config: Config, path: Path) -> Config:
    """The same training on what a list keeps."""
    config = copy.deepcopy(config)
    dataset = _innermost(config.train_dataloader.dataset)
    if not issubclass(_class_of(dataset), LabelledDataset):
        inner = copy.deepcopy(dataset)
        pipeline = inner.pop('pipeline', [])
        dataset.clear()
        dataset.update(type='mmarcface.FilteredDataset', dataset=inner, pipeline=pipeline)
    dataset.filter_file = str(path)
    # Recorded in the checkpoints, and compared with when they are to be used again.
    config.keep_list = dict(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return config


def _innermost(dataset: ConfigDict) -> ConfigDict:
    """The data set in mmengine's wrappers, which repeat samples."""
    while 'dataset' in dataset and not issubclass(_class_of(dataset), LabelledDataset):
        dataset = dataset.dataset
    return dataset


def _class_of(config: ConfigDict, registry: Registry = DATASETS) -> type:
    kind = config['type']
    return kind if isinstance(kind, type) else registry.get(kind)


def _refuse_single_centre(config: Config, checkpoint: str) -> None:
    number = config.model.head.get('num_subcenters')
    state = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    weight = state.get('state_dict', state).get('head.weight')
    if weight is not None and number != 1 and len(weight) == config.model.head.num_classes:
        raise ValueError(
            f'{checkpoint} was trained with one centre a class, which cannot tell noise from the '
            'rest: train with num_subcenters=3 (SubCenterArcFaceHead), or let tools/purify.py run '
            'do all of it'
        )
