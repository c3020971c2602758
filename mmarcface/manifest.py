"""The file beside a model that says what it takes and which embeddings its own compare with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .atomic_files import replacing
from .fingerprints import fingerprint_model, fingerprint_tensors

# The fields that decide an embedding, those first that tell most about a difference.
CONTRACT = (
    'embedding_dim', 'input_size', 'channel_order', 'mean', 'std', 'alignment', 'flip', 'precision',
    'net', 'weights',
)  # fmt: skip
# Those that a model must share with the manifest of the weights that it loads.
INPUTS = 'embedding_dim', 'input_size', 'channel_order', 'mean', 'std'
CHANNELS = {'RGB': 3, 'BGR': 3, 'gray': 1}
CHOICES = {
    'channel_order': tuple(CHANNELS),
    'precision': ('float', 'int8'),
    'preprocessing': ('outside', 'inside'),
}
LISTS = 'input_size', 'mean', 'std'
HASHES = 'net', 'weights', 'file_sha256'
# Modules that do nothing in evaluation, and mmengine's initialization, in the text of a net.
WITHOUT_EFFECT = re.compile(r'\s*(\(\w+\): (Dropout\w*|DropPath|Identity)\(.*\)|init_cfg=.*)')


@dataclass(frozen=True)
class Manifest:
    """What a model file takes and gives.

    ``contract`` holds the fields that decide an embedding. Two embeddings may be compared only if
    theirs agree; a field that one side does not know (None) is left out of the comparison.

    Args:
        architecture: name of the net with its settings, for people to read.
        weights: hash of the net's weights as torch has them, which an exported file keeps; of a
            foreign file that of the file.
        channel_order: order in which the net sees color channels, 'RGB' or 'BGR'; 'gray' for one.
        mean: mean of each channel in that order, for pixels in [0, 255].
        std: standard deviation of each channel.
        embedding_dim: width of the embedding.
        input_size: height and width of the images in pixels; None for any.
        net: hash of the layers of the net and their settings, which an exported file keeps; None
            where they are not known.
        alignment: template that faces are aligned to, 'arcface' for that of
            :class:`mmarcface.datasets.AlignFace`; None where it is not known.
        flip: whether the embedding of the mirrored image is added.
        precision: precision of the arithmetic, 'int8', or 'float' for fp32 and fp16.
        normalized: whether the file gives vectors of unit length.
        preprocessing: place of channel order, mean and std: 'outside' of the file, or 'inside', so
            that the file takes RGB pixels in [0, 255].
        head_classes: number of classes of the head in the file, if there is one.
        training_data: data set that the net was trained on, if that is known.
        license: license of the weights, if that is known.
        source: file that this one was made from.
        file_sha256: hash of an exported file and its external data; None for checkpoints.
        measured: figures of the file, such as its largest difference from the net in torch.

    Raises:
        ValueError: if a field is not of its kind.
    """

    architecture: str
    weights: str
    channel_order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    embedding_dim: int | None = None
    input_size: tuple[int, int] | None = None
    net: str | None = None
    alignment: str | None = None
    flip: bool = False
    precision: str = 'float'
    normalized: bool = False
    preprocessing: str = 'outside'
    head_classes: int | None = None
    training_data: str | None = None
    license: str | None = None
    source: str | None = None
    file_sha256: str | None = None
    measured: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f'{name} must be one of {choices}, got {getattr(self, name)!r}')
        for name in LISTS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        channels = CHANNELS[self.channel_order]
        for name, length in (('mean', channels), ('std', channels), ('input_size', 2)):
            value = getattr(self, name)
            if value is not None and len(value) != length:
                raise ValueError(f'{name} must be {length} numbers, got {value!r}')

    @property
    def contract(self) -> dict[str, Any]:
        """The fields that decide an embedding, as JSON has them."""
        values = {name: getattr(self, name) for name in CONTRACT}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @property
    def contract_hash(self) -> str:
        """SHA-256 of the contract. Embeddings of two files whose hashes are equal may be compared.

        Where one of them does not know a field, they may be compared with other hashes too: see
        :func:`first_difference`.
        """
        return sha256(json.dumps(self.contract, sort_keys=True).encode()).hexdigest()

    def save(self, model_file: str | Path) -> None:
        """Write the manifest beside a model file; an existing one is replaced.

        Args:
            model_file: path of the model file.
        """
        content = dict(contract=self.contract_hash, **asdict(self))
        with replacing(manifest_file(model_file)) as partial:
            partial.write_text(json.dumps(content, indent=2, ensure_ascii=False), 'utf-8')


def manifest_file(model_file: str | Path) -> Path:
    """Where the manifest of a model is: ``model.onnx.manifest.json`` beside ``model.onnx``.

    Args:
        model_file: path of the model file.
    """
    return Path(f'{model_file}.manifest.json')


def load_manifest(model_file: str | Path) -> Manifest | None:
    """Read the manifest beside a model file.

    Args:
        model_file: path of the model file; a URL has none.

    Returns:
        The manifest, or None if there is none.

    Raises:
        ValueError: if it is damaged, or its contract hash is not that of its fields.
    """
    path = manifest_file(Path(model_file).expanduser())
    if '://' in str(model_file) or not path.is_file():
        return None
    known = {f.name for f in fields(Manifest)}
    try:
        content = json.loads(path.read_text('utf-8'))
        contract = content.pop('contract')
        unknown = sorted(content.keys() - known)
        if unknown:
            raise ValueError(f'{unknown[0]} is no field of a manifest')
        manifest = Manifest(**content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is not a manifest of mmarcface, or it is damaged ({error}): convert or export '
            'the model again, or remove this file to go on without its checks'
        ) from None
    if contract != manifest.contract_hash:
        raise ValueError(
            f'{path} was changed by hand: its contract {str(contract)[:16]} is not that of its '
            f'fields, {manifest.contract_hash[:16]}. If the fields are right, write '
            f'{manifest.contract_hash} as its contract; else convert or export the model again'
        )
    return manifest


def first_difference(one: Mapping, other: Mapping, names: tuple[str, ...] = CONTRACT) -> str | None:
    """The first field in which two contracts differ, with both values.

    Args:
        one: contract of a model or of embeddings.
        other: contract to compare it with.
        names: fields to compare; a value that is None on one side is not compared.

    Returns:
        For example 'channel_order (BGR and RGB)'; None if they agree.
    """
    for name in names:
        values = [_plain(contract.get(name)) for contract in (one, other)]
        if None not in values and values[0] != values[1]:
            short = [v[:12] if name in HASHES else v for v in values]
            return f'{name} ({short[0]} and {short[1]})'
    return None


def describe_model(model: nn.Module, **facts: Any) -> Manifest:
    """The manifest of a model as it is: its encoder and weights, its preprocessing, its flip test.

    Args:
        model: an :class:`mmarcface.models.EmbeddingRetriever`. The manifest of an ONNX file, or of
            the checkpoint that it has loaded, adds what only that knows.
        **facts: fields of the manifest that are known otherwise.
    """
    encoder = model.image_encoder
    parts = list(encoder) if isinstance(encoder, nn.Sequential) else [encoder]
    loaded = getattr(model, 'manifest', None)
    of_file = getattr(encoder, 'manifest', None)
    if of_file is not None:
        return replace(of_file, **(dict(flip=of_file.flip or model.flip) | facts))
    order, mean, std = preprocessing_of(model)
    described = dict(
        architecture=architecture_of(parts),
        channel_order=order,
        mean=mean,
        std=std,
        embedding_dim=getattr(parts[-1], 'embedding_dim', None),
        input_size=getattr(parts[0], 'input_size', None),
        alignment=loaded and loaded.alignment,
        flip=model.flip,
        net=_hash_layers(encoder),
        head_classes=getattr(model.head, 'num_classes', None),
    )
    if 'weights' not in facts:
        described['weights'] = _hash_weights(encoder)
    return Manifest(**(described | facts))


def architecture_of(config: Any) -> str:
    """A net with its settings as one line, such as ``IResNet(depth=18, embedding_dim=128)``.

    Args:
        config: config of the encoder, or of its parts; or a module, whose settings are not known.
    """
    if isinstance(config, (list, tuple)):
        return ' + '.join(map(architecture_of, config))
    if not isinstance(config, Mapping):
        return type(config).__name__
    kind = config['type']
    name = kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__
    settings = (f'{k}={v!r}' for k, v in config.items() if k not in ('type', 'init_cfg'))
    return f'{name}({", ".join(settings)})'


def difference_of_makers(fingerprint: str, contract: Mapping, model: nn.Module) -> str | None:
    """What tells the model that made a file of embeddings or thresholds from a given one.

    Args:
        fingerprint: fingerprint of the model that made the file; '' if it is not known.
        contract: contract of that model; empty in files of before there were any.
        model: an :class:`mmarcface.models.EmbeddingRetriever`.

    Returns:
        The first difference; None if embeddings of both may be compared.
    """
    if fingerprint in ('', fingerprint_model(model)):
        return None
    if not contract:
        return 'weights or preprocessing'
    return first_difference(contract, describe_model(model).contract)


def refuse_other_inputs(manifest: Manifest, model: nn.Module, file: str | Path) -> None:
    """Refuse a model that would feed weights with other images than they were trained on.

    Args:
        manifest: manifest of the weights.
        model: an :class:`mmarcface.models.EmbeddingRetriever`.
        file: file of the weights, for the error.

    Raises:
        ValueError: if the model gives the net another channel order, mean, std or size, or has
            embeddings of another width.
    """
    expected = manifest.contract
    if manifest.preprocessing == 'inside':
        expected.update(channel_order='RGB', mean=[0.0] * 3, std=[1.0] * 3)
    parts = model.image_encoder
    parts = list(parts) if isinstance(parts, nn.Sequential) else [parts]
    given = dict(zip(('channel_order', 'mean', 'std'), preprocessing_of(model), strict=True))
    given['input_size'] = getattr(parts[0], 'input_size', None)
    given['embedding_dim'] = getattr(parts[-1], 'embedding_dim', None)
    for name in INPUTS:
        if first_difference(expected, given, (name,)) is None:
            continue
        advice = {
            'channel_order': f'data_preprocessor.to_rgb={expected["channel_order"] == "RGB"}',
            'input_size': 'model.image_encoder.input_size and the size in the pipelines to this',
            'embedding_dim': 'model.image_encoder.embedding_dim to this',
        }.get(name, f'data_preprocessor.{name}={_text(expected[name])}')
        raise ValueError(
            f'{manifest_file(file).name} says {name} {_text(expected[name])} of {file}, and this '
            f'config gives {_text(given[name])}: set {advice}'
        )


def refuse_other_weights(
    manifest: Manifest, weights: Mapping[str, torch.Tensor], file: str | Path
) -> None:
    """Refuse a file whose weights are not those that its manifest was written for.

    Args:
        manifest: manifest beside the file.
        weights: weights of the encoder in the file, by name.
        file: path of the file, for the error.

    Raises:
        ValueError: if the hash of the weights is another one.
    """
    if manifest.weights != fingerprint_tensors(weights):
        raise ValueError(
            f'{manifest_file(file)} belongs to other weights than {file} holds: the one was '
            'replaced without the other. Convert, train or export the model again, or remove '
            'the manifest to go on without its checks'
        )


def preprocessing_of(model: nn.Module) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """Channel order, mean and std of the images that a model's net sees.

    Args:
        model: a model with a ``data_preprocessor``, which gets images as BGR.
    """
    preprocessor = model.data_preprocessor
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    gray = first is not None and first.in_channels == 1
    # mmpretrain's and mmengine's preprocessors name it differently.
    to_rgb = getattr(preprocessor, 'to_rgb', getattr(preprocessor, '_channel_conversion', False))
    order = 'gray' if gray else 'RGB' if to_rgb else 'BGR'
    mean, std = (
        _per_channel(getattr(preprocessor, name, None), default, CHANNELS[order])
        for name, default in (('mean', 0.0), ('std', 1.0))
    )
    return order, mean, std


def _per_channel(value: torch.Tensor | None, default: float, channels: int) -> tuple[float, ...]:
    values = [default] if value is None else [round(v, 6) for v in value.flatten().tolist()]
    return tuple(values * channels) if len(values) == 1 else tuple(values)


def _hash_weights(encoder: nn.Module) -> str:
    """Hash of the weights; of those in files that onnxruntime runs, the hash of the file."""
    files = [m.file_sha256 for m in encoder.modules() if hasattr(m, 'file_sha256')]
    if files and not encoder.state_dict():
        return files[0] if len(files) == 1 else ' '.join(files)
    return fingerprint_tensors(encoder.state_dict(), ' '.join(files))


def _hash_layers(encoder: nn.Module) -> str:
    """Hash of what a net computes with its weights: of strides and heads, say, but not dropout."""
    lines = [line for line in repr(encoder).splitlines() if not WITHOUT_EFFECT.fullmatch(line)]
    return sha256('\n'.join(lines).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    return str(_plain(value)).replace(' ', '')
