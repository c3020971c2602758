"""The class centers of a trained head, whoever wrote it."""

from __future__ import annotations

import torch
from torch import nn


def class_centers(head: nn.Module | None) -> torch.Tensor | None:
    """The centers of a head's classes, detached.

    Args:
        head: a head of ours, or one of mmpretrain's with a last linear layer, such as
            ``LinearClsHead`` (``fc``) and ``ArcFaceClsHead`` (``norm_product``).

    Returns:
        (C, K, D), K sub-centers of each class; None for a head without such a weight.
    """
    layers = (head, getattr(head, 'fc', None), getattr(head, 'norm_product', None))
    for weight in (getattr(layer, 'weight', None) for layer in layers):
        if isinstance(weight, torch.Tensor) and weight.dim() == 2:
            return weight.detach().unflatten(0, (-1, getattr(head, 'num_subcenters', 1)))
    return None


def longest_centers(head: nn.Module | None) -> torch.Tensor | None:
    """The sub-center of each class with the largest norm, which is found without training data.

    A center's gradient is perpendicular to it, so each sample that pulls it makes it longer, and
    weight decay shortens those that no sample pulls. After a training that is long enough for its
    weight decay it is therefore mostly the dominant one, the one that most samples of the class are
    nearest to (:func:`mmarcface.functional.subcenter.dominant_subcenters`); after a short one the
    norm tells little.

    Args:
        head: see :func:`class_centers`.

    Returns:
        (C, D), not normalized; None for a head without centers.
    """
    centers = class_centers(head)
    if centers is None:
        return None
    longest = centers.float().norm(dim=2).argmax(1)
    return centers[torch.arange(len(centers), device=centers.device), longest]
