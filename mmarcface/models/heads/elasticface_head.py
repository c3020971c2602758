"""ElasticFace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mmarcface.functional.arguments import check_number
from mmarcface.functional.margins import arcface, cosface, elasticface_margins
from mmarcface.registry import MODELS

from .class_margins import ClassMargins
from .margin_head import MarginHead

# The margin functions with the paper's margin and the largest that is allowed.
FUNCTIONS = {'arc': (arcface, 0.5, math.pi / 2), 'cos': (cosface, 0.35, 2.0)}


@MODELS.register_module()
class ElasticFaceHead(MarginHead):
    """ArcFace or CosFace with a margin drawn anew for each sample.

    `ElasticFace <https://arxiv.org/abs/2109.09416>`_; see
    :func:`mmarcface.functional.margins.elasticface_margins`.

    Args:
        num_classes: number of classes.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        margin: mean of the margins, in radians or units of the cosine: a number, one per class, or
            a text file with one per class, a number a line. 0.5 for 'arc' and 0.35 for 'cos' by
            default.
        function: name of the margin function, 'arc' or 'cos'.
        sigma: standard deviation of the margins, at least 0; a margin that falls outside its range
            counts as the nearest inside.
        plus: give the larger margins to the harder samples (ElasticFace+).
        **kwargs: further arguments of :class:`MarginHead`.

    Raises:
        ValueError: if a number is out of its range or the count of margins is not that of classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        margin: float | Sequence[float] | str | None = None,
        function: str = 'arc',
        sigma: float = 0.0125,
        plus: bool = False,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, scale, **kwargs)
        if function not in FUNCTIONS:
            raise ValueError(f'function must be one of {tuple(FUNCTIONS)}, got {function!r}')
        check_number('sigma', sigma, minimum=0)
        self.function, default, most = FUNCTIONS[function]
        self.sigma = sigma
        self.plus = plus
        self.margins = ClassMargins(
            default if margin is None else margin, num_classes, maximum=most
        )

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """Phi with margins drawn in this call: arguments as :class:`MarginHead`'s, all (N,).

        In evaluation mode nothing is drawn, and the means count.
        """
        means = self.margins(labels)
        if not self.training:
            return self.function(cosines, means)
        drawn = elasticface_margins(cosines, means, self.sigma, self.plus)
        return self.function(cosines, drawn.clamp(0, self.margins.maximum))
