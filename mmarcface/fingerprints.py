"""Hashes of models and images: what embeddings in a file were made from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from mmarcface.datasets.formats.packed import containing_file


def fingerprint_model(model: nn.Module) -> str:
    """Hash of all that decides an embedding beside the image: net, weights, preprocessing, flip.

    Args:
        model: an :class:`EmbeddingRetriever`.
    """
    preprocessor = model.data_preprocessor
    facts = [model.flip, model.image_encoder]
    for name in ('mean', 'std', 'to_rgb'):
        value = getattr(preprocessor, name, None)
        facts.append(value.tolist() if isinstance(value, torch.Tensor) else value)
    return fingerprint_weights(model.image_encoder, repr(facts))


def fingerprint_weights(model: nn.Module, facts: str = '') -> str:
    """Hash of weights and buffers by name.

    Args:
        model: any module.
        facts: other facts to hash, before the weights.
    """
    return fingerprint_tensors(model.state_dict(), facts)


def fingerprint_tensors(tensors: Mapping[str, torch.Tensor], facts: str = '') -> str:
    """Hash of tensors by name, such as those of a state dict.

    Args:
        tensors: tensors by name.
        facts: other facts to hash, before the tensors.
    """
    digest = hashlib.sha256(facts.encode())
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint_images(dataset: Dataset) -> str:
    """Hash of the images of a data set, by path, size and time of change, and of their transforms.

    Args:
        dataset: any data set.

    Returns:
        The hash; '' for a data set that cannot list its samples (no ``get_data_info``), which
        matches no cache.
    """
    if not hasattr(dataset, 'get_data_info'):
        return ''
    pipeline = repr(_pipelines(dataset))
    # A transform without a repr of its own shows its address.
    digest = hashlib.sha256(re.sub(r' at 0x[0-9a-f]+', '', pipeline).encode())
    state_of = lru_cache(_state)
    for sample in map(dataset.get_data_info, range(len(dataset))):
        digest.update(repr(sorted(plain_values(sample).items())).encode())
        # Landmarks, or the image itself in place of a path.
        for name, value in sorted(sample.items()):
            if isinstance(value, np.ndarray):
                digest.update(f'{name} {value.dtype} {value.shape}'.encode() + value.tobytes())
        digest.update(state_of(containing_file(sample.get('img_path', ''))).encode())
    return digest.hexdigest()


def _pipelines(dataset: Dataset) -> list:
    """The pipeline of a data set, or those of the data sets in a wrapper."""
    inside = [*getattr(dataset, 'datasets', []), *filter(None, [getattr(dataset, 'dataset', None)])]
    return [getattr(dataset, 'pipeline', None), *map(_pipelines, inside)]


def _state(file: str) -> str:
    """Size and time of change of a file; '' for none."""
    path = Path(file)
    if not path.is_file():
        return ''
    status = path.stat()
    return f'{status.st_size} {status.st_mtime_ns}'


def plain_values(sample: dict) -> dict:
    """The strings and numbers of a sample, which a weights-only load can read back.

    Args:
        sample: sample of a data set.
    """
    return {key: value for key, value in sample.items() if isinstance(value, (str, int, float))}
