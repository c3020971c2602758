"""Heads that are kept with converted weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mmarcface.functional.arguments import is_number
from mmarcface.models.heads import AdaFaceHead

KERNEL = 'head.kernel'
# Running statistics of the norms, in AdaFace's names and in ours.
STATISTICS = {'head.batch_mean': 'mean', 'head.batch_std': 'std'}
# Hyper-parameters in a checkpoint of AdaFace's training, in its names and in ours.
SETTINGS = {'m': 'margin', 'h': 'concentration', 's': 'scale', 't_alpha': 'momentum'}


@dataclass(frozen=True)
class KeptHead:
    """A head that is kept.

    Args:
        config: config of the head, with its class as ``type``.
        weights: its weights, by name.
        names: names of the tensors that they were made of.
    """

    config: dict
    weights: dict[str, torch.Tensor]
    names: list[str]


def adaface_head(
    beside: Mapping[str, torch.Tensor], content: Any, embedding_dim: int
) -> KeptHead | None:
    """The head of AdaFace beside the weights of a net.

    Args:
        beside: tensors in the same dictionary as the net's, by name.
        content: content of the file, which may have ``hyper_parameters``.
        embedding_dim: width of the net's embeddings.

    Returns:
        The head, an :class:`AdaFaceHead`; None if there is no such head.

    Raises:
        ValueError: if its weights are of another shape than they must be.
    """
    name = next((key for key in beside if key == KERNEL or key.endswith(f'.{KERNEL}')), None)
    if name is None:
        return None
    kernel, prefix = beside[name], name.removesuffix(KERNEL)
    shape = tuple(kernel.shape)
    if len(shape) != 2 or shape[0] != embedding_dim:
        hint = ''
        if len(shape) == 2 and shape[1] == embedding_dim:
            hint = ': it is transposed, so turn it around where it was made (kernel.T)'
        raise ValueError(
            f'{name} must have shape ({embedding_dim}, number of classes), as the embeddings are '
            f'{embedding_dim} wide; got {shape}{hint}'
        )
    given = content.get('hyper_parameters') if isinstance(content, Mapping) else None
    given = given if isinstance(given, Mapping) else {}
    settings = {SETTINGS[key]: float(given[key]) for key in SETTINGS if is_number(given.get(key))}
    settings = dict(num_classes=shape[1], in_channels=shape[0], **settings)
    # Of one class, as there may be millions.
    weights = AdaFaceHead(**(settings | dict(num_classes=1))).state_dict()
    weights['weight'] = kernel.T.contiguous().to(torch.float)
    for theirs, ours in STATISTICS.items():
        if prefix + theirs in beside:
            weights[ours] = beside[prefix + theirs].reshape(()).to(torch.float)
    names = [key for key in beside if key.startswith(f'{prefix}head.')]
    return KeptHead(dict(type=AdaFaceHead, **settings), weights, names)
