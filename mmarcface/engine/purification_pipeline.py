"""From a config to a purified training: the training set, the stages and their figures."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from mmarcface.apis import get_model, purify, save_purification
from mmarcface.apis.purification.purify import check_settings
from mmarcface.checkpoint import open_checkpoint
from mmarcface.datasets import FilteredDataset, NoisyLabels
from mmarcface.datasets.formats.keep_list import fingerprint_samples, import_pyarrow, read_keep_list
from mmarcface.datasets.wrappers import class_of, pipeline_of, without_repeats
from mmarcface.models import SubCenterArcFaceHead
from mmarcface.registry import DATASETS, HOOKS, MODELS

from .hooks import SubCenterHook
from .launch import train_unless_done
from .resuming import latest_checkpoint, require_same_classes

CLEAN, NOISY, SUBCENTER, PURIFIED = 'clean, K=1', 'noisy, K=1', 'noisy, K={}', 'purified, K=1'


def purify_checkpoint(
    config: Config,
    checkpoint: str,
    out: str | Path,
    settings: dict[str, Any],
    format: str = 'csv',
) -> dict | None:
    """Purify the training set of a config, and write the result.

    Beside the files of :func:`mmarcface.apis.save_purification` the folder gets ``purified.py``,
    the config of a training on what is kept, with one center a class, and ``embeddings``.

    Args:
        config: config of the trained model.
        checkpoint: path or URL of its weights.
        out: folder of the result.
        settings: settings of :func:`mmarcface.apis.purify`.
        format: format of the lists, 'csv' or 'parquet'.

    Returns:
        The summary, on the main process; None on the others.

    Raises:
        ValueError: if config, checkpoint and data do not fit; see :func:`mmarcface.apis.purify`.
        ImportError: if the package ``pyarrow`` is not installed.
    """
    content = open_checkpoint(checkpoint)
    _refuse_single_center(config, checkpoint, content)
    dataset = _check(config, settings)
    require_same_classes(content.get('meta') or {}, dataset, checkpoint)
    # Close the file, which may be replaced from here on.
    del content
    model = get_model(config, pretrained=checkpoint, device=get_device())
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
    keep = Path(out, f'keep.{format}')
    for written in map(keep.with_suffix, ('.csv', '.parquet')):
        if _summary_of_edited(written) is not None:
            aside = written.with_stem('keep-edited')
            written.rename(aside)
            print_log(f'{written} was edited: it is now {aside}', 'current')
    summary = save_purification(found, dataset, out, format, about)
    summary['keep_list'] = _fingerprint(keep)
    mmengine.dump(summary, keep.with_name('summary.json'), indent=1)
    # The config works from any folder, and after this folder is moved or copied. mmengine does not
    # escape quotes in the folder's name.
    folder = keep.absolute().parent
    folder = folder if "'" in str(folder) else Path('{{ fileDirname }}')
    purified = _filtered(_one_center(config), keep, as_noted=folder / keep.name)
    purified.work_dir = str(folder / 'purified')
    purified.dump(keep.with_name('purified.py'))
    return summary


def training_set(config: Config) -> BaseDataset:
    """The data set that a config trains on, with the pipeline that it tests with.

    Args:
        config: config with data loaders for training and testing.

    Raises:
        ValueError: if the config lacks a data loader, or trains on ``indices`` or in a wrapper that
            chooses samples.
    """
    for name in ('train_dataloader', 'test_dataloader'):
        if not config.get(name):
            raise ValueError(f'the config has no {name}, which purification needs')
    settings = without_repeats(config.train_dataloader.dataset)
    # Other wrappers, such as KFoldDataset, would take other samples if a list left some out.
    if not issubclass(class_of(settings) or object, BaseDataset):
        raise ValueError(
            'train_dataloader.dataset must be one data set, in a RepeatDataset or '
            f'ClassBalancedDataset or not, got {settings.type}: write '
            "dict(type='mmarcface.FilteredDataset', dataset=..., pipeline=...) around it"
        )
    if settings.get('indices') is not None:
        raise ValueError(
            'train_dataloader.dataset must have no indices, as a list is made for all samples; '
            f'got {settings.indices}'
        )
    pipeline = pipeline_of(config.test_dataloader.dataset)
    if not pipeline:
        raise ValueError('the data set of test_dataloader has no pipeline to prepare images with')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(dict(copy.deepcopy(settings), pipeline=pipeline))


def with_seed(config: Config, seed: int) -> Config:
    """The same training with another seed, also of the noise of a ``NoisyLabels``.

    Args:
        config: config of the training.
        seed: the new seed.
    """
    config = copy.deepcopy(config)
    config.setdefault('randomness', {}).update(seed=seed)
    dataset = without_repeats(config.train_dataloader.dataset)
    if class_of(dataset) is FilteredDataset:
        dataset = dataset.dataset
    if class_of(dataset) is NoisyLabels:
        dataset.seed = seed
    return config


def run_stages(
    config: Config, settings: dict[str, Any], format: str = 'csv', ceiling: bool = False
) -> dict[str, dict] | None:
    """Train with several centers a class, purify, train on what is kept with one; compare.

    Every stage has a folder of its own in the work dir: ``subcenter``, ``purification``,
    ``purified``, ``clean`` and ``noisy``, the last two to compare with. Finished stages are not
    done again, and interrupted ones go on. A keep-list that was edited by hand is used as it is.
    A training on another list is put aside, as ``purified-LIST``.

    Args:
        config: config of a head that has several centers a class.
        settings: settings of :func:`mmarcface.apis.purify`.
        format: format of the lists, 'csv' or 'parquet'.
        ceiling: whether to train on the true labels too, which a ``NoisyLabels`` knows.

    Returns:
        The figures of the test by stage, and the summary under 'purification', on the main
        process; None on the others.

    Raises:
        ValueError: if the head has one center a class, the data set does not know the true labels
            for ``ceiling``, or a folder has a checkpoint of other settings; else as
            :func:`purify_checkpoint`.
    """
    folder = Path(config.work_dir)
    number = _num_subcenters(config)
    if number < 2:
        raise ValueError(
            'to purify, model.head must have several centers a class: set num_subcenters=3, or '
            f'type=SubCenterArcFaceHead; got {config.model.head.type} with {number}'
        )
    clean = _one_center(_truth(config)) if ceiling else None
    _check(config, settings)
    # The trainings to compare with come last.
    of_subcenters = _train(config, folder / 'subcenter')
    keep = folder / 'purification' / f'keep.{format}'
    summary = _summary_of_edited(keep)
    if summary is not None:
        print_log(f'{keep} was edited, and is taken as it is; delete it to purify again', 'current')
    else:
        checkpoint = latest_checkpoint(folder / 'subcenter')
        summary = purify_checkpoint(config, checkpoint, keep.parent, settings, format)
    barrier()
    purified = _filtered(_one_center(config), keep)
    if is_main_process():
        _put_aside(folder / 'purified', purified.keep_list)
    barrier()
    if settings.get('min_per_class') == 0:
        # The list may empty a class, as the user asked for.
        without_repeats(purified.train_dataloader.dataset).filter_mismatch = 'report'
    of_purified = _train(purified, folder / 'purified')
    results = {CLEAN: _train(clean, folder / 'clean')} if ceiling else {}
    results[NOISY] = _train(_one_center(config), folder / 'noisy')
    results |= {SUBCENTER.format(number): of_subcenters, PURIFIED: of_purified}
    return results | dict(purification=summary) if is_main_process() else None


def _check(config: Config, settings: dict[str, Any]) -> BaseDataset:
    """The data set to purify, if settings and packages permit."""
    check_settings(**settings)
    import_pyarrow()
    return training_set(config)


def _train(config: Config, folder: Path) -> dict[str, float]:
    """Train, unless that is done, and test."""
    config = copy.deepcopy(config)
    config.work_dir = str(folder)
    # Runners of the same name in one process would share a log.
    config.experiment_name = '-'.join(folder.parts[-3:])
    return train_unless_done(config).test()


def _num_subcenters(config: Config) -> int:
    head = config.model.get('head') or {}
    default = 3 if class_of(head, MODELS) is SubCenterArcFaceHead else 1
    return head.get('num_subcenters', default)


def _one_center(config: Config) -> Config:
    """The same training with one center a class."""
    config = copy.deepcopy(config)
    config.model.head.num_subcenters = 1
    hooks = config.get('custom_hooks') or []
    config.custom_hooks = [hook for hook in hooks if class_of(hook, HOOKS) is not SubCenterHook]
    return config


def _truth(config: Config) -> Config:
    """The same training on the data set that noise was added to."""
    config = copy.deepcopy(config)
    noisy = config.train_dataloader.dataset
    if class_of(noisy) is not NoisyLabels:
        raise ValueError(
            'a ceiling needs the true labels: train_dataloader.dataset must be a NoisyLabels, got '
            f'{noisy.type}'
        )
    config.train_dataloader.dataset = ConfigDict(noisy.dataset, pipeline=noisy.pipeline)
    return config


def _filtered(config: Config, path: Path, as_noted: Path | None = None) -> Config:
    """The same training on what a list keeps; the config names it ``as_noted``, if given."""
    config = copy.deepcopy(config)
    dataset = without_repeats(config.train_dataloader.dataset)
    if class_of(dataset) is not FilteredDataset:
        inner = copy.deepcopy(dataset)
        pipeline = inner.pop('pipeline', [])
        dataset.clear()
        dataset.update(type='mmarcface.FilteredDataset', dataset=inner, pipeline=pipeline)
    dataset.filter_file = str(as_noted or path)
    # Checkpoints record the fingerprint, and are refused where the list has changed.
    config.keep_list = _fingerprint(path)
    return config


def _fingerprint(path: Path) -> str:
    """The fingerprint of the samples that a list keeps and of their labels."""
    kept = read_keep_list(path)
    return fingerprint_samples(kept.samples, kept.labels.tolist())


def _summary_of_edited(keep: Path) -> dict | None:
    """The summary of a list that was edited by hand; None if it was not, or is missing."""
    summary = keep.with_name('summary.json')
    if not keep.exists() or not summary.exists():
        return None
    content = mmengine.load(summary)
    return None if content.get('keep_list') == _fingerprint(keep) else content


def _put_aside(folder: Path, keep_list: str) -> None:
    """Keep only a training on this list in the folder; others go to folders of their own."""
    checkpoint = latest_checkpoint(folder)
    if checkpoint is not None:
        text = open_checkpoint(checkpoint)['meta']['cfg']
        trained_on = Config.fromstring(text, '.py').get('keep_list')
        if trained_on == keep_list:
            return
        folder.rename(f'{folder}-{trained_on}')
    before = folder.with_name(f'{folder.name}-{keep_list}')
    if before.exists():
        before.rename(folder)


def _refuse_single_center(config: Config, checkpoint: str, content: dict) -> None:
    weight = content.get('state_dict', content).get('head.weight')
    head = config.model.get('head') or {}
    if weight is not None and len(weight) == head.get('num_classes'):
        raise ValueError(
            f'{checkpoint} was trained with one center a class, which cannot tell noise from the '
            'rest: train with num_subcenters=3 (SubCenterArcFaceHead), or let tools/purify.py run '
            'do all of it'
        )
