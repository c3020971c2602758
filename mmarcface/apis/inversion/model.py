"""A model as an inversion sees it: embeddings, classes, and the meaning of a pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import nn

from mmarcface.functional.arguments import check_number
from mmarcface.models import ArcFaceHead, SoftmaxHead, unwrap_model
from mmarcface.models.embedding import embeddings_of_feats, embeds_without_head, extract_feats
from mmarcface.models.heads.centers import longest_centers


@dataclass(frozen=True)
class InversionModel:
    """A trained model, seen as a map from images to embeddings with classes on top.

    Attributes:
        model: the model, which is not changed.
        head: the head that gives the loss of a class, or None.
        centers: one vector a class, (C, D), of several sub-centers the longest, see
            :func:`mmarcface.models.heads.centers.longest_centers`; None where there are none.
        mean: mean of the normalization, in pixel values [0, 255], (channels, 1, 1).
        std: standard deviation of the normalization, the same.
        rgb: whether the first channel of the normalized images is red.
        size: height and width of the images in pixels.
    """

    model: nn.Module
    head: ClsHead | None
    centers: torch.Tensor | None
    mean: torch.Tensor
    std: torch.Tensor
    rgb: bool
    size: tuple[int, int]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        head: nn.Module | torch.Tensor | None = None,
        input_size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        scale: float | None = None,
    ) -> InversionModel:
        """Take size, normalization and classes from a model, or from the arguments.

        Args:
            model: an ``EmbeddingRetriever``, mmpretrain's ``ImageClassifier``, or any module that
                maps images to embeddings; wrapped for several processes or not.
            head: the classes, where the model does not have them: a head of ours or mmpretrain's;
                a linear layer; or its weight (C, D), to be compared with by cosine, as ArcFace
                does.
            input_size: height and width in pixels, or one number for both; by default what the
                backbone was built with.
            mean: mean of the normalization, in [0, 255]; by default that of the model's
                preprocessor, or 127.5.
            std: standard deviation of the normalization, the same. A model that does not
                normalize by itself needs both or neither.
            scale: scale s of ArcFace, for a ``head`` that is a weight alone; by default 64, as in
                :class:`mmarcface.models.ArcFaceHead`, which the log says.

        Raises:
            ValueError: if the size is not known, or a value does not fit.
            TypeError: if ``head`` is none of these.
        """
        model = unwrap_model(model)
        if scale is not None and not isinstance(head, torch.Tensor):
            raise ValueError(
                f'scale is for a head given as its weight alone, got scale {scale} and a head of '
                'its own: leave it out'
            )
        head = getattr(model, 'head', None) if head is None else _as_head(head, scale)
        if not isinstance(head, ClsHead):
            head = None
        if std is not None and any(0 < value < 1 for value in std):
            raise ValueError(
                'mean and std are of pixel values in [0, 255]: multiply those for [0, 1] by 255; '
                f'got std {list(std)}'
            )
        parameter = next(model.parameters(), None)
        if parameter is None:
            raise ValueError(f'{type(model).__name__} has no parameters: nothing was learned')
        if head is not None:
            head.to(parameter.device)
        preprocessor = getattr(model, 'data_preprocessor', None)
        # mmpretrain's has no buffers where it does not normalize.
        own = [getattr(preprocessor, name, None) for name in ('mean', 'std')]
        given = [name for name, value in dict(mean=mean, std=std).items() if value is not None]
        alone = len(given) == 1 and own[0] is None
        if own[0] is not None:
            own = [value.flatten().tolist() for value in own]
        else:
            own = [[127.5], [127.5]] if preprocessor is None else [[0], [1]]
        convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        channels = convolution.in_channels if convolution else 3 if mean is None else len(mean)
        mean, std = (own[i] if value is None else value for i, value in enumerate((mean, std)))
        for name, values in dict(mean=mean, std=std).items():
            if len(values) not in (1, channels):
                raise ValueError(
                    f'{name} must have one value or {channels}, one a channel, got {list(values)}'
                )
        if not all(0 < value < math.inf for value in std):
            raise ValueError(f'std must be positive and finite, got {list(std)}')
        if alone:
            raise ValueError(
                f'mean and std must be given together for {type(model).__name__}, which does not '
                f'normalize by itself, got {given[0]} alone'
            )
        if input_size is None:
            input_size = _built_with(model)
        height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
        if min(height, width) < 1:
            raise ValueError(f'input_size must be positive, got {(height, width)}')
        return cls(
            model,
            head,
            None if head is None else longest_centers(head),
            *(
                torch.tensor(values, device=parameter.device, dtype=torch.float)
                .expand(channels)
                .view(-1, 1, 1)
                for values in (mean, std)
            ),
            rgb=bool(getattr(preprocessor, 'to_rgb', True)),
            size=(height, width),
        )

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def feats(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The input of the head.

        Args:
            images: normalized images, (N, channels, H, W).
        """
        return extract_feats(self.model, images.to(next(self.model.parameters()).dtype))

    def embeddings(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The embeddings of images, (N, D), in fp32 or wider.

        They are those of :func:`mmarcface.models.embed_images`, but without the flip test, which
        would double the time of each step of a search.

        Args:
            feats: output of :meth:`feats`.

        Raises:
            ValueError: if the output has another shape.
        """
        return embeddings_of_feats(feats, None if embeds_without_head(self.model) else self.head)

    def class_loss(
        self, feats: tuple[torch.Tensor, ...], samples: list[DataSample]
    ) -> torch.Tensor:
        """The head's loss with all of its parts, averaged over the samples.

        Args:
            feats: output of :meth:`feats`.
            samples: samples with the labels, one per image.
        """
        losses = self.head.loss(feats, samples)
        return sum(value for name, value in losses.items() if 'loss' in name)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode without gradients of weights, until the context ends."""
        modules = [self.model, *([] if self.head is None else [self.head])]
        modes = {child: child.training for module in modules for child in module.modules()}
        trained = [p for module in modules for p in module.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        for child in modes:
            child.training = False
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            for child, mode in modes.items():
                child.training = mode

    def to_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Images as pixels that OpenCV can write.

        Args:
            images: normalized images, (N, channels, H, W).

        Returns:
            Pixels, (N, H, W, 3), uint8, BGR.
        """
        pixels = (images * self.std + self.mean).round().clamp(0, 255).to(torch.uint8)
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        elif self.rgb:
            pixels = pixels.flip(1)
        return pixels.permute(0, 2, 3, 1).contiguous().cpu()

    def from_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`to_pixels`.

        Args:
            pixels: pixels, (N, H, W, 3), uint8, BGR.

        Returns:
            Normalized images, (N, channels, H, W).
        """
        images = pixels.to(self.device).permute(0, 3, 1, 2).float()
        if len(self.mean) == 1:
            images = images[:, :1]
        elif self.rgb:
            images = images.flip(1)
        return (images - self.mean) / self.std


def _as_head(head: nn.Module | torch.Tensor, scale: float | None) -> ClsHead:
    if isinstance(head, ClsHead):
        return head
    weight = head.weight if isinstance(head, nn.Linear) else head
    if not isinstance(weight, torch.Tensor) or weight.dim() != 2 or not weight.is_floating_point():
        raise TypeError(
            'head must be a classification head, a linear layer, or its weight (classes, width), '
            f'got {type(head).__name__}'
        )
    if not torch.isfinite(weight).all():
        raise ValueError('the weight of the head is not finite')
    kind = SoftmaxHead if isinstance(head, nn.Linear) else ArcFaceHead
    if scale is not None:
        check_number('scale', scale, above=0)
    with torch.random.fork_rng(devices=[]):
        built = kind(*weight.shape, **({} if scale is None else dict(scale=scale)))
    if kind is ArcFaceHead and scale is None:
        print_log(
            f'The weight given as head is read as that of ArcFace with a scale of {built.scale:g}: '
            'give scale= for a model trained with another',
            'current',
        )
    with torch.no_grad():
        built.weight.copy_(weight)
        if kind is SoftmaxHead:
            built.bias.copy_(torch.zeros(len(weight)) if head.bias is None else head.bias)
    return built


def _built_with(model: nn.Module) -> Sequence[int]:
    for module in model.modules():
        size = getattr(module, 'input_size', None)
        if isinstance(size, (int, tuple)):
            return size
    raise ValueError(
        f'{type(model).__name__} does not say how large its images are: give input_size'
    )
