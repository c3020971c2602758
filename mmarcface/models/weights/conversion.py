"""From a file of weights to what the tools take: a checkpoint, its config and its manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.config import Config
from mmpretrain.apis import get_model

from mmarcface.atomic_files import replacing
from mmarcface.checkpoint import SUFFIXES, RefusedError, read_file, save_checkpoint
from mmarcface.functional.arguments import as_height_width
from mmarcface.manifest import (
    Manifest,
    architecture_of,
    describe_model,
    load_manifest,
    refuse_other_weights,
)

from .config_text import LFW_SIZE, write_config_text
from .finding import Found, find_net
from .heads import adaface_head
from .mismatches import misfits
from .own_config import read_own_config

ENCODER = 'image_encoder.'
CHANNEL_ORDERS = 'RGB', 'BGR'
# Files beside CVLface's weights that tell the order of the color channels.
SIDECARS = '{stem}.yaml', 'model.yaml', 'config.json', 'pretrained_model/model.yaml'
# Entries of a config that belong to the place of its training.
OF_TRAINING = 'work_dir', 'launcher', 'load_from', 'resume'
# Lightning names the state of a callback by all of its settings.
MAX_NAME = 50
# Facts of a manifest that weights keep in another format.
KEPT_FACTS = 'alignment', 'training_data', 'license', 'measured'


@dataclass(frozen=True)
class Conversion:
    """What was found and what was written.

    Args:
        found: the net, where its weights were, and what was left out, in one line.
        checkpoint: path of the checkpoint.
        config: path of the config.
        manifest: the manifest beside the checkpoint.
    """

    found: str
    checkpoint: Path
    config: Path
    manifest: Manifest


@dataclass(frozen=True)
class _Parts:
    """What is written, before it is; and the manifest that lay beside the source."""

    found: str
    text: str
    config: Config
    state: dict[str, torch.Tensor]
    meta: dict[str, Any]
    facts: dict[str, Any]
    manifest: Manifest | None = None


def convert_weights(
    source: str | Path,
    target: str | Path,
    input_size: tuple[int, int] | None = None,
    channel_order: str | None = None,
) -> Conversion:
    """Write weights as a checkpoint of ours, with the config that tests it and its manifest.

    The file may hold a net of one of :data:`mmarcface.models.weights.families.FAMILIES`, alone or
    anywhere in the checkpoint of a whole training, under names with a prefix such as ``module.`` or
    ``backbone.``; AdaFace's head beside it is kept. Or it is a checkpoint of ours, which keeps all
    of its weights and its metadata, and is written with the config of its training.

    Args:
        source: file of the weights, of ``torch.save`` or safetensors; it is read weights only.
        target: checkpoint to write, .pth or .safetensors. The config is beside it, with the suffix
            .py.
        input_size: height and width of the images in pixels, where the weights leave them open.
        channel_order: order in which the net sees color channels, 'RGB' or 'BGR'; by default that
            of a file of CVLface's beside the source, or that of the family.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if it needs the package ``safetensors``, which is not installed.
        ValueError: if the file is damaged, holds no known net or several, or leaves something open;
            or if the target is no place for the files.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    if channel_order is not None and channel_order not in CHANNEL_ORDERS:
        raise ValueError(f'channel_order must be one of {CHANNEL_ORDERS}, got {channel_order!r}')
    if input_size is not None:
        input_size = as_height_width('input_size', input_size)
    content = _read(source)
    _check_target(source, target)
    try:
        if not _is_ours(content):
            parts = _of_others(source, target, content, input_size, channel_order)
        elif input_size is None and channel_order is None:
            parts = _of_ours(source, content)
        else:
            raise ValueError(
                'its config, which is in it, says input_size and channel_order: leave them out'
            )
        model = _build(parts)
        if parts.manifest is not None:
            refuse_other_weights(parts.manifest, model.image_encoder.state_dict(), source)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from None
    return _write(source, target, parts, describe_model(model, source=str(source), **parts.facts))


def _read(source: Path) -> Any:
    try:
        return read_file(str(source), map_location='cpu')
    except RefusedError as error:
        raise ValueError(
            f'{source} cannot be read without running code: it asks for {error.asked_for}, and may '
            'be malicious. Where it was made, or where you trust it and its packages are '
            'installed, write its weights alone and convert them: content = torch.load('
            f"{source.name!r}, map_location='cpu', weights_only=False); torch.save("
            "content.state_dict() if hasattr(content, 'state_dict') else content['state_dict'], "
            "'weights.pth')"
        ) from None


