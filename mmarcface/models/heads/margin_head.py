"""The base of all heads that compare embeddings with centers by cosine."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mmarcface.functional.arguments import check_number
from mmarcface.functional.losses import class_cosines, margin_softmax
from mmarcface.functional.margins import detach_margin
from mmarcface.functional.nontarget import Modulation, interclass_filter
from mmarcface.functional.vectors import norms

from .class_head import ClassHead

GRADIENTS = ('exact', 'detached')


class MarginHead(ClassHead):
    """Base of the heads with a margin on the cosine of the target class.

    A subclass gives :meth:`target_logit`. The centers of mmpretrain's ``ArcFaceClsHead``
    (``norm_product.weight``) load as they are.

    Args:
        num_classes: number of classes, at least 1.
        in_channels: dimension of the embeddings.
        scale: factor s on the cosines, positive.
        num_subcenters: number of centers of each class, K, at least 1.
        gradient: kind of gradient: 'exact', or 'detached' for the margin as a constant in the
            backward pass, which bounds the target's gradient by that of the cosine: see
            :func:`mmarcface.functional.detach_margin`.
        filter_threshold: cosine above which another class is left out of the loss, see
            :func:`mmarcface.functional.interclass_filter`; None for no filter.
        impl: how the loss is computed: see :class:`ClassHead`.
        init_cfg: config of mmengine's initialization.
        **unknown: other arguments, which are refused as by :class:`ClassHead`.

    Raises:
        ValueError: if a value is out of its range.
        TypeError: for an argument that the head does not have.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        num_subcenters: int = 1,
        gradient: str = 'exact',
        filter_threshold: float | None = None,
        impl: str = 'auto',
        init_cfg: dict | None = None,
        **unknown,
    ):
        super().__init__(num_classes, in_channels, num_subcenters, impl, init_cfg, **unknown)
        check_number('scale', scale, above=0)
        if gradient not in GRADIENTS:
            raise ValueError(f'gradient must be one of {GRADIENTS}, got {gradient!r}')
        if filter_threshold is not None:
            check_number('filter_threshold', filter_threshold, above=-1, below=1)
        self.scale = scale
        self.gradient = gradient
        self.filter_threshold = filter_threshold
        self.register_load_state_dict_pre_hook(_rename_mmpretrain_weight)

    def target_logit(
        self, cosines: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor
    ) -> torch.Tensor:
        """phi, what takes the place of the target's cosine.

        Args:
            cosines: cosine between each embedding and its class, (N,).
            labels: class of each, (N,).
            norms: norms of the embeddings, (N,).

        Returns:
            (N,).
        """
        raise NotImplementedError

    def nontarget_cosine(self, function: Modulation | None = None) -> Modulation | None:
        """What becomes of the other classes' cosines.

        Args:
            function: function of the other classes' cosines that the loss has, or None.

        Returns:
            The same function after the filter, if there is one; None where nothing changes them.
        """
        if self.filter_threshold is None:
            return function
        filtered = interclass_filter(self.filter_threshold)
        return filtered if function is None else function.compose(filtered)

    def scale_of(self, embeddings: torch.Tensor) -> float | torch.Tensor:
        """The scale s of embeddings.

        Args:
            embeddings: embeddings, (N, in_channels).

        Returns:
            One number, or one per sample, (N,).
        """
        return self.scale

    def class_loss(
        self, embeddings: torch.Tensor, labels: torch.Tensor, function: Modulation | None = None
    ) -> dict:
        """Margin softmax.

        Args:
            embeddings: embeddings of a batch, (N, in_channels).
            labels: class of each, (N,).
            function: function of the other classes' cosines, where the loss has one.

        Returns:
            ``dict(loss=...)``, a scalar.
        """
        loss = margin_softmax(
            embeddings,
            self.weight,
            labels,
            self.margin_function(embeddings, labels),
            self.scale_of(embeddings),
            self.num_subcenters,
            self.nontarget_cosine(function),
            self.impl,
        )
        return dict(loss=loss)

    def margin_function(
        self, embeddings: torch.Tensor, labels: torch.Tensor
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """:meth:`target_logit` for a batch, with the gradient that was asked for.

        Args:
            embeddings: embeddings of a batch, (N, in_channels).
            labels: class of each, (N,).

        Returns:
            A function from the target cosines, (N,), to phi, (N,).
        """
        embedding_norms = norms(embeddings)

        def phi(cosines: torch.Tensor) -> torch.Tensor:
            if self.gradient == 'exact':
                return self.target_logit(cosines, labels, embedding_norms)
            return detach_margin(
                self.target_logit(cosines.detach(), labels, embedding_norms), cosines
            )

        return phi

    def forward(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Class scores at inference, s * cos(theta), without margin.

        Args:
            feats: outputs of the encoder, of which the last is the embeddings, (N, in_channels).

        Returns:
            (N, num_classes), in fp32 or the wider type of the weights.
        """
        embeddings = self.pre_logits(feats)
        with torch.autocast(embeddings.device.type, enabled=False):
            dtype = torch.promote_types(self.weight.dtype, torch.float)
            embeddings, weight = embeddings.to(dtype), self.weight.to(dtype)
            return self.scale * class_cosines(embeddings, weight, self.num_subcenters)


def _rename_mmpretrain_weight(module, state_dict, prefix, *_):
    released = f'{prefix}norm_product.weight'
    if released in state_dict:
        state_dict[f'{prefix}weight'] = state_dict.pop(released)
