"""Target logits: what each loss puts in the place of cos(theta) of the target class.

Every function maps the cosine between an embedding and the centre of its class to phi, the value
that is scaled and given to the softmax in its stead. Margins are in radians unless said otherwise.
"""

from __future__ import annotations

import torch


def sine(cosine: torch.Tensor) -> torch.Tensor:
    """Sine of the angle whose cosine is given, with a finite gradient at +-1.

    1 - cos^2 carries no information below the rounding error of 1, so it is floored there: the
    true slope, -cos/sin, is infinite at +-1, and rounding even takes cosines past 1.

    Args:
        cosine: any shape; values may exceed [-1, 1] by rounding.

    Returns:
        The sine in (0, 1], same shape.
    """
    return (1 - cosine * cosine).clamp(min=torch.finfo(cosine.dtype).eps).sqrt()


def arcface(
    cosine: torch.Tensor, margin: float | torch.Tensor, easy_margin: bool = False
) -> torch.Tensor:
    """Additive angular margin, cos(theta + m).

    `ArcFace <https://arxiv.org/abs/1801.07698>`_, equation 3. Past theta = pi - m, where
    cos(theta + m) rises again, phi continues as cos(theta) - m sin(m), which keeps it decreasing
    (insightface issue 108).

    Args:
        cosine: cos(theta), any shape.
        margin: m in radians, in [0, pi/2]; a number, or a tensor that broadcasts to ``cosine``.
        easy_margin: add the margin only where cos(theta) > 0, and keep cos(theta) elsewhere.

    Returns:
        phi, of the shape of ``cosine``.
    """
    margin = torch.as_tensor(margin, dtype=cosine.dtype, device=cosine.device)
    phi = cosine * margin.cos() - sine(cosine) * margin.sin()
    if easy_margin:
        return torch.where(cosine > 0, phi, cosine)
    return torch.where(cosine > -margin.cos(), phi, cosine - margin * margin.sin())
