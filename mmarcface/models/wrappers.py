"""Models inside wrappers for several devices or processes."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module) -> nn.Module:
    """The model inside wrappers such as ``DistributedDataParallel``; a bare one as it is.

    Args:
        model: a model, wrapped or not.
    """
    while is_model_wrapper(model):
        model = model.module
    return model
