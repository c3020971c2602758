"""Target logits over the angle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_target_logits(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw the curves of :func:`mmarcface.functional.target_logit_curve` in one figure.

    Args:
        curves: angles in degrees and phi, each (T,), by name of the loss.

    Returns:
        The figure; save it with its ``savefig``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    styles = ('-', '--', ':', '-.')
    for i, (name, (degrees, phi)) in enumerate(curves.items()):
        axes.plot(degrees, phi, styles[i // 10 % len(styles)], label=name)
    axes.set_xlabel('angle to the own center (degrees)')
    axes.set_ylabel('target logit / s')
    axes.set_xlim(0, 180)
    axes.set_xticks(range(0, 181, 30))
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small', loc='center left', bbox_to_anchor=(1, 0.5))
    return figure
