"""What the embedding of an image is: one rule for galleries, purification, judges and inversion."""

from __future__ import annotations

import torch
from mmpretrain.models.retrievers import BaseRetriever
from torch import nn

from .wrappers import unwrap_model


def embed_images(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Embed preprocessed images as in testing.

    An :class:`EmbeddingRetriever` embeds by its own method ``embed``, with the flip test if it is
    configured, and mmpretrain's retrievers by their encoder; hidden layers of a retriever's head
    are for training only. The embedding of a classifier, such as mmpretrain's ``ImageClassifier``,
    is what the last layer of its head sees: ``head.pre_logits``, after hidden layers. That of any
    other module is its last output. Feature maps are averaged over the image.

    Args:
        model: the model, in evaluation mode, wrapped for several processes or not.
        inputs: images as its data preprocessor gives them, (N, channels, H, W).

    Returns:
        Embeddings, (N, D), not normalized, in fp32 or wider.

    Raises:
        ValueError: if the model gives neither embeddings nor feature maps.
    """
    model = unwrap_model(model)
    if _has_method_embed(model):
        return _at_least_fp32(pool_maps(model.embed(inputs)))
    head = None if embeds_without_head(model) else getattr(model, 'head', None)
    return embeddings_of_feats(extract_feats(model, inputs), head)


def embeds_without_head(model: nn.Module) -> bool:
    """Whether hidden layers of the head are no part of the embedding: see :func:`embed_images`.

    Args:
        model: the model, not wrapped.
    """
    return isinstance(model, BaseRetriever) or _has_method_embed(model)


def extract_feats(model: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The outputs of a model's encoder, which are what its head takes.

    Args:
        model: the model, not wrapped.
        inputs: see :func:`embed_images`.
    """
    feats = getattr(model, 'extract_feat', model)(inputs)
    return tuple(feats) if isinstance(feats, (tuple, list)) else (feats,)


def embeddings_of_feats(
    feats: tuple[torch.Tensor, ...], head: nn.Module | None = None
) -> torch.Tensor:
    """The embeddings that belong to the outputs of an encoder: see :func:`embed_images`.

    Args:
        feats: the outputs; the last one counts.
        head: the head whose hidden layers follow the encoder; None if there is none.

    Returns:
        See :func:`embed_images`.

    Raises:
        ValueError: see :func:`embed_images`.
    """
    output = head.pre_logits(feats) if hasattr(head, 'pre_logits') else feats[-1]
    return _at_least_fp32(pool_maps(output))


def pool_maps(output: torch.Tensor) -> torch.Tensor:
    """An output of shape (N, D) as it is, and feature maps, (N, D, H, W), averaged to (N, D).

    Args:
        output: output of a model for N images.

    Raises:
        ValueError: if it is neither.
    """
    if not isinstance(output, torch.Tensor) or output.dim() not in (2, 4):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ValueError(
            'the last output of the model must be embeddings (N, D) or feature maps '
            f'(N, D, H, W), got {shape}: add a pooling neck'
        )
    return output.flatten(2).mean(2) if output.dim() == 4 else output


def _has_method_embed(model: nn.Module) -> bool:
    # Not a submodule of this name.
    return callable(getattr(type(model), 'embed', None))


def _at_least_fp32(embeddings: torch.Tensor) -> torch.Tensor:
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float))
