"""Whether what a device gave is there, and what the CPU gives."""

from __future__ import annotations

from dataclasses import is_dataclass

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_map


def moved(value, device: torch.device):
    """All tensors in lists, tuples and dicts, on a device."""
    return tree_map(lambda v: v.to(device) if isinstance(v, torch.Tensor) else v, value)


def check_same(found, expected, device: torch.device | None = None) -> None:
    """Compare nested results: tensors, arrays, numbers, and objects that hold such.

    Args:
        found: on the device or not.
        expected: on the CPU.
        device: where the tensors found must be; anywhere by default.
    """
    (found, layout), (expected, wanted) = map(tree_flatten, (found, expected))
    assert layout == wanted
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, torch.Tensor):
            assert device is None or one.device == device
            torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-5, equal_nan=True)
        elif isinstance(other, np.ndarray):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        elif isinstance(other, float):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-5, nan_ok=True)
        elif is_dataclass(other):
            check_same(vars(one), vars(other), device)
        else:
            assert one == other
