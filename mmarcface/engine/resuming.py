"""Going on with a training: from which file, and only under the same labels."""

from __future__ import annotations

import logging
from pathlib import Path, PureWindowsPath
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner
from mmpretrain.models import ImageClassifier

from mmarcface.checkpoint import has_head, lacking_state, open_checkpoint, open_training
from mmarcface.datasets.class_names import class_mismatch, class_names

from .saved_weights import trained_model

# Where mmengine notes the paths of other checkpoints in a checkpoint.
NOTED_FILES = ('last_ckpt', 'best_ckpt')


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """The checkpoint that a training in a folder goes on from; None where there is none.

    mmengine notes its absolute path in the file ``last_checkpoint``. Here the checkpoint beside
    that file is meant, so that a folder can be moved, renamed or copied. Where the note is missing
    or empty, or names a file that is gone or damaged, as after a break while they were written, it
    is the newest other checkpoint in the folder, with a warning.

    Args:
        work_dir: work dir of the training; it need not exist.

    Raises:
        FileNotFoundError: if there is a note, and no checkpoint to go on from.
    """
    folder = Path(work_dir)
    note = folder / 'last_checkpoint'
    # After a crash of the system a file may hold zeros.
    noted = note.read_text(errors='replace').strip().strip('\0') if note.is_file() else ''
    if '://' in noted:  # Kept elsewhere, by CheckpointHook.out_dir.
        return noted
    found = _find_moved(noted, folder) if noted else None
    if found is None:
        why = f'{note} ' + (f'names {noted}, which is gone' if noted else 'is missing or empty')
    elif found.is_dir():  # DeepSpeed writes folders.
        return str(found)
    else:
        try:
            open_training(found)
        except ValueError as error:
            why = str(error)
        else:
            return str(found)
    newest, damaged = _newest_training(folder)
    if damaged:
        why += f'; {", ".join(damaged)} cannot be read'
    if newest is not None:
        print_log(f'{why}: going on from {newest}, the newest', 'current', logging.WARNING)
    elif note.is_file():
        raise FileNotFoundError(
            f'{why}, and {folder} has no other checkpoint to go on from: put one back, or delete '
            f'{note} to train from the start'
        )
    elif damaged:
        print_log(f'{why}: training from the start', 'current', logging.WARNING)
    return newest


def _newest_training(folder: Path) -> tuple[str | None, list[str]]:
    """The newest checkpoint that a training can go on from, and the files that are damaged."""
    found, damaged = [], []
    for path in sorted(folder.glob('*.pth')):
        try:
            content = open_checkpoint(path)
        except (ValueError, FileNotFoundError):
            damaged.append(path.name)
            continue
        if lacking_state(content) is None:
            # The best one is written without the state of the optimizer.
            found.append(('optimizer' in content, content['meta']['iter'], str(path)))
    return max(found)[2] if found else None, damaged


def _find_moved(noted: str, work_dir: Path) -> Path | None:
    """The place of a checkpoint whose work dir may have moved since its path was noted."""
    # The path may come from any system.
    name, path = PureWindowsPath(noted).name, Path(noted)
    if name and (work_dir / name).exists():
        return work_dir / name
    # CheckpointHook.out_dir has folders named like the work dirs. One with a note of its own is the
    # work dir of another training, such as the one that this is a copy of.
    elsewhere = path.parent.name == work_dir.absolute().name
    if elsewhere and path.exists() and not (path.parent / 'last_checkpoint').exists():
        return path
    return None


class MovedFilesHook(Hook):
    """Finds the files that a checkpoint names in this work dir; ``build_runner`` adds it.

    mmengine notes absolute paths of the last and the best checkpoint. In a copy of a work dir they
    are those of the original, whose best checkpoint it would remove.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the paths, and forget files that are gone."""
        info = checkpoint.get('message_hub', {}).get('runtime_info', {})
        for name, noted in list(info.items()):
            if name.startswith(NOTED_FILES) and isinstance(noted, str) and '://' not in noted:
                place = _find_moved(noted, Path(runner.work_dir))
                if place is None:
                    del info[name]
                else:
                    info[name] = str(place)


