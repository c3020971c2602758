"""BN statistics of the images that will be tested, not of those that were trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.dataset import Compose, DefaultSampler
from mmengine.dist import all_reduce
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from mmarcface.datasets.wrappers import pipeline_of, with_pipeline
from mmarcface.engine.saved_weights import saved_model, trained_model
from mmarcface.registry import HOOKS, TRANSFORMS

from .sync_statistics import SyncStatisticsHook


@HOOKS.register_module()
class RecomputeStatisticsHook(SyncStatisticsHook):
    """Recomputes the BN statistics on the training images, prepared as in testing.

    Strong augmentation, or :class:`VirtualIdentities`, gives running statistics of images that
    never come up in testing. Before each validation and each checkpoint, and at the end, they are
    computed again over one pass of the training set with the pipeline of the test set (or of the
    validation set, where there is no test set), each image with the same weight. The rest of the
    net works as in testing. Weights do not change, nor do layers that are not trained: those in
    evaluation mode (``frozen_stages``, ``norm_eval``). Under an EMAHook the statistics are of the
    averaged weights, which are tested and saved.

    Where it fails, as on an image that cannot be read, the log says so, and the statistics of the
    training stay.

    Args:
        mirrored: whether to take every image mirrored, too, as the flip test will show it; False
            for images that are not seen mirrored, such as digits.

    Raises:
        ValueError: before training if the runner has no pipeline to prepare images with, the
            training set is of a kind that cannot be prepared in another way, or an EMAHook
            evaluates other weights than it saves.
    """

    def __init__(self, mirrored: bool = True):
        self.mirrored = mirrored

    def before_train(self, runner: Runner) -> None:
        """Prepare the images, and see that it can be done."""
        super().before_train(runner)
        trained = runner.train_dataloader
        dataset = with_pipeline(trained.dataset, _test_pipeline(runner))
        dataset[0]
        # A batch of the size of training needs less memory here: nothing is kept for gradients.
        batch_size = trained.batch_size or getattr(trained.batch_sampler, 'batch_size', 32)
        self.loader = DataLoader(
            dataset,
            max(2, batch_size),
            # One pass, the same each time; the sampler of training may have no end.
            sampler=DefaultSampler(dataset, shuffle=True, seed=0),
            num_workers=trained.num_workers,
            collate_fn=trained.collate_fn,
            pin_memory=trained.pin_memory,
            # Leaves the random numbers of the training alone.
            generator=torch.Generator(),
        )

    def refresh(self, runner: Runner) -> None:
        """Recompute the statistics of the weights that are tested and saved."""
        trained, model = trained_model(runner), saved_model(runner)
        # The averaged model of an EMAHook never changes its mode.
        names = [
            name
            for name, layer in trained.named_modules()
            if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats
        ]
        if not names:
            return
        layers = [model.get_submodule(name) for name in names]
        before = [{k: v.clone() for k, v in layer.state_dict().items()} for layer in layers]
        failure = None
        try:
            self._recompute(model, layers, trained.data_preprocessor)
        except Exception as error:  # Whatever it is, hours of training must not be lost for it.
            failure = error
            runner.logger.exception('The BN statistics could not be recomputed')
        failures = torch.tensor(float(failure is not None))
        all_reduce(failures)
        if failures:
            runner.logger.error(
                'Figures and checkpoints of this step have the BN statistics of the training, as '
                'RecomputeStatisticsHook failed (see above, or the log of another process)'
            )
            for layer, state in zip(layers, before, strict=True):
                layer.load_state_dict(state)
        if model is not trained:
            # Where an EMAHook evaluates, it takes over the averaged weights, and not the buffers.
            for name, layer in zip(names, layers, strict=True):
                trained.get_submodule(name).load_state_dict(_statistics(layer), strict=False)
        super().refresh(runner)

    @torch.no_grad()
    def _recompute(self, model: nn.Module, layers: list[_BatchNorm], preprocess: nn.Module) -> None:
        modes = {module: module.training for module in model.modules()}
        for module in modes:
            module.training = False
        for layer in layers:
            layer.training = True
        try:
            with _averaging(layers) as seen:
                for inputs in _without_single(self._images(preprocess)):
                    model(inputs)
        finally:
            for module, mode in modes.items():
                module.training = mode
        for layer in layers:
            images = layer.running_mean.new_tensor(float(seen[layer]))
            parts = [layer.running_mean, layer.running_var]
            sums = [part * images for part in parts]
            for part in (*sums, images):
                all_reduce(part)
            if images:
                for part, total in zip(parts, sums, strict=True):
                    part.copy_(total / images)

    def _images(self, preprocess: nn.Module) -> Iterator[torch.Tensor]:
        """Batches of images, as the net takes them."""
        for batch in self.loader:
            inputs = preprocess(batch, False)['inputs']
            yield inputs
            if self.mirrored:
                yield inputs.flip(-1)


@contextmanager
def _averaging(layers: list[_BatchNorm]) -> Iterator[Counter]:
    """Let layers compute their statistics again, as means over all images; yields their number."""
    seen, momenta = Counter(), {layer: layer.momentum for layer in layers}

    def weigh(layer: _BatchNorm, inputs: tuple[torch.Tensor, ...]) -> None:
        # Only now: a layer that nothing passes through keeps its statistics.
        if not seen[layer]:
            layer.reset_running_stats()
        seen[layer] += len(inputs[0])
        layer.momentum = len(inputs[0]) / seen[layer]

    handles = [layer.register_forward_pre_hook(weigh) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        for layer, momentum in momenta.items():
            layer.momentum = momentum


def _without_single(batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The same images, none of them alone in a batch: it goes with the batch before."""
    waiting = None
    for batch in batches:
        if waiting is None:
            waiting = batch
        elif len(batch) == 1:
            waiting = torch.cat([waiting, batch])
        else:
            yield waiting
            waiting = batch
    if waiting is not None and len(waiting) > 1:
        yield waiting


def _statistics(layer: _BatchNorm) -> dict[str, torch.Tensor]:
    return {name: getattr(layer, name) for name in ('running_mean', 'running_var')}


def _test_pipeline(runner: Runner) -> Callable[[dict], dict]:
    """The pipeline of the test set, or of the validation set."""
    # The test loop is built when it is run, and its data set may be large.
    for loop, loader in (
        (runner._test_loop, runner._test_dataloader),
        (runner.val_loop, runner._val_dataloader),
    ):
        loader = getattr(loop, 'dataloader', loader)
        if loader is None:
            continue
        pipeline = pipeline_of(loader['dataset'] if isinstance(loader, dict) else loader.dataset)
        if callable(pipeline):
            return pipeline
        if pipeline is not None:
            return Compose([TRANSFORMS.build(transform) for transform in pipeline])
    raise ValueError(
        'RecomputeStatisticsHook needs test_dataloader or val_dataloader, whose pipeline prepares '
        'the images as in testing; the runner has neither, or they have no pipeline'
    )