def _check_target(source: Path, target: Path) -> None:
    if target.suffix not in SUFFIXES:
        raise ValueError(f'the target must be named *{" or *".join(SUFFIXES)}, got {target}')
    if target.is_dir():
        raise ValueError(f'the target {target} is a folder: name a file in it')
    if target.exists() and target.samefile(source):
        raise ValueError(f'the target {target} is the source itself: name another file')
    if target.exists():
        known = load_manifest(target)
        if known is None or known.source != str(source):
            raise ValueError(
                f'the target {target} exists and was not made from {source}: remove it, or name '
                'another file'
            )


def _is_ours(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    state, meta = content.get('state_dict'), content.get('meta')
    return (
        isinstance(state, Mapping)
        and isinstance(meta, Mapping)
        and isinstance(meta.get('cfg'), str)
        and any(str(key).startswith(ENCODER) for key in state)
    )


def _of_ours(source: Path, content: dict) -> _Parts:
    """What a checkpoint of ours becomes."""
    state = content['state_dict']
    config = read_own_config(content['meta']['cfg'])
    for name in OF_TRAINING:
        config.pop(name, None)
    encoder = config.get('model', {}).get('image_encoder')
    if encoder is None:
        raise ValueError('the config in it has no model with an image_encoder')
    _refuse_not_finite(state)
    facts = dict(architecture=architecture_of(encoder))
    known = load_manifest(source)
    if known is not None:
        facts |= {name: getattr(known, name) for name in KEPT_FACTS}
    heads = ' and a head' if any(key.startswith('head.') for key in state) else ''
    found = f'{facts["architecture"]}{heads}, {len(state)} tensors of a checkpoint of mmarcface'
    left_out = sorted(content.keys() - {'state_dict', 'meta'})
    if left_out:
        found += f'; left out {", ".join(left_out)}, which only a training that is resumed needs'
    return _Parts(found, config.pretty_text, config, state, dict(content['meta']), facts, known)


def _of_others(
    source: Path,
    target: Path,
    content: Any,
    input_size: tuple[int, int] | None,
    channel_order: str | None,
) -> _Parts:
    """What a file of another project becomes."""
    found = find_net(content)
    _refuse_not_finite(found.weights)
    sidecar, conf = _conf_of_cvlface(source)
    if input_size is None and conf is not None and 'input_size' in conf:
        # Channels, height and width.
        size = conf['input_size']
        input_size = as_height_width(
            f'input_size in {sidecar}', size[1:] if isinstance(size, list) else size
        )
    settings = found.family.settings(found.weights, input_size)
    encoder = found.family.net(**settings)
    _load(encoder, found)
    state = {f'{ENCODER}{key}': value for key, value in encoder.state_dict().items()}
    head = adaface_head(found.beside, content, settings['embedding_dim'])
    if head is not None:
        _refuse_not_finite(head.weights)
        state |= {f'head.{key}': value for key, value in head.weights.items()}
    order, reason = _channel_order(channel_order, sidecar, conf, head is not None, found)
    text = write_config_text(
        dict(type=found.family.net, **settings),
        head and head.config,
        order,
        encoder.input_size,
        *(_plain_name(path) for path in (source, target.with_suffix('.py'), target)),
    )
    described = architecture_of(dict(type=found.family.net.__name__, **settings))
    description = f'{described} for {order} images ({reason}), {found.place}'
    left_out = found.left_out
    if head is not None:
        description += f"; kept AdaFace's head of {head.config['num_classes']} classes"
        kept = {f'{found.where}.{name}'.removeprefix('.') for name in head.names}
        left_out = [name for name in left_out if name not in kept]
    if left_out:
        name = left_out[0] if len(left_out[0]) < MAX_NAME else f'{left_out[0][:MAX_NAME]}...'
        description += f'; left out {len(left_out)} other tensors, such as {name}'
    data = content.get('hyper_parameters') if isinstance(content, dict) else None
    data = data.get('train_data_path') if isinstance(data, Mapping) else None
    facts = dict(
        architecture=described,
        alignment='arcface' if encoder.input_size == LFW_SIZE else None,
        training_data=data if isinstance(data, str) else None,
    )
    config = Config.fromstring(text, '.py')
    return _Parts(description, text, config, state, dict(cfg=config.pretty_text), facts)


def _plain_name(path: Path) -> str:
    """A file's name for a text that Python reads: a quote in it would end the text."""
    return re.sub(r'[^\w.,+=@ -]', '_', path.name)


def _load(encoder: torch.nn.Module, found: Found) -> None:
    given = {key: value.shape for key, value in found.weights.items()}
    expected = {key: value.shape for key, value in encoder.state_dict().items()}
    findings = misfits(expected, given)
    if findings:
        raise ValueError(
            f'its weights are not those of {found.family.net.__name__} in the layout of '
            f'{found.family.origin}: {"; ".join(findings)}. The whole state dict of the net is '
            'needed, and nothing else under its prefix'
        )
    encoder.load_state_dict(found.weights, strict=False)


def _refuse_not_finite(weights: Mapping[str, torch.Tensor]) -> None:
    for key, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(
                f'{key} holds numbers that are not finite, as {value.dtype}: its training '
                'diverged, or the file is damaged; take an earlier checkpoint'
            )


def _conf_of_cvlface(source: Path) -> tuple[str, dict | None]:
    """The file beside the weights that says what the net sees, and its content."""
    for name in SIDECARS:
        path = source.parent / name.format(stem=source.stem)
        if not path.is_file():
            continue
        try:
            conf = yaml.safe_load(path.read_text('utf-8'))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        conf = conf.get('conf', conf) if isinstance(conf, dict) else None
        if isinstance(conf, dict) and 'color_space' in conf:
            if conf['color_space'] not in CHANNEL_ORDERS:
                raise ValueError(
                    f'color_space in {path} must be one of {CHANNEL_ORDERS}, got '
                    f'{conf["color_space"]!r}; give --channel-order'
                )
            return path.name, conf
    return '', None


def _channel_order(
    asked: str | None, sidecar: str, conf: dict | None, adaface: bool, found: Found
) -> tuple[str, str]:
    """The order of the color channels, and who says so."""
    if asked is not None:
        return asked, 'as you say'
    if conf is not None:
        return conf['color_space'], f'as {sidecar} says'
    if adaface:
        return 'BGR', "as AdaFace's head is beside it"
    if found.family.channel_order is not None:
        return found.family.channel_order, f'as in {found.family.origin}'
    raise ValueError(
        f'it holds the weights of {found.family.net.__name__} ({found.family.origin}), and nothing '
        'tells whether the net sees RGB or BGR: give --channel-order, as its training loads '
        "images, which is BGR for AdaFace's and RGB for CVLface's nets. With the wrong one figures "
        'drop, without an error'
    )


def _build(parts: _Parts) -> torch.nn.Module:
    """The model of the config with the weights, which must be all of its own."""
    model = get_model(parts.config)
    findings = misfits(
        {key: value.shape for key, value in model.state_dict().items()},
        # mmpretrain's name of a head's centers, which ours take.
        {key.replace('head.norm_product.', 'head.'): v.shape for key, v in parts.state.items()},
    )
    if findings:
        raise ValueError(f'its weights do not fit its config: {"; ".join(findings)}')
    model.load_state_dict(parts.state)
    return model


def _is_same_config(path: Path, text: str) -> bool:
    """Whether a file says what a text says, such as that of the same weights in another format."""
    if path.read_text('utf-8', 'replace') == text:
        return True
    try:
        known = Config.fromfile(path).pretty_text
    except Exception:  # Whatever is wrong with it, it is another one.
        return False
    return known == Config.fromstring(text, '.py').pretty_text


def _write(source: Path, target: Path, parts: _Parts, manifest: Manifest) -> Conversion:
    config = target.with_suffix('.py')
    if config.exists() and not _is_same_config(config, parts.text):
        raise ValueError(
            f'{config} exists and is not the config of these weights: remove it, or name another '
            'target'
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    meta = parts.meta | dict(source=str(source))
    save_checkpoint(dict(state_dict=parts.state, meta=meta), target)
    if not config.exists():
        with replacing(config) as unfinished:
            unfinished.write_text(parts.text, 'utf-8')
    manifest.save(target)
    return Conversion(parts.found, target, config, manifest)
