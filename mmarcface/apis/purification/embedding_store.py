"""The embeddings of a whole data set, in files that many processes write, each once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import BaseDataset, default_collate
from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmengine.logging import print_log
from mmpretrain.utils import track_on_main_process
from torch import nn
from torch.utils.data import DataLoader

from mmarcface.atomic_files import replacing
from mmarcface.datasets.image_sizes import EqualSizeCollate
from mmarcface.fingerprints import (
    fingerprint_images,
    fingerprint_model,
    fingerprint_weights,
)
from mmarcface.models import EmbeddingRetriever, embed_images

BATCHES_IN_BLOCK = 16


class EmbeddingStore:
    """The embeddings of a data set, a file for each block of samples.

    One process embeds a block, in batches that are the same whatever the number of processes, and
    writes it when it is finished: after a break only the other blocks are embedded. No more than
    one block is in memory. Blocks in the folder that were made with other weights, images or
    transforms are replaced, with a warning.

    Args:
        model: an ``EmbeddingRetriever``, or mmpretrain's ``ImageClassifier``.
        dataset: data set with the pipeline of testing.
        folder: folder of the files, N * D * 4 bytes, which all processes share.
        batch_size: number of images embedded at a time.
        num_workers: number of workers of the loader of each process.

    Raises:
        ValueError: if the data set is empty, or an embedding is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: BaseDataset,
        folder: str | Path,
        batch_size: int = 64,
        num_workers: int = 0,
    ):
        if not len(dataset):
            raise ValueError(f'the data set, {type(dataset).__name__}, has no samples')
        self.folder = Path(folder)
        self.num_samples = len(dataset)
        self.block_size = BATCHES_IN_BLOCK * batch_size
        if is_main_process():
            self._begin(_identity(model, dataset, self.block_size))
        barrier()
        own = range(len(self))[get_rank() :: get_world_size()]
        todo = [block for block in own if not self._file(block).exists()]
        batches = [
            places
            for block in todo
            for places in _batched(range(self.num_samples)[self.slice_of(block)], batch_size)
        ]
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=EqualSizeCollate(default_collate),
        )
        was_training = model.training
        model.eval()
        part = []
        for places, batch in zip(batches, track_on_main_process(loader, 'Embed'), strict=True):
            part.append(_embed(model, batch))
            block = places[0] // self.block_size
            if places[-1] + 1 == self.slice_of(block).stop:
                self._write(block, torch.cat(part))
                part = []
        model.train(was_training)
        barrier()

    def __len__(self) -> int:
        """The number of blocks."""
        return -(-self.num_samples // self.block_size)

    def __iter__(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """The places of each block in the data set, and its embeddings, (n, D), fp32."""
        for block in range(len(self)):
            yield self.slice_of(block), torch.from_numpy(np.load(self._file(block)))

    def slice_of(self, block: int) -> slice:
        """The places of a block's samples in the data set.

        Args:
            block: number of the block, from 0 on.
        """
        return slice(block * self.block_size, min((block + 1) * self.block_size, self.num_samples))

    def select(self, places: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Some of the embeddings, block by block.

        Args:
            places: places of samples in the data set, (n,), rising.

        Yields:
            For each block the rows of ``places`` that are in it, (k,), and their embeddings,
            (k, D).
        """
        for block, inside in self:
            ends = torch.tensor([block.start, block.stop])
            first, last = torch.searchsorted(places, ends).tolist()
            if first < last:
                yield torch.arange(first, last), inside[places[first:last] - block.start]

    def _file(self, block: int) -> Path:
        return self.folder / f'block{block}.npy'

    def _begin(self, identity: str) -> None:
        """Remove the blocks of another model or data set from the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / 'made_from'
        before = mark.read_text() if mark.exists() else None
        if before == identity:
            return
        if before is not None:
            print_log(
                f'The embeddings in {self.folder} are of other weights, images or transforms: '
                'embedding again',
                'current',
                logging.WARNING,
            )
        for path in self.folder.glob('block*.npy'):
            path.unlink()
        mark.write_text(identity)

    def _write(self, block: int, embeddings: torch.Tensor) -> None:
        bad = (~embeddings.isfinite().all(1)).nonzero().squeeze(1)
        if len(bad):
            place = self.slice_of(block).start + int(bad[0])
            raise ValueError(
                f'the embedding of sample {place} is not finite: did training diverge?'
            )
        # Given a path, NumPy would append .npy to it.
        with replacing(self._file(block)) as partial, partial.open('wb') as file:
            np.save(file, embeddings.numpy())


def _identity(model: nn.Module, dataset: BaseDataset, size: int) -> str:
    if isinstance(model, EmbeddingRetriever):
        of_model = fingerprint_model(model)
    else:
        preprocessor = model.data_preprocessor
        facts = [model, *(getattr(preprocessor, name, None) for name in ('mean', 'std', 'to_rgb'))]
        of_model = fingerprint_weights(model, repr(facts))
    return hashlib.sha256(f'{of_model} {fingerprint_images(dataset)} {size}'.encode()).hexdigest()


def _batched(places: range, size: int) -> Iterator[range]:
    for first in range(0, len(places), size):
        yield places[first : first + size]


@torch.no_grad()
def _embed(model: nn.Module, batch: dict) -> torch.Tensor:
    inputs = model.data_preprocessor(batch, False)['inputs']
    return embed_images(model, inputs).float().cpu()
