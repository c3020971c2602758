"""What all heads share: the centers, one label a sample, and errors that say what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import nn

from mmarcface.functional.arguments import check_number
from mmarcface.functional.losses import IMPLEMENTATIONS

# What users of mmpretrain and insightface try, and what there is instead.
HINTS = {
    'loss': 'the loss is part of the head, and label smoothing is not defined with a margin',
    'margins': 'its name is margin',
    'easy_margin': 'ArcFaceHead and MagFaceHead have one',
    'embedding_size': 'its name is in_channels',
}


class ClassHead(ClsHead):
    """Base of the heads that learn by telling classes apart.

    A subclass gives :meth:`class_loss` and :meth:`forward`. The centers are one parameter,
    ``weight``, of shape (num_classes * num_subcenters, in_channels), the sub-centers of a class
    together. Keep it in fp32, also where the rest of a model is in half precision: running
    statistics of some heads would not move.

    Args:
        num_classes: number of classes, at least 1.
        in_channels: dimension of the embeddings.
        num_subcenters: number of centers of each class, K, at least 1.
        impl: 'auto', 'reference', 'fused' or 'chunked', how the loss is computed: see
            :func:`mmarcface.functional.losses.margin_softmax`.
        init_cfg: config of mmengine's initialization.
        **unknown: other arguments, which are refused, with a hint where another project has them.

    Attributes:
        observers: functions that :meth:`loss` calls with what it sees, detached embeddings,
            (N, in_channels), and labels, (N,), without gradients. Copies and files of the head
            have none.

    Raises:
        ValueError: if a value is out of its range.
        TypeError: for an argument that the head does not have.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_subcenters: int = 1,
        impl: str = 'auto',
        init_cfg: dict | None = None,
        **unknown,
    ):
        super().__init__(init_cfg=init_cfg)
        # mmpretrain's loss module works on logits.
        del self.loss_module
        for name in unknown:
            hint = f': {HINTS[name]}' if name in HINTS else ''
            raise TypeError(f'{type(self).__name__} has no argument {name!r}{hint}')
        for name, value in dict(
            num_classes=num_classes, in_channels=in_channels, num_subcenters=num_subcenters
        ).items():
            check_number(name, value, minimum=1, whole=True)
        if impl not in IMPLEMENTATIONS:
            raise ValueError(f'impl must be one of {IMPLEMENTATIONS}, got {impl!r}')
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.num_subcenters = num_subcenters
        self.impl = impl
        self.observers: list[Callable[[torch.Tensor, torch.Tensor], None]] = []
        self.weight = nn.Parameter(torch.empty(num_classes * num_subcenters, in_channels))
        nn.init.normal_(self.weight, std=0.01)

    def __getstate__(self) -> dict:
        # An observer would take along all that it knows, such as a runner with its data.
        return self.__dict__ | dict(observers=[])

    def class_loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> dict:
        """The parts of the loss, each a scalar, by name.

        Args:
            embeddings: embeddings of a batch, (N, in_channels).
            labels: class of each, (N,), int64.
        """
        raise NotImplementedError

    def loss(self, feats: tuple[torch.Tensor, ...], data_samples: list[DataSample]) -> dict:
        """The loss of a batch.

        Args:
            feats: outputs of the encoder, of which the last is the embeddings, (N, in_channels).
            data_samples: the N samples, each with one ``gt_label``.

        Returns:
            ``dict(loss=...)``, the mean over the batch, and other parts that a head may have.

        Raises:
            ValueError: if a label is outside the classes, a sample has not exactly one label, an
                embedding is not finite, or batch augmentation mixed the labels.
        """
        if any('gt_score' in sample for sample in data_samples):
            raise ValueError(
                f'{type(self).__name__} needs one class a sample, a margin on mixed labels is not '
                'defined: remove batch augments such as Mixup from model.train_cfg'
            )
        counts = [sample.gt_label.numel() if 'gt_label' in sample else 0 for sample in data_samples]
        if any(count != 1 for count in counts):
            index = next(i for i, count in enumerate(counts) if count != 1)
            raise ValueError(
                f'every sample needs exactly one gt_label; sample {index} of the batch has '
                f'{counts[index]}'
            )
        embeddings = self.pre_logits(feats)
        labels = [sample.gt_label.long() for sample in data_samples]
        labels = torch.cat(labels) if labels else torch.empty(0, dtype=torch.long)
        labels = labels.to(embeddings.device)
        losses = self.class_loss(embeddings, labels)
        with torch.no_grad():
            for observe in self.observers:
                observe(embeddings.detach(), labels)
        return losses
