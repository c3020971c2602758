"""Embeddings of the images to search among, and the file that keeps them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from mmengine.dist import broadcast_object_list, collect_results, get_world_size, is_main_process
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.utils import track_on_main_process
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmarcface.atomic_files import replacing
from mmarcface.checkpoint import read_file
from mmarcface.datasets.image_sizes import require_equal_sizes
from mmarcface.fingerprints import fingerprint_images, fingerprint_model, plain_values
from mmarcface.manifest import describe_model, difference_of_makers
from mmarcface.models.embedding import embed_images


@dataclass
class Gallery:
    """Embeddings of a gallery, and what they were made from.

    Attributes:
        embeddings: embeddings of the images, (G, D), not normalized.
        model: fingerprint of the encoder's weights and the preprocessing; '' if unknown.
        images: fingerprint of the images and their transforms; '' if unknown.
        samples: facts of each image from the data set, such as ``img_path``; empty if unknown.
        contract: contract of the model, see :class:`mmarcface.manifest.Manifest`; empty if unknown.
    """

    embeddings: torch.Tensor
    model: str = ''
    images: str = ''
    samples: list[dict] = field(default_factory=list)
    contract: dict = field(default_factory=dict)

    @classmethod
    def from_prototype(cls, model: nn.Module) -> Gallery:
        """The gallery that a model's ``prototype`` and ``prototype_cache`` describe.

        Args:
            model: a retriever.

        Raises:
            ValueError: see :meth:`EmbeddingRetriever.prepare_prototype`.
            TypeError: if the prototype is of another type.
        """
        prototype = model.prototype
        if isinstance(prototype, torch.Tensor):
            # On the CPU, as embeddings of images are, so that a saved gallery loads without a GPU.
            gallery = cls(prototype.cpu())
        elif isinstance(prototype, (str, Path)):
            gallery = cls.load(prototype)
            difference = gallery.difference_from(model)
            if difference:
                raise ValueError(
                    f'{prototype} holds embeddings of another model, which cannot be compared with '
                    f'those of this one: they differ in {difference}. Give the images as prototype '
                    'and this file as prototype_cache, and it is rebuilt'
                )
        elif isinstance(prototype, (dict, DataLoader)):
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                loader = Runner.build_dataloader(prototype)
            return cls._from_images(model, loader)
        else:
            raise TypeError(
                'prototype must be a data loader, the config of one, a tensor or the path of a '
                f'saved gallery, got {prototype!r}'
            )
        gallery._check('the tensor' if isinstance(prototype, torch.Tensor) else prototype)
        return gallery

    @classmethod
    def load(cls, path: str | Path) -> Gallery:
        """Read a file that :meth:`save` wrote; a bare tensor, as mmpretrain saves it, is read too.

        Args:
            path: path of the file.

        Raises:
            ValueError: if the file is damaged, refused or holds something else.
        """
        content = read_file(str(path), map_location='cpu')
        if isinstance(content, torch.Tensor):
            return cls(content)
        try:
            return cls(**content)
        except TypeError:
            raise ValueError(f'{path} is not a saved gallery') from None

    def save(self, path: str | Path) -> None:
        """Write the gallery; an existing file is replaced whole or not at all.

        Args:
            path: path of the file.
        """
        if is_main_process():
            with replacing(path) as partial:
                torch.save(asdict(self), partial)

    def difference_from(self, model: nn.Module) -> str | None:
        """What keeps the embeddings from being compared with those of a model; None for nothing.

        Args:
            model: a retriever.
        """
        return difference_of_makers(self.model, self.contract, model)

    @classmethod
    def _from_images(cls, model: nn.Module, loader: DataLoader) -> Gallery:
        if len(loader.dataset) == 0:
            raise ValueError(f'the gallery is empty: {loader.dataset} has no images')
        cache = model.prototype_cache
        if cache is not None and not Path(cache).absolute().parent.is_dir():
            raise FileNotFoundError(
                f'prototype_cache {cache} must be in a folder that exists, and '
                f'{Path(cache).absolute().parent} does not'
            )
        fingerprints = dict(
            model=fingerprint_model(model), images=fingerprint_images(loader.dataset)
        )
        if cache is not None and Path(cache).exists():
            kept = cls.load(cache)
            difference = kept.difference_from(model) if kept.model else 'a model not named in it'
            stale = [f'made with another model: {difference}'] if difference else []
            if kept.images != fingerprints['images'] or not kept.images:
                stale.append('made from other images or transforms')
            if not stale:
                return kept
            if is_main_process():
                warnings.warn(
                    f'{cache} is out of date ({" and ".join(stale)}): embedding the gallery again',
                    stacklevel=2,
                )
        require_equal_sizes(loader)
        samples = list(_samples(loader.dataset))
        if any(sample.get('sample_idx', place) != place for place, sample in enumerate(samples)):
            raise _lacks_sample_idx(loader.dataset)
        contract = describe_model(model).contract
        gallery = cls(_embed(model, loader), samples=samples, contract=contract, **fingerprints)
        gallery._check(f'{len(loader.dataset)} images')
        if cache is not None:
            gallery.save(cache)
        return gallery

    def _check(self, name: str | Path) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) == 0:
            raise ValueError(
                f'the gallery is empty or not a matrix: the embeddings of {name} have shape '
                f'{tuple(self.embeddings.shape)}, not (images, width)'
            )
        bad = (~self.embeddings.isfinite().all(1)).nonzero().squeeze(1)
        if len(bad):
            first = int(bad[0])
            image = self.samples[first].get('img_path', '') if self.samples else ''
            raise ValueError(
                f'{len(bad)} embeddings of {name} are not finite, the first is that of image '
                f'{first} {image}'.rstrip()
            )


def _samples(dataset: Dataset) -> Iterator[dict]:
    """Plain facts of each sample, which a weights-only load can read back."""
    if hasattr(dataset, 'get_data_info'):
        yield from (plain_values(dataset.get_data_info(place)) for place in range(len(dataset)))


@torch.no_grad()
def _embed(model: nn.Module, loader: DataLoader) -> torch.Tensor:
    """Embeddings of a loader's images in the order of its data set, (G, D), on every process."""
    was_training = model.training
    model.eval()
    indices, embeddings = [], []
    for batch in track_on_main_process(loader, 'Prepare prototype'):
        data = model.data_preprocessor(batch, False)
        embeddings.append(embed_images(model, data['inputs']).float().cpu())
        indices += [sample.get('sample_idx') for sample in data['data_samples']]
    model.train(was_training)
    shards = collect_results([(indices, embeddings)], get_world_size())
    outcome = [None]
    if is_main_process():
        places = [i for shard, _ in shards for i in shard]
        if set(places) == set(range(len(loader.dataset))):
            rows = torch.cat([part for _, parts in shards for part in parts])
            outcome[0] = torch.empty(len(loader.dataset), rows.shape[1])
            outcome[0][places] = rows
    broadcast_object_list(outcome)
    if outcome[0] is None:
        raise _lacks_sample_idx(loader.dataset)
    return outcome[0]


def _lacks_sample_idx(dataset: Dataset) -> ValueError:
    return ValueError(
        f'the {len(dataset)} images of a gallery need a sample_idx each, from 0 on, and the loader '
        'has to give them all: add sample_idx to the meta_keys of PackInputs, and use neither '
        f'drop_last nor a data set of data sets; the data set is a {type(dataset).__name__}'
    )
