"""The models of timm."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from mmarcface.registry import MODELS

from .embedding_backbone import EmbeddingBackbone


@MODELS.register_module()
class TimmEncoder(EmbeddingBackbone):
    """Any model of `timm <https://github.com/huggingface/pytorch-image-models>`_ as an encoder.

    It pools as timm does: mmpretrain's ``TIMMBackbone`` drops the pooling, which leaves the tokens
    of a transformer and the channels of some nets where an image has its height.

    Args:
        model_name: name of the model, as in ``timm.list_models()``.
        embedding_dim: dimension of the embedding, the output of a linear layer after the pooling;
            by default there is none, and the embedding is what timm pools.
        input_size: height and width of the images in pixels, or one number for both.
        norm_eval: keep all BN layers in evaluation mode, so that no BN statistics change; their
            weights and biases are trained all the same.
        init_cfg: config of the initialization, such as ``dict(type='Pretrained', checkpoint=...)``.
        **options: further arguments of ``timm.create_model``, such as ``drop_path_rate=0.1``, or
            ``pretrained=True`` to fetch the weights of ImageNet.

    Raises:
        ImportError: without timm.
        ValueError: if timm has no such model, or it cannot be built for ``input_size``.
    """

    def __init__(
        self,
        model_name: str,
        embedding_dim: int | None = None,
        input_size: int | Sequence[int] = 112,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
        **options: Any,
    ):
        # The model that timm builds has a dimension of its own.
        dim = 1 if embedding_dim is None else embedding_dim
        super().__init__(dim, input_size, -1, norm_eval, init_cfg)
        try:
            import timm
        except ImportError as error:
            raise ImportError('TimmEncoder needs timm: pip install timm') from error
        if not timm.is_model(model_name):
            similar = get_close_matches(str(model_name), timm.list_models())
            raise ValueError(
                f'model_name must be a model of timm {timm.__version__}, got {model_name!r}'
                + (f'; similar ones are {", ".join(similar)}' if similar else '')
            )
        settings = timm.get_pretrained_cfg(model_name)
        if settings is not None and settings.fixed_input_size:
            options = dict(img_size=self.input_size) | options
        try:
            self.model = timm.create_model(model_name, num_classes=embedding_dim or 0, **options)
        except (AssertionError, TypeError) as error:
            raise ValueError(
                f'timm cannot build {model_name} with input_size={input_size!r} and {options}: '
                f'{error}'
            ) from error
        self.embedding_dim = embedding_dim or self.model.head_hidden_size
        self.freeze()

    def stages(self) -> list[list[nn.Module]]:
        """None: the models of timm have no stages in common."""
        return []

    def init_weights(self) -> None:
        """Initialize by ``init_cfg``; timm has done its part, and may have fetched weights."""
        if self.init_cfg:
            super().init_weights()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """Embed a batch of images.

        Args:
            x: images, (N, 3, H, W) with (H, W) = ``input_size``.

        Returns:
            One tensor of shape (N, embedding_dim).

        Raises:
            ValueError: if the images are not of ``input_size``, or one alone is to be trained on
                and a BN layer needs the statistics of its batch.
        """
        self.check_images(x)
        return (self.model(x),)
