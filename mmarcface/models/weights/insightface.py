"""IResNet weights in insightface's layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.logging import print_log

from mmarcface.atomic_files import replacing
from mmarcface.checkpoint import load_from_local, read_file
from mmarcface.models.backbones.iresnet import BLOCKS_PER_STAGE, IResNet

# What an IResNet has and other nets do not.
IRESNET = ('conv1.weight', 'layer1.0.prelu.weight', 'layer4.0.bn3.weight', 'features.weight')
AVERAGE = re.compile(r'(?<![a-z])ema(?![a-z])', re.IGNORECASE)


def from_insightface(source: str | Path, path: str | Path) -> dict:
    """Write weights of insightface's ``arcface_torch`` as a checkpoint of ours.

    They may be in a ``backbone.pth``, or anywhere in the checkpoint of a whole training, under
    names with a prefix such as ``module.`` or ``backbone.``: a line in the log says where.

    Args:
        source: the file of insightface; it is read weights only.
        path: the checkpoint to write.

    Returns:
        Arguments of the :class:`IResNet` that it is for.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, its weights are not those of an IResNet with square
            images, or it holds several.
    """
    weights = _find_iresnet(source)
    stages = tuple(
        len({key.split('.')[1] for key in weights if key.startswith(f'layer{stage}.')})
        for stage in range(1, 5)
    )
    depth = next((depth for depth, blocks in BLOCKS_PER_STAGE.items() if blocks == stages), None)
    if depth is None:
        raise ValueError(
            f'{source} must hold an IResNet of {list(BLOCKS_PER_STAGE.values())} blocks in its '
            f'four stages, got {stages}'
        )
    dim, inputs = weights['fc.weight'].shape
    channels = len(weights['conv1.weight'])
    side = round((inputs / (8 * channels)) ** 0.5)
    settings = dict(depth=depth, embedding_dim=dim, input_size=16 * side, base_channels=channels)
    net = IResNet(**settings)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f'{source} does not fit IResNet({settings}): {error}') from None
    state = {f'image_encoder.{key}': value for key, value in net.state_dict().items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        torch.save(dict(state_dict=state, meta=dict(source=str(source), **settings)), partial)
        for key, value in load_from_local(str(partial))['state_dict'].items():
            if not torch.equal(value, state[key]):
                raise ValueError(f'{key} of {path} is not what was written: is the disk damaged?')
    return settings


def _find_iresnet(source: str | Path) -> dict[str, torch.Tensor]:
    """Weights of the one IResNet in a file, by their own names."""
    groups = dict(_state_dicts(read_file(str(source), map_location='cpu')))
    found = [
        (where, key.removesuffix('fc.weight'))
        for where, tensors in groups.items()
        for key in tensors
        if re.search(r'(^|\.)fc\.weight$', key)
        and {key.removesuffix('fc.weight') + name for name in IRESNET} <= tensors.keys()
    ]
    # An average of the weights may be beside them.
    found = [place for place in found if not AVERAGE.search('.'.join(place))] or found
    if len(found) > 1:
        places = ' and '.join(
            f'{where or "the file"} (prefix {prefix!r})' for where, prefix in found
        )
        raise ValueError(
            f'{source} must hold one IResNet, and it holds several, in {places}: save the state '
            'dict of the one that is meant alone'
        )
    if not found:
        seen = '; '.join(
            f'{where}: {list(tensors)[:3]}'.removeprefix(': ')
            for where, tensors in groups.items()
            if tensors
        )
        raise ValueError(
            f'{source} must hold the weights of an IResNet as arcface_torch saves them '
            f'(backbone.pth, or a checkpoint of the training); its keys are like {seen or "none"}'
        )
    ((where, prefix),) = found
    weights, rest = {}, []
    for other, tensors in groups.items():
        for key, value in tensors.items():
            if other == where and key.startswith(prefix):
                weights[key.removeprefix(prefix)] = value
            else:
                rest.append(f'{other}.{key}'.removeprefix('.'))
    print_log(
        f'{source}: {len(weights)} tensors of an IResNet'
        + (f' in {where}' if where else '')
        + (f', the prefix {prefix!r} of their names taken off' if prefix else '')
        + (f'; left out {len(rest)} other tensors, such as {rest[0]}' if rest else ''),
        logger='current',
    )
    return weights


def _state_dicts(content: object, where: str = '') -> Iterator[tuple[str, dict]]:
    """The place of each dictionary in a checkpoint, and its tensors by name."""
    if isinstance(content, dict):
        yield where, {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        for key, value in content.items():
            yield from _state_dicts(value, f'{where}.{key}'.removeprefix('.'))
