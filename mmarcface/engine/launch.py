"""From command line to Runner, on one process or many, with or without a GPU."""

from __future__ import annotations

import argparse
import atexit
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.device import get_device
from mmengine.dist import get_world_size, init_dist, master_only
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmarcface.checkpoint import open_checkpoint, open_training
from mmarcface.datasets.class_names import class_names
from mmarcface.datasets.image_sizes import require_equal_sizes
from mmarcface.datasets.joined_identities import refuse_label_collisions
from mmarcface.evaluation.metrics.embedding_metric import (
    EmbeddingMetric,
    check_dataset,
)

from .config_files import KeyValues, change_config, read_config
from .model_manifests import write_manifest
from .resuming import (
    MovedFilesHook,
    SameClassesHook,
    SaveStoppedHook,
    latest_checkpoint,
    require_same_classes,
)
from .saved_weights import (
    averaging_hooks,
    load_averaged_weights,
    remove_averaging_hooks,
    require_averaged_figures,
    trained_model,
)

# The parts of a config that decide the weights of a training.
DECIDES_WEIGHTS = (
    'model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'custom_hooks',
    'randomness', 'keep_list',
)  # fmt: skip
# Seconds that processes wait for one that works alone, as on the lists of a purification.
MAX_WAIT = 2 * 3600


def add_common_arguments(parser: argparse.ArgumentParser, on_processes: bool = True) -> None:
    """Add what training and testing share: config, --work-dir, --cfg-options, --launcher.

    Args:
        parser: parser that gets the arguments.
        on_processes: whether the tool can run on several processes; without it there is no
            --launcher.
    """
    parser.set_defaults(launcher='none')
    parser.add_argument('config', help='name or path of the config')
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints; ./work_dirs/CONFIG by default'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValues,
        default={},
        help='change the config: key=value ..., such as train_cfg.max_epochs=1; '
        'lists as key="[a,b]"',
    )
    if on_processes:
        parser.add_argument(
            '--launcher',
            choices=['none', 'pytorch', 'slurm', 'mpi'],
            default='none',
            help='what started the processes; pytorch for torchrun',
        )


def load_config(args: argparse.Namespace) -> Config:
    """The config that the common arguments name, with the changes that they make.

    Args:
        args: arguments that a parser of :func:`add_common_arguments` has parsed.
    """
    config = read_config(args.config)
    change_config(config, args.cfg_options)
    config.launcher = args.launcher
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs', Path(args.config).stem))
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = config.get(name)
        if loader:
            loader.setdefault('collate_fn', dict(type='default_collate'))
            loader.setdefault('pin_memory', torch.cuda.is_available())
            # Without workers it is an error, also where a config that had workers is run again.
            keep_workers = loader.get('persistent_workers', True)
            loader.persistent_workers = keep_workers and loader.get('num_workers', 0) > 0
    return config


def check_data(loop: BaseLoop) -> None:
    """Refuse, before hours of work, data that cannot be trained on or evaluated.

    Args:
        loop: the Runner's loop of training, validation or test.

    Raises:
        ValueError: if no batch is left to train on, it is a benchmark's, or a label means several
            classes; if a hook has figures of other weights than are saved; or see
            :func:`mmarcface.evaluation.metrics.embedding_metric.check_dataset`.
    """
    loader = loop.dataloader
    if len(loader) == 0:
        raise ValueError(
            f'{len(loader.dataset)} images are too few for a batch of {loader.batch_size} on each '
            f'of {get_world_size()} processes, and drop_last leaves out the rest: lower '
            'train_dataloader.batch_size'
        )
    if isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        require_averaged_figures(loop.runner)
        lists = {'pairs', 'templates'} & set(getattr(loader.dataset, 'metainfo', {}))
        if lists:
            raise ValueError(
                f'{type(loader.dataset).__name__} is a benchmark, with {lists.pop()}: train on the '
                'people of another data set'
            )
        refuse_label_collisions(loader.dataset)
        _refuse_too_few_classes(loop)
        _refuse_single_images(loop)
    if not hasattr(loop, 'evaluator') or not hasattr(loader.dataset, 'get_data_info'):
        return
    metrics = [m for m in loop.evaluator.metrics if isinstance(m, EmbeddingMetric)]
    if metrics:
        check_dataset(loader.dataset, metrics)


