"""What the nets that embed images of one size have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmarcface.functional.arguments import as_height_width, check_number

Part = nn.Module | nn.Parameter


class EmbeddingBackbone(BaseModule):
    """Base class of nets that embed images of one size, and whose first stages can be frozen.

    A subclass builds its layers, gives them as :meth:`stages`, and ends its constructor with
    :meth:`freeze`. What is frozen gets no gradient and stays in evaluation mode, so that its BN
    statistics do not change.

    Args:
        embedding_dim: dimension of the embedding.
        input_size: height and width of the images in pixels, or one number for both.
        frozen_stages: number of frozen stages: -1 to train everything, 0 to freeze the stem, k to
            freeze the stem and the first k stages, as in mmpretrain's nets.
        norm_eval: keep all BN layers in evaluation mode, so that no BN statistics change; their
            weights and biases are trained all the same.
        init_cfg: config of the initialization, such as ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: if a size is not a positive whole number, or ``frozen_stages`` is no whole
            number from -1 to the number of stages.
    """

    def __init__(
        self,
        embedding_dim: int,
        input_size: int | Sequence[int],
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg=init_cfg)
        check_number('embedding_dim', embedding_dim, minimum=1, whole=True)
        self.embedding_dim = embedding_dim
        self.input_size = as_height_width('input_size', input_size)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

    def stages(self) -> list[Sequence[Part]]:
        """The parts of the stem, and those of each stage; what comes after them always trains."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Freeze what ``frozen_stages`` names: the end of a constructor."""
        check_number(
            'frozen_stages',
            self.frozen_stages,
            minimum=-1,
            maximum=len(self.stages()) - 1,
            whole=True,
        )
        for part in self._frozen():
            part.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> EmbeddingBackbone:
        """Switch between training and evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        for part in self._frozen():
            if isinstance(part, nn.Module):
                part.eval()
        if self.norm_eval:
            for norm in self._norms():
                norm.eval()
        return self

    def check_images(self, x: torch.Tensor) -> None:
        """Refuse images that the net cannot embed, or not train on.

        Args:
            x: images, (N, 3, H, W).

        Raises:
            ValueError: if the images are not of ``input_size``, or one alone is to be trained on
                and a BN layer needs the statistics of its batch.
        """
        # The number of images last: an export would take it for fixed.
        if self.training and any(norm.training for norm in self._norms()) and len(x) == 1:
            raise ValueError(
                'a batch of one image has no batch statistics to train with: set drop_last=True '
                'in train_dataloader, or another batch_size'
            )
        if tuple(x.shape[-2:]) != self.input_size:
            raise ValueError(
                f'images must be {self.input_size} (height, width), the input_size that this '
                f'{type(self).__name__} was built with; got {tuple(x.shape[-2:])}'
            )

    def _frozen(self) -> list[Part]:
        return [part for stage in self.stages()[: self.frozen_stages + 1] for part in stage]

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, _BatchNorm)]


def recompute(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a block, and run it again in the backward pass instead of keeping its activations.

    Args:
        block: block of a net; its BN statistics change once, not twice.
        x: input of the block; without gradient the block just runs.
    """
    if not x.requires_grad:
        return block(x)
    return checkpoint(
        block,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _unchanged_statistics(block)),
    )


@contextmanager
def _unchanged_statistics(block: nn.Module) -> Iterator[None]:
    """Keep the BN statistics while a checkpointed block runs a second time."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    settings = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, settings, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)
