"""Which weights a checkpoint gives, where a hook averages those that are trained."""

from __future__ import annotations

from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from torch import nn

from mmarcface.models import unwrap_model


def trained_model(runner: Runner) -> nn.Module:
    """The model that the optimizer works on, without the wrapper for several processes.

    Args:
        runner: runner of the training.
    """
    return unwrap_model(runner.model)


def saved_model(runner: Runner) -> nn.Module:
    """The model whose weights a plain load of a checkpoint gives.

    Under an EMAHook, mmengine's or mmpretrain's, with any average (also StochasticWeightAverage),
    checkpoints hold the averaged weights as ``state_dict``; whatever a training reports of its
    model must use these. Buffers of this copy may be behind those of :func:`trained_model` until
    the hook's ``after_train_iter``.

    Args:
        runner: runner of a training that has begun.
    """
    averages = averaging_hooks(runner)
    return averages[-1].ema_model.module if averages else trained_model(runner)


def averaging_hooks(runner: Runner) -> list[EMAHook]:
    """The hooks of a runner that average weights, mmpretrain's included.

    Args:
        runner: runner of the training.
    """
    return [hook for hook in runner.hooks if isinstance(hook, EMAHook)]


def load_averaged_weights(runner: Runner) -> None:
    """Give the trained model what a checkpoint gives, after training.

    mmengine starts a new average when a runner goes on to test, from the weights that it finds.

    Args:
        runner: runner whose training is over.
    """
    trained, saved = trained_model(runner), saved_model(runner)
    if saved is not trained:
        trained.load_state_dict(saved.state_dict())


def remove_averaging_hooks(runner: Runner) -> None:
    """Remove the hooks that would replace the weights that were loaded.

    Args:
        runner: runner that tests and does not train.
    """
    averages = averaging_hooks(runner)
    runner.hooks[:] = [hook for hook in runner.hooks if hook not in averages]


def require_averaged_figures(runner: Runner) -> None:
    """Refuse hooks whose figures are of other weights than those that checkpoints give.

    Args:
        runner: runner that has not trained or tested yet.

    Raises:
        ValueError: if an EMAHook evaluates the weights that are trained, not their average.
    """
    for hook in averaging_hooks(runner):
        if getattr(hook, 'evaluate_on_origin', False):
            raise ValueError(
                f'{type(hook).__name__} must have evaluate_on_ema=True and '
                'evaluate_on_origin=False: checkpoints give the averaged weights, and figures of '
                'others would not be theirs; got '
                f'evaluate_on_ema={hook.evaluate_on_ema}, evaluate_on_origin=True'
            )
