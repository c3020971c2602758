"""The manifests of the checkpoints that a training writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.runner import Runner

from mmarcface.datasets.transforms.align_face import alignment_of
from mmarcface.datasets.wrappers import pipeline_of
from mmarcface.fingerprints import fingerprint_tensors
from mmarcface.manifest import architecture_of, describe_model, manifest_file
from mmarcface.models import EmbeddingRetriever

from .saved_weights import trained_model

# Checkpoints that CheckpointHook writes, and removes where it keeps a few only.
REMOVED = 'epoch_*', 'iter_*', 'best_*'


def write_manifest(runner: Runner, file: Path, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Write the manifest of a checkpoint of a training, and remove those of removed checkpoints.

    Args:
        runner: runner of the training; with a model that is no EmbeddingRetriever nothing is done.
        file: the checkpoint.
        state_dict: weights in it, by name.
    """
    model = trained_model(runner)
    if not isinstance(model, EmbeddingRetriever):
        return
    names = model.image_encoder.state_dict()
    weights = fingerprint_tensors({name: state_dict[f'image_encoder.{name}'] for name in names})
    describe_model(
        model,
        weights=weights,
        architecture=architecture_of(runner.cfg['model'].get('image_encoder')),
        alignment=alignment_of(pipeline_of(runner.cfg['train_dataloader']['dataset'])),
        training_data=_training_data(runner),
    ).save(file)
    for pattern in REMOVED:
        for other in file.parent.glob(manifest_file(f'{pattern}.pth').name):
            if not Path(str(other).removesuffix('.manifest.json')).exists():
                other.unlink()


def _training_data(runner: Runner) -> str:
    dataset = runner.train_dataloader.dataset
    config = runner.cfg['train_dataloader']['dataset']
    root = config.get('data_root') or config.get('path') or ''
    return f'{type(dataset).__name__} {root}'.rstrip() + f', {len(dataset)} images'
