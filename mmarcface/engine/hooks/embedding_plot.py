"""A picture of the embeddings after every validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import collect_results, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import TensorboardVisBackend
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader

from mmarcface.engine.saved_weights import require_averaged_figures, saved_model
from mmarcface.functional.arguments import check_number
from mmarcface.models.heads.centers import class_centers
from mmarcface.registry import HOOKS
from mmarcface.visualization import EmbeddingPanel, draw_embeddings, figure_to_image

NEEDED = ('embedding', 'gt_label', 'sample_idx')


@HOOKS.register_module()
class EmbeddingPlotHook(Hook):
    """Draws the embeddings of the validation set, with the centers of the head.

    The picture, see :func:`mmarcface.visualization.draw_embeddings`, goes to all backends of the
    visualizer; where one is TensorBoard, its projector gets the embeddings too. The step is the
    iteration. Images are counted once, also where a distributed sampler repeats some. ``panel`` is
    what was drawn last, on the main process.

    Args:
        interval: number of validations between two pictures, at least 1.
        max_points: largest number of images to draw, at least 1. Of more images the same ones are
            drawn each time, chosen with a fixed seed, and the angles in the picture are theirs.

    Raises:
        ValueError: if a number is below 1; before training if a validation set of several sets has
            a ``sample_idx`` twice; in validation if the samples have no embeddings.
    """

    # After CheckpointHook.
    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1, max_points: int = 2000):
        check_number('interval', interval, minimum=1, whole=True)
        check_number('max_points', max_points, minimum=1, whole=True)
        self.interval = interval
        self.max_points = max_points
        self.validations = 0
        self.kept = []
        self.panel = None

    def before_train(self, runner: Runner) -> None:
        """Refuse samples that cannot be told apart, and other weights than are saved."""
        require_averaged_figures(runner)
        dataset = runner.val_loop and runner.val_loop.dataloader.dataset
        # mmengine's ConcatDataset counts the samples of each part anew.
        if hasattr(dataset, 'cumulative_sizes') and len(dataset.cumulative_sizes) > 1:
            raise ValueError(
                'EmbeddingPlotHook needs samples of different sample_idx, and those of '
                f'{type(dataset).__name__} repeat: give one data set to val_dataloader'
            )

    def before_val_epoch(self, runner: Runner) -> None:
        """Choose the images to draw, the same on every process."""
        size = len(runner.val_dataloader.dataset)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
        self.chosen = set(order[: self.max_points].tolist())
        self.kept = []
        self.validations += 1

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[DataSample] | None = None,
    ) -> None:
        """Keep the embeddings of the chosen images."""
        if self.validations % self.interval:
            return
        for sample in outputs:
            missing = [name for name in NEEDED if name not in sample]
            if missing:
                raise ValueError(
                    f'EmbeddingPlotHook needs {", ".join(missing)} in every sample: use '
                    'EmbeddingRetriever as model, a labeled data set, and sample_idx in the '
                    'meta_keys of PackInputs'
                )
            if sample.sample_idx in self.chosen:
                embedding = sample.embedding.float().cpu().numpy()
                self.kept.append((sample.sample_idx, int(sample.gt_label), embedding))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw, on the main process."""
        if self.validations % self.interval:
            return
        shards = collect_results([self.kept], get_world_size())
        self.kept = []
        if not is_main_process():
            return
        samples = {index: (label, vector) for shard in shards for index, label, vector in shard}
        labels, vectors = zip(*(samples[index] for index in sorted(samples)), strict=True)
        labels, vectors = np.array(labels), np.stack(vectors)
        classes = _classes(runner.val_dataloader)
        # Under an EMAHook the embeddings are not those of the trained model.
        centers = class_centers(getattr(saved_model(runner), 'head', None))
        # Where validation has other people, the same label means someone else.
        learned = _classes(runner.train_dataloader)
        has_centers = (
            centers is not None
            and centers.shape[2:] == vectors.shape[1:]
            and classes is not None
            and learned == classes
        )
        self.panel = EmbeddingPanel(
            f'iteration {runner.iter}',
            vectors,
            labels,
            centers.flatten(0, 1).float().cpu().numpy() if has_centers else None,
            centers.shape[1] if has_centers else 1,
            classes,
            (metrics or {}).get('accuracy/top1'),
        )
        visualizer = runner.visualizer
        image = figure_to_image(draw_embeddings([self.panel]), dpi=200)
        visualizer.add_image('embeddings', image, runner.iter)
        for backend in visualizer._vis_backends.values():
            if isinstance(backend, TensorboardVisBackend):
                names = [str(label) if classes is None else classes[label] for label in labels]
                backend.experiment.add_embedding(
                    vectors, metadata=names, global_step=runner.iter, tag='embeddings'
                )


def _classes(loader: DataLoader) -> Sequence[str] | None:
    return getattr(loader.dataset, 'metainfo', {}).get('classes')