def _refuse_too_few_classes(loop: BaseLoop) -> None:
    if getattr(loop.runner, '_resume', False):
        return  # The checkpoint has the names of the classes, and SameClassesHook compares them.
    head = getattr(trained_model(loop.runner), 'head', None)
    number, names = getattr(head, 'num_classes', None), class_names(loop.dataloader.dataset)
    if number and names and number < len(names):
        raise ValueError(
            f'the head has {number} classes and the data {len(names)}, the last is {names[-1]!r}: '
            f'set model.head.num_classes to {len(names)}'
        )


def _refuse_single_images(loop: BaseLoop) -> None:
    loader = loop.dataloader
    sampler, size = getattr(loader, 'sampler', None), loader.batch_size
    # Other samplers have no end, or make batches by themselves.
    if not isinstance(sampler, DefaultSampler) or loader.drop_last or not size:
        return
    norms = [m for m in trained_model(loop.runner).modules() if isinstance(m, nn.BatchNorm1d)]
    if len(sampler) % size == 1 and any(norm.training for norm in norms):
        raise ValueError(
            f'{len(sampler)} images for a process leave a last batch of one after batches of '
            f'{size}, which has no batch statistics to train with: set drop_last=True in '
            'train_dataloader, or another batch_size'
        )


class _Runner(Runner):
    """A Runner that logs its config, and puts it in the work dir, once nothing is refused any more.

    The config that is there may be that of a finished training.
    """

    def _log_env(self, env_cfg: dict) -> None:
        self._env_cfg = env_cfg

    def dump_config(self) -> None:
        """Leave this to the beginning of training."""

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call the hooks; those of ``before_train`` may still refuse to train."""
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_save_checkpoint':
            # As it is written: hooks may have put averaged weights in the place of others.
            self._saved_weights = kwargs['checkpoint']['state_dict']
        if fn_name == 'after_load_checkpoint' and self._resume and averaging_hooks(self):
            # EMAHook has put what is trained in the place of its average, which the file gives.
            metadata = getattr(kwargs['checkpoint']['state_dict'], '_metadata', {})
            metadata.setdefault('', {})['exchanged'] = True
        if fn_name in ('before_train', 'before_test'):
            super()._log_env(self._env_cfg)
        if fn_name == 'before_train':
            super().dump_config()

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Write a checkpoint and its manifest."""
        super().save_checkpoint(out_dir, filename, *args, **kwargs)
        weights = self.__dict__.pop('_saved_weights')
        if '://' not in str(out_dir):
            write_manifest(self, Path(out_dir, filename), weights)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        # torch's wrapper refuses a model without anything to train.
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model.to(get_device())
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(*args, **kwargs) -> DataLoader:
        return require_equal_sizes(Runner.build_dataloader(*args, **kwargs))

    def resume(self, filename: str, *args, **kwargs) -> None:
        # Also where it is called directly.
        self._resume, self._load_from = True, filename
        super().resume(filename, *args, **kwargs)


def build_runner(config: Config) -> Runner:
    """A Runner, in the process group that ``config.launcher`` asks for.

    Args:
        config: the config, see :func:`load_config`. With ``resume`` and no ``load_from``, training
            goes on from :func:`mmarcface.engine.resuming.latest_checkpoint`.

    Raises:
        FileNotFoundError: if there is no such checkpoint; no data was read then.
        ValueError: if it is none, or training cannot go on from it.
    """
    checkpoint, resume = config.get('load_from'), config.get('resume', False)
    if resume and checkpoint is None:
        checkpoint = latest_checkpoint(config.work_dir)
    if checkpoint is not None:
        (open_training if resume else open_checkpoint)(checkpoint)
    if config.get('launcher', 'none') != 'none' and not torch.cuda.is_available():
        _start_cpu_processes(config)
    runner = RUNNERS.build(config) if 'runner_type' in config else _Runner.from_cfg(config)
    # Not in the config: the work dir has a copy of that, and may be moved.
    runner._load_from = checkpoint
    runner.register_hook(MovedFilesHook(), 'VERY_HIGH')
    runner.register_hook(SameClassesHook(), 'VERY_HIGH')
    runner.register_hook(SaveStoppedHook())
    return runner


