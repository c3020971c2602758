"""Finding the mislabeled samples of a training set."""

from __future__ import annotations

import logging
import math
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log
from torch import nn

from mmarcface.datasets import labels_of
from mmarcface.datasets.sample_ids import fingerprint_of, sample_ids
from mmarcface.functional.arguments import check_number
from mmarcface.functional.subcenter import (
    AngleMixture,
    angles_to_subcenters,
    clean_mask,
    dominant_subcenters,
    fit_angle_mixture,
    subcenter_cosines,
    subcenter_counts,
)
from mmarcface.functional.vectors import normalize
from mmarcface.models import unwrap_model
from mmarcface.models.heads.centers import class_centers

from .embedding_store import EmbeddingStore
from .result import Purification

# Numbers of angles between samples and other classes that are drawn to find a threshold.
MAX_PAIRS, PAIRS_PER_SAMPLE = 1_000_000, 20
# Number of products of samples and classes at a time.
MAX_PRODUCTS = 1 << 24
# A misfit beyond this means that the fitted distribution is not the observed one.
MISFIT = 0.1


def purify(
    model: nn.Module,
    dataset: BaseDataset,
    threshold: float | str = 'auto',
    min_per_class: int = 1,
    relabel: bool = False,
    state: str | Path | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
) -> Purification | None:
    """Find mislabeled samples, as `Sub-center ArcFace
    <https://doi.org/10.1007/978-3-030-58621-8_43>`_ does (section 3.3).

    A net that was trained with K centers a class embeds the training set. The dominant center of a
    class is the one that most of its samples are nearest to; samples that are far from it are not
    kept. All processes of a group must call this. Memory holds a few numbers and the name of each
    sample, and the embeddings of one block.

    >>> found = purify(get_model(config, 'epoch_6.pth'), dataset)  # doctest: +SKIP
    >>> found.report()['dropped']  # doctest: +SKIP
    7349

    Args:
        model: ``EmbeddingRetriever``, or mmpretrain's ``ImageClassifier``, with a head that has
            sub-centers, ours or mmpretrain's ``ArcFaceClsHead``.
        dataset: the training set, with the pipeline of testing: no augmentation.
        threshold: largest angle to keep, in degrees in (0, 180]; the article has 75, for millions
            of faces. 'auto' finds it from the angles: see
            :func:`mmarcface.functional.subcenter.fit_angle_mixture`.
        min_per_class: number of samples of each class that are kept in any case, the nearest to the
            dominant center.
        relabel: whether to propose another class for a sample, instead of dropping it, where it is
            within the threshold of the dominant center of that class.
        state: folder of the embeddings, N * D * 4 bytes, which all processes share. An interrupted
            call goes on there, and another threshold costs no embedding. By default a temporary
            folder.
        batch_size: number of images that each process embeds at a time.
        num_workers: number of workers of the loader of each process.

    Returns:
        What was found, on the main process; None on the others.

    Raises:
        ValueError: if the head has one center a class, a label is none of its classes, samples
            have no labels or the same name, an argument is out of its range, or 'auto' finds no
            threshold.
    """
    check_settings(threshold, min_per_class)
    model = unwrap_model(model)
    weight, number = _centers(model)
    labels, true_labels = _labels(dataset, len(weight) // number)
    if is_main_process():
        # Refuse bad names before hours of embedding.
        names, fingerprint = sample_ids(dataset), fingerprint_of(dataset)
    with _folder(state) as folder:
        embedded = EmbeddingStore(model, dataset, folder, batch_size, num_workers)
        if not is_main_process():
            return None
        weight = weight.float().cpu()
        cosines = torch.cat(
            [subcenter_cosines(found, weight, labels[places], number) for places, found in embedded]
        )
        nearest = cosines.argmax(1)
        counts = subcenter_counts(cosines, labels, len(weight) // number)
        dominant = dominant_subcenters(counts)
        angles = angles_to_subcenters(cosines, dominant[labels])
        groups = weight.unflatten(0, (-1, number))
        centers = normalize(groups[torch.arange(len(groups)), dominant])
        present = counts.sum(1) > 0
        nontarget_angles = _nontarget_angles(embedded, centers, labels, present)
        mixture = None
        if threshold == 'auto':
            mixture = _fit(angles, nontarget_angles)
            threshold = mixture.threshold
        keep = clean_mask(angles, labels, threshold, min_per_class)
        proposed = None
        if relabel:
            device = next(model.parameters()).device
            proposed = _propose(embedded, centers.to(device), present, keep, labels, threshold)
    return Purification(
        sample_ids=names,
        labels=labels,
        angles=angles,
        nearest_subcenters=nearest,
        keep=keep,
        proposed_labels=proposed,
        subcenter_counts=counts,
        threshold=threshold,
        mixture=mixture,
        nontarget_angles=nontarget_angles,
        min_per_class=min_per_class,
        fingerprint=fingerprint,
        true_labels=true_labels,
    )


def check_settings(
    threshold: float | str = 'auto',
    min_per_class: int = 1,
    relabel: bool = False,
) -> None:
    """Refuse what :func:`purify` would refuse, before a training that comes first.

    Args:
        threshold: threshold, see :func:`purify`.
        min_per_class: minimum, see :func:`purify`.
        relabel: whether to relabel, see :func:`purify`.

    Raises:
        ValueError: if one is out of its range.
        TypeError: if there is another setting.
    """
    if isinstance(threshold, str) and threshold != 'auto':
        raise ValueError(f"threshold must be degrees or 'auto', got {threshold!r}")
    if threshold != 'auto':
        check_number('threshold', threshold, above=0, maximum=180)
    check_number('min_per_class', min_per_class, minimum=0, whole=True)


def _centers(model: nn.Module) -> tuple[torch.Tensor, int]:
    """The centers of a model's head, (C * K, D), and K."""
    head = getattr(model, 'head', None)
    centers = class_centers(head)
    number = 1 if centers is None else centers.shape[1]
    if number < 2:
        raise ValueError(
            'purification needs a head with several centers a class, which was trained with them, '
            f'such as SubCenterArcFaceHead; the head here, {type(head).__name__}, has '
            f'{number} (num_subcenters): train with num_subcenters=3 first'
        )
    return centers.flatten(0, 1), number


def _labels(dataset: BaseDataset, num_classes: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The given labels, and the true ones where the data set knows them."""
    labels = torch.from_numpy(labels_of(dataset))
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero().squeeze(1)
    if len(wrong):
        place = int(wrong[0])
        raise ValueError(
            f'every gt_label must be in [0, {num_classes}), a class of the head; sample {place} of '
            f'{type(dataset).__name__} has {labels[place]}: is it the data set that the checkpoint '
            'was trained on?'
        )
    true_labels = [dataset.get_data_info(place).get('true_label') for place in range(len(dataset))]
    return labels, None if None in true_labels or not true_labels else torch.tensor(true_labels)


@contextmanager
def _folder(state: str | Path | None):
    """The folder of the embeddings; a temporary one if none is named."""
    if state is not None:
        yield Path(state)
        return
    own = tempfile.TemporaryDirectory() if is_main_process() else None
    name = [own and own.name]
    broadcast_object_list(name)
    try:
        yield Path(name[0])
    finally:
        if own is not None:
            own.cleanup()


def _nontarget_angles(
    embedded: EmbeddingStore, centers: torch.Tensor, labels: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Angles between samples and dominant centers of other classes, drawn with a fixed seed."""
    present = present.nonzero().squeeze(1)
    if len(present) < 2:
        return torch.empty(0)
    rank = torch.zeros(len(centers), dtype=torch.long)
    rank[present] = torch.arange(len(present))
    generator = torch.Generator().manual_seed(0)
    num_pairs = min(MAX_PAIRS, PAIRS_PER_SAMPLE * len(labels))
    angles = []
    for places, found in embedded:
        number = max(1, num_pairs * len(found) // len(labels))
        rows = torch.randint(len(found), (number,), generator=generator)
        step = torch.randint(1, len(present), (number,), generator=generator)
        others = present[(rank[labels[places][rows]] + step) % len(present)]
        cosines = (normalize(found[rows]) * centers[others]).sum(1, keepdim=True)
        angles.append(angles_to_subcenters(cosines, torch.zeros(number, dtype=torch.long)))
    return torch.cat(angles)


def _fit(angles: torch.Tensor, nontarget_angles: torch.Tensor) -> AngleMixture:
    if not len(nontarget_angles):
        raise ValueError(
            "threshold='auto' compares with other classes, and there is only one: give degrees"
        )
    mixture = fit_angle_mixture(angles, nontarget_angles)
    # With few samples chance alone makes a difference.
    if mixture.misfit > MISFIT + len(angles) ** -0.5:
        print_log(
            f'The threshold of {mixture.threshold} degrees is not to be relied on: the assumed '
            f'distribution of angles differs from the observed one by {mixture.misfit:.2f}. Look '
            'at angles.png, or give a threshold in degrees',
            'current',
            logging.WARNING,
        )
    return mixture


def _propose(
    embedded: EmbeddingStore,
    centers: torch.Tensor,
    present: torch.Tensor,
    keep: torch.Tensor,
    labels: torch.Tensor,
    threshold: float,
) -> torch.Tensor:
    """Another class for the samples that are not kept, (N,), -1 for none."""
    proposed = torch.full_like(labels, -1)
    places = (~keep).nonzero().squeeze(1)
    at_once = max(1, MAX_PRODUCTS // len(centers))
    device = centers.device
    absent = ~present.to(device)
    for here, found in embedded.select(places):
        for part, vectors in zip(here.split(at_once), found.split(at_once), strict=True):
            rows = places[part]
            cosines = normalize(vectors.to(device)) @ centers.T
            cosines[:, absent] = -math.inf
            cosines[torch.arange(len(rows)), labels[rows].to(device)] = -math.inf
            best, classes = (one.cpu() for one in cosines.max(1))
            away = angles_to_subcenters(best[:, None], torch.zeros_like(rows))
            proposed[rows] = torch.where(away <= threshold, classes, -1)
    return proposed
