"""Softmax without a margin: plain, and over cosines."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from mmarcface.functional.losses import linear_softmax
from mmarcface.registry import MODELS

from .class_head import ClassHead
from .margin_head import MarginHead


@MODELS.register_module()
class SoftmaxHead(ClassHead):
    """Softmax over a linear layer with bias: what every comparison starts from.

    Checkpoints of mmpretrain's ``LinearClsHead`` (``fc.weight``, ``fc.bias``) load as they are.

    Args:
        num_classes: number of classes, at least 1.
        in_channels: dimension of the embeddings.
        impl: how the loss is computed: see :class:`ClassHead`.
        init_cfg: config of mmengine's initialization.
        **unknown: other arguments, which are refused as by :class:`ClassHead`; sub-centers, scale
            and margin are among them.

    Raises:
        ValueError: if a value is out of its range.
        TypeError: for an argument that the head does not have.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        impl: str = 'auto',
        init_cfg: dict | None = None,
        **unknown,
    ):
        if 'num_subcenters' in unknown:
            raise TypeError(
                "SoftmaxHead has no argument 'num_subcenters': which center is nearest is a "
                'matter of cosines; NormSoftmaxHead has them'
            )
        super().__init__(num_classes, in_channels, impl=impl, init_cfg=init_cfg, **unknown)
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.register_load_state_dict_pre_hook(_rename_linear_layer)

    def class_loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict:
        """``dict(loss=...)`` of embeddings (N, in_channels) and labels (N,)."""
        return dict(loss=linear_softmax(embeddings, self.weight, self.bias, labels, self.impl))

    def forward(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Class scores, (N, num_classes), of embeddings that are the last of ``feats``."""
        embeddings = self.pre_logits(feats)
        with torch.autocast(embeddings.device.type, enabled=False):
            dtype = torch.promote_types(self.weight.dtype, torch.float)
            return F.linear(*(v.to(dtype) for v in (embeddings, self.weight, self.bias)))


@MODELS.register_module()
class NormSoftmaxHead(MarginHead):
    """Softmax over s * cos(theta).

    `NormFace <https://arxiv.org/abs/1704.06369>`_, equation 9. Arguments and errors as
    :class:`MarginHead`.
    """

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """The cosine itself: (N,) to (N,)."""
        return cosines


def _rename_linear_layer(module, state_dict, prefix, *_):
    for name in ('weight', 'bias'):
        if f'{prefix}fc.{name}' in state_dict:
            state_dict[f'{prefix}{name}'] = state_dict.pop(f'{prefix}fc.{name}')