def start_processes(config: Config) -> None:
    """Start the group of processes that ``config.launcher`` asks for, where there is no Runner.

    Args:
        config: the config, with ``launcher``.

    Raises:
        ValueError: if this machine cannot have one of this kind.
    """
    if torch.cuda.is_available():
        init_dist(config.launcher, backend='nccl', timeout=MAX_WAIT)
    else:
        _start_cpu_processes(config)


def train_unless_done(config: Config) -> Runner:
    """Train, going on with what the work dir has, and at once if that is all.

    Args:
        config: the config, see :func:`load_config`.

    Returns:
        The runner, after training.

    Raises:
        ValueError: if what the work dir has was trained with other settings or on other classes.
        FileNotFoundError: see :func:`mmarcface.engine.resuming.latest_checkpoint`.
    """
    checkpoint, meta, done = _past_training(config)
    if checkpoint is not None:
        config.resume, config.load_from = not done, None
    runner = build_runner(config)
    if done:
        require_same_classes(meta, runner.train_dataloader.dataset, checkpoint)
        runner.logger.info(f'{checkpoint} is the end of this training, which is not done again')
        remove_averaging_hooks(runner)
        runner.load_checkpoint(checkpoint)
        return runner
    for loop in (runner.train_loop, runner.val_loop):
        if loop is not None:
            check_data(loop)
    runner.train()
    load_averaged_weights(runner)
    return runner


def finished_checkpoint(config: Config) -> str | None:
    """The latest checkpoint of the work dir if the training of a config has ended with it.

    Args:
        config: see :func:`load_config`.

    Raises:
        ValueError: if what the work dir has was trained with other settings.
        FileNotFoundError: see :func:`mmarcface.engine.resuming.latest_checkpoint`.
    """
    checkpoint, _, done = _past_training(config)
    return checkpoint if done else None


def _past_training(config: Config) -> tuple[str | None, dict, bool]:
    """The latest checkpoint of the work dir, its meta, and whether it is the last."""
    checkpoint = latest_checkpoint(config.work_dir)
    if checkpoint is None:
        return None, {}, False
    meta = open_training(checkpoint)['meta']
    _refuse_other_settings(config, checkpoint, meta['cfg'])
    return checkpoint, meta, is_finished(config, meta)


def is_finished(config: Config, meta: dict[str, Any]) -> bool:
    """Whether a training has come to its end.

    Args:
        config: config of the training.
        meta: metadata of its last checkpoint.
    """
    unit = 'iter' if 'max_iters' in config.train_cfg else 'epoch'
    return meta[unit] >= config.train_cfg.get(f'max_{unit}s', float('inf'))


def _refuse_other_settings(config: Config, checkpoint: str, its_config: str) -> None:
    now, then = (
        _without_machine_settings(Config.fromstring(text, '.py'))
        for text in (config.pretty_text, its_config)
    )
    for name in DECIDES_WEIGHTS:
        if now.get(name) != then.get(name):
            raise ValueError(
                f'{checkpoint} was trained with another {name}: remove it, or take another work '
                f'dir; it had {then.get(name)}, and now it would be {now.get(name)}'
            )


def _without_machine_settings(config: Config) -> Config:
    """Leave out what the place and the machine decide."""
    loader = config.get('train_dataloader') or {}
    for name in ('pin_memory', 'persistent_workers'):
        loader.pop(name, None)
    dataset = loader.get('dataset')
    # The fingerprint of the outer keep-list is compared, not its path.
    while dataset and 'keep_list' in config and dataset.pop('filter_file', None) is None:
        dataset = dataset.get('dataset')
    return config


def _start_cpu_processes(config: Config) -> None:
    """Do without CUDA what mmengine 0.10 does only with it: start the group, wrap the model."""
    if config.launcher != 'pytorch' or 'RANK' not in os.environ:
        raise ValueError(
            'without a GPU several processes are started by torchrun, with --launcher pytorch: '
            'use tools/dist_train.sh, dist_test.sh, slurm_train.sh or slurm_test.sh; got '
            f'--launcher {config.launcher}'
        )
    # A judge is trained in the group of the model that it judges.
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=MAX_WAIT))
        # gloo's threads free the tensors of the last exchange when they get hold of the
        # interpreter, and abort the process where it has ended by then (pytorch issue 190489).
        atexit.register(time.sleep, 1)
    config.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False),
    ) | dict(config.get('model_wrapper_cfg') or {}, device_ids=None)