class SameClassesHook(Hook):
    """Keeps labels what they were when a training goes on; ``build_runner`` adds it.

    Checkpoints get the names of the classes. A training does not go on where a label means another
    class, and warns where weights of other classes are its start. A model that tells classes is not
    evaluated under other labels than it learned.
    """

    def __init__(self):
        self.learned = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the names of the classes."""
        checkpoint['meta']['class_names'] = class_names(runner.train_dataloader.dataset)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the classes of the training set, where there is one.

        Raises:
            ValueError: if the training is to go on and a label means something else.
        """
        self.learned = checkpoint.get('meta') or {}
        if not runner._resume and not isinstance(runner._train_loop, BaseLoop):
            return
        dataset = runner.train_dataloader.dataset
        if runner._resume:
            require_same_classes(self.learned, dataset, runner._load_from)
            parts = ('optimizer', 'param_schedulers')[: 2 if runner.param_schedulers else 1]
            lacking = [name for name in parts if name not in checkpoint]
            if lacking:
                runner.logger.warning(
                    f'{runner._load_from} was written without {" and ".join(lacking)}, which start '
                    'from scratch: learning rate and momentum are not what they were'
                )
            return
        difference = class_mismatch(self.learned, dataset)
        if difference and has_head(checkpoint):
            runner.logger.warning(
                f'The head of {runner._load_from} is of other classes: {difference}; its centers '
                'are a start like any other'
            )

    def before_train(self, runner: Runner) -> None:
        """Compare the classes of the validation set, where the model tells them.

        Raises:
            ValueError: if a label means something else than in training.
        """
        if isinstance(runner._val_loop, BaseLoop):
            self._refuse_other_labels(runner, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Compare the classes of the test set, where the model tells them.

        Raises:
            ValueError: if a label means something else than in training.
        """
        self._refuse_other_labels(runner, runner.test_dataloader.dataset)

    def _refuse_other_labels(self, runner: Runner, dataset) -> None:
        model = trained_model(runner)
        if not isinstance(model, ImageClassifier) and not getattr(model, 'classify', False):
            return
        learned = self.learned
        if isinstance(runner._train_loop, BaseLoop):
            learned = dict(class_names=class_names(runner.train_dataloader.dataset))
        difference = class_mismatch(learned, dataset, allow_fewer=True)
        if difference:
            raise ValueError(
                'the model tells the classes that it learned, which have other labels in this '
                f'{type(dataset).__name__}: {difference}. Give it the same classes in the same '
                'order'
            )


class SaveStoppedHook(Hook):
    """Writes the checkpoint of a training that was stopped early; ``build_runner`` adds it.

    CheckpointHook writes one at its interval and at the end that was planned, which a training that
    EarlyStoppingHook stops does not come to.
    """

    def after_train(self, runner: Runner) -> None:
        """Save what was trained since the last checkpoint."""
        if not getattr(runner.train_loop, 'stop_training', False):
            return
        savers = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        for hook in savers:
            unit, done = ('epoch', runner.epoch) if hook.by_epoch else ('iter', runner.iter)
            name = f'{unit}_{done}.pth'
            if not hook.save_last or Path(hook.last_ckpt or '').name == name:
                continue
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            runner.save_checkpoint(hook.out_dir, name, meta=meta, backend_args=hook.backend_args)
            if is_main_process():
                path = Path(hook.out_dir, name)
                Path(runner.work_dir, 'last_checkpoint').write_text(str(path))
                runner.logger.info(f'The training was stopped early; its checkpoint is {path}')


def require_same_classes(meta: dict[str, Any], dataset, checkpoint: str | Path) -> None:
    """See that the labels of a data set mean what they meant when a checkpoint was written.

    Args:
        meta: ``meta`` of the checkpoint.
        dataset: the training set, see :func:`mmarcface.datasets.class_names.class_names`.
        checkpoint: path of the checkpoint, for the error.

    Raises:
        ValueError: if one means something else; it names the first.
    """
    difference = class_mismatch(meta, dataset)
    if difference:
        raise ValueError(
            f'{checkpoint} was trained on other classes: {difference}, so that its centers would '
            'be taken for those of others. Give the data set the classes that it had (put folders '
            'or lists back, or name them), or train from the start in another work dir'
        )
