"""Embeddings from files that other programs wrote, without running what is in them."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch._utils import _rebuild_tensor_v2

from mmarcface.checkpoint import read_file
from mmarcface.manifest import difference_of_makers
from mmarcface.models import EmbeddingRetriever


class _TensorsOnly(pickle.Unpickler):
    """Reads lists, dicts, numbers and CPU tensors, which is what mmengine's DumpResults writes."""

    allowed = {
        ('collections', 'OrderedDict'): OrderedDict,
        ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor_v2,
        # Protocol 2 has no bytes and writes them as text; any other codec would be imported.
        ('_codecs', 'encode'): lambda text, _: text.encode('latin1'),
        ('torch.storage', '_load_from_bytes'): lambda data: torch.load(
            io.BytesIO(data), map_location='cpu', weights_only=True
        ),
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f'it would run {module}.{name}')
        return self.allowed[module, name]


def read_embeddings(path: str | Path) -> torch.Tensor:
    """Read embeddings, (N, D), from a file.

    Args:
        path: ``.pkl`` as ``tools/test.py --out`` writes it, ``.npy``, or ``.pth``, a tensor or a
            gallery that ``EmbeddingRetriever.dump_prototype`` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another kind, damaged, would run code, or holds no embeddings.
    """
    path = Path(path)
    readers = {
        '.pkl': _read_predictions,
        '.npy': partial(np.load, allow_pickle=False),
        '.pth': partial(read_file, map_location='cpu'),
    }
    if path.suffix not in readers:
        raise ValueError(f'embeddings must be in a file {", ".join(readers)}, got {path}')
    if not path.is_file():
        raise FileNotFoundError(f'there are no embeddings {path}')
    try:
        content = readers[path.suffix](path)
    except Exception as error:
        # Of a damaged file the readers raise anything, AssertionError among it.
        raise ValueError(f'{path} cannot be read as embeddings: {error}') from error
    if isinstance(content, dict):
        content = content.get('embeddings')
    if not isinstance(content, (np.ndarray, torch.Tensor)):
        raise ValueError(f'{path} holds no embeddings but {type(content).__name__}')
    embeddings = torch.as_tensor(content)
    if embeddings.dim() != 2 or not embeddings.is_floating_point():
        raise ValueError(
            f'{path} must hold embeddings (N, D), numbers, got {embeddings.dtype} of shape '
            f'{tuple(embeddings.shape)}'
        )
    return embeddings.float()


def refuse_embeddings_of_another_model(path: str | Path, model: nn.Module) -> None:
    """Refuse embeddings that cannot be compared with those of a model, if the file knows whose.

    Args:
        path: file as for :func:`read_embeddings`; a gallery knows its model.
        model: the model; one that is no EmbeddingRetriever has nothing to compare.

    Raises:
        ValueError: if the file holds embeddings of another model; it names the first difference.
    """
    if Path(path).suffix != '.pth' or not isinstance(model, EmbeddingRetriever):
        return
    content = read_file(str(path), map_location='cpu')
    if not isinstance(content, dict):
        return
    difference = difference_of_makers(content.get('model', ''), content.get('contract', {}), model)
    if difference:
        raise ValueError(
            f'{path} holds embeddings of another model, which differs in {difference}: name the '
            'config and checkpoint that made them, or make them anew with this model'
        )


def _read_predictions(path: Path) -> torch.Tensor:
    with path.open('rb') as file:
        samples = _TensorsOnly(file).load()
    return torch.stack([sample['embedding'] for sample in samples])
