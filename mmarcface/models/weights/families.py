"""The nets whose weights are recognized: by which keys, and how their shapes tell the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mmarcface.models.backbones import FaceViT, IResNet, IRNet, MobileFaceNet

from .face_vit import face_vit_settings
from .ir_net import ir_net_settings
from .iresnet import iresnet_settings
from .mobilefacenet import mobilefacenet_settings

Weights = Mapping[str, torch.Tensor]
Size = tuple[int, int]


@dataclass(frozen=True)
class Family:
    """One kind of net, in the layout in which other projects save its weights.

    Args:
        net: class of the net; its parameters have the same names.
        origin: projects that have it, for people.
        keys: names of tensors that this kind has and no other; the first one occurs once in a net.
        settings: function that gives the arguments of ``net``, from its weights by name, and from
            height and width of the images, or None if they are not given.
        channel_order: order of the color channels that it is trained with, 'RGB' or 'BGR'; None
            where the projects that have it differ.
    """

    net: type[nn.Module]
    origin: str
    keys: tuple[str, ...]
    settings: Callable[[Weights, Size | None], dict]
    channel_order: str | None


# The images of all of them have a mean and a standard deviation of 127.5.
FAMILIES = (
    Family(
        net=IResNet,
        origin="insightface's arcface_torch",
        keys=(
            'fc.weight',
            'conv1.weight',
            'layer1.0.prelu.weight',
            'layer4.0.bn3.weight',
            'features.weight',
        ),
        settings=iresnet_settings,
        channel_order='RGB',
    ),
    Family(
        net=MobileFaceNet,
        origin="insightface's arcface_torch",
        keys=(
            'conv_sep.layers.0.weight',
            'layers.0.layers.0.weight',
            'features.layers.0.layers.0.weight',
            'features.layers.2.weight',
        ),
        settings=mobilefacenet_settings,
        channel_order='RGB',
    ),
    Family(
        net=FaceViT,
        origin="insightface's arcface_torch",
        keys=(
            'mask_token',
            'pos_embed',
            'patch_embed.proj.weight',
            'blocks.0.attn.qkv.weight',
            'feature.2.weight',
        ),
        settings=face_vit_settings,
        channel_order='RGB',
    ),
    Family(
        net=IRNet,
        origin='AdaFace, CVLface and older IR and IR-SE nets',
        keys=(
            'output_layer.3.weight',
            'input_layer.0.weight',
            'body.0.res_layer.1.weight',
            'output_layer.4.running_mean',
        ),
        settings=ir_net_settings,
        channel_order=None,
    ),
)
