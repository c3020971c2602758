"""What all margin heads share: centres, margins, labels and the two ways to run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path

import torch
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import nn

from mmarcface.functional.margin_softmax import class_cosines, margin_softmax


class MarginHead(ClsHead):
    """Base of the heads that compare embeddings with class centres by cosine.

    A subclass gives :meth:`target_logit`. The centres are one parameter, ``weight``, of shape
    (num_classes * num_subcenters, in_channels), the sub-centers of a class together. Checkpoints
    of mmpretrain's ``ArcFaceClsHead`` (``norm_product.weight``) load as they are.

    Args:
        num_classes: number of classes, at least 1.
        in_channels: length of the embeddings.
        scale: s, the factor on the cosines; positive.
        num_subcenters: K, centres of each class; at least 1.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float = 64.0,
        num_subcenters: int = 1,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg=init_cfg)
        for name, value in dict(
            num_classes=num_classes, in_channels=in_channels, num_subcenters=num_subcenters
        ).items():
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if not 0 < scale < math.inf:
            raise ValueError(f'scale must be positive and finite, got {scale}')
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.scale = scale
        self.num_subcenters = num_subcenters
        self.weight = nn.Parameter(torch.empty(num_classes * num_subcenters, in_channels))
        nn.init.normal_(self.weight, std=0.01)
        self.register_load_state_dict_pre_hook(_rename_mmpretrain_weight)

    def target_logit(self, cosines: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """phi, what takes the place of the target's cosine.

        Args:
            cosines: cosine between each embedding and its class, (N,).
            labels: (N,).

        Returns:
            (N,).
        """
        raise NotImplementedError

    def forward(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Class scores at inference, s * cos(theta), without margin.

        Args:
            feats: the last one is the embeddings, (N, in_channels).

        Returns:
            (N, num_classes), fp32 under autocast too.
        """
        embeddings = self.pre_logits(feats)
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(self.weight.dtype)
            return self.scale * class_cosines(embeddings, self.weight, self.num_subcenters)

    def loss(self, feats: tuple[torch.Tensor, ...], data_samples: list[DataSample]) -> dict:
        """Margin-softmax loss.

        Args:
            feats: the last one is the embeddings, (N, in_channels).
            data_samples: N samples, each with one ``gt_label``.

        Returns:
            ``dict(loss=...)``, the mean over the batch.

        Raises:
            ValueError: if a label is outside the classes, a sample has not exactly one label, or
                batch augmentation mixed the labels.
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
        labels = torch.cat([sample.gt_label for sample in data_samples]).to(embeddings.device)
        loss = margin_softmax(
            embeddings,
            self.weight,
            labels,
            lambda cosines: self.target_logit(cosines, labels),
            self.scale,
            self.num_subcenters,
        )
        return dict(loss=loss)


class ClassMargins(nn.Module):
    """The margin of each class, from a number, a sequence or a text file.

    Args:
        margin: one number for all classes; or one per class: a sequence, or the path of a text
            file with a number a line.
        num_classes: number of classes.
        most: the largest margin allowed; the smallest is 0.

    Raises:
        ValueError: if the count is not ``num_classes`` or a margin is not in [0, most].
    """

    def __init__(self, margin: float | Sequence[float] | str, num_classes: int, most: float):
        super().__init__()
        self.most = most
        self.register_buffer('values', torch.empty(num_classes), persistent=False)
        self.set(margin)

    def set(self, margin: float | Sequence[float] | str) -> None:
        """Replace all margins; arguments and errors as for the class."""
        if isinstance(margin, (str, Path)):
            margins = _read_margins(margin)
        elif isinstance(margin, Real):
            margins = [float(margin)] * len(self.values)
        else:
            margins = [float(value) for value in margin]
        if len(margins) != len(self.values):
            raise ValueError(
                f'margin must be one number or one per class: {len(self.values)} classes, '
                f'got {len(margins)} margins'
            )
        for label, value in enumerate(margins):
            if not 0 <= value <= self.most:
                raise ValueError(
                    f'margin must be in [0, {self.most:.4g}], got {value} for class {label}'
                )
        self.values.copy_(torch.tensor(margins))

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Margins of the given classes: (N,) labels to (N,) margins."""
        return self.values[labels]


def _read_margins(path: str | Path) -> list[float]:
    margins = []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        try:
            margins.append(float(line))
        except ValueError:
            raise ValueError(f'{path}:{number}: a margin must be a number, got {line!r}') from None
        if not math.isfinite(margins[-1]):
            raise ValueError(f'{path}:{number}: a margin must be finite, got {line!r}')
    return margins


def _rename_mmpretrain_weight(module, state_dict, prefix, *_):
    released = f'{prefix}norm_product.weight'
    if released in state_dict:
        state_dict[f'{prefix}weight'] = state_dict.pop(released)
