"""Figures of inversion: whom do generated images show, to a judge that did not help make them?

The judge is a separate model: it embeds the generated images, and real images of the same
identities for comparison. All comparisons are cosines. Rates are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from .calibration import calibrate, wilson_interval
from .verification import pair_similarity

SCORES_PER_BLOCK = 1 << 22
PIXELS_PER_BLOCK = 1 << 24
MAX_PAIRS = 2_000_000


class RealEmbeddings:
    """A judge's embeddings of real images, with templates, mean cosines and thresholds.

    Templates (the normalized mean of an identity's unit vectors) and mean cosines are computed
    exactly from the sums of unit vectors, without a matrix of all pairs: the cosines of all pairs
    of one identity sum to (|sum|^2 - number) / 2.

    Args:
        embeddings: embeddings of real images, (N, D), not normalized.
        labels: identity of each image, (N,), whole numbers.
        far: false acceptance rates in [0, 1], for each of which a threshold is chosen.

    Attributes:
        vectors: unit vectors, (N, D), sorted by identity.
        labels: the identities, (C,), rising.
        counts: number of images of each identity, (C,).
        sums: sum of the unit vectors of each identity, (C, D), fp64.
        calibrations: a :class:`.calibration.Calibration` for each FAR, by pairs of real images: all
            pairs, or 2 million of each kind, drawn with a fixed seed, if there are more.
        accuracy: share of the real images whose nearest template is that of their identity, made
            without the image itself; over identities with several images.
        cosine_same: mean cosine of two images of one identity.
        cosine_other: mean cosine of two images of different identities.

    Raises:
        ValueError: if embeddings and labels do not fit, a number is not finite, there are fewer
            than two identities, or none has two images.

    Example:
        >>> real = RealEmbeddings(torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]]), [7, 7, 9])
        >>> real.labels.tolist(), real.cosine_same, real.cosine_other
        ([7, 9], 1.0, 0.0)
    """

    def __init__(
        self, embeddings: torch.Tensor, labels: ArrayLike, far: Sequence[float] = (1e-2, 1e-3)
    ):
        vectors, labels = _check('real', embeddings, labels)
        order = labels.argsort(stable=True)
        self.vectors = vectors[order]
        self.labels, place, self.counts = labels[order].unique_consecutive(
            return_inverse=True, return_counts=True
        )
        if len(self.labels) < 2 or self.counts.max() < 2:
            raise ValueError(
                'real images must be of at least two identities, one of them with two images or '
                f'more; got {len(labels)} images of {len(self.labels)} identities'
            )
        wide = self.vectors.double()
        self.sums = wide.new_zeros(len(self.labels), wide.shape[1]).index_add_(0, place, wide)
        self.templates = F.normalize(self.sums).float()
        self.starts = self.counts.cumsum(0) - self.counts

        several = self.counts[place] > 1
        mine, where = wide[several], place[several]
        rest = F.normalize(self.sums[where] - mine)
        named = self._is_nearest(mine.float(), where, (rest * mine).sum(1))
        self.accuracy = float(named.double().mean())

        # Sums over ordered pairs, including each image with itself.
        among_own, total = float(self.sums.square().sum()), float(self.sums.sum(0).square().sum())
        same = int((self.counts * (self.counts - 1)).sum())
        other = len(wide) ** 2 - int(self.counts.square().sum())
        self.cosine_same = (among_own - float(wide.square().sum())) / same
        self.cosine_other = (total - among_own) / other

        pairs = _draw_pairs(self.counts.numpy())
        similarity = pair_similarity(self.vectors, pairs)
        is_same = place[pairs[:, 0]] == place[pairs[:, 1]]
        self.calibrations = [calibrate(similarity, is_same, rate) for rate in far]

    def rows_of(self, labels: torch.Tensor) -> torch.Tensor:
        """Row of each label in ``labels``, ``counts`` and ``sums``.

        Args:
            labels: identities, (G,), int64.

        Returns:
            Rows, (G,), int64.

        Raises:
            ValueError: if there are no real images of a label.
        """
        place = torch.searchsorted(self.labels, labels.contiguous()).clamp(max=len(self.labels) - 1)
        absent = (self.labels[place] != labels).nonzero()
        if len(absent):
            raise ValueError(
                f'labels must be among the {len(self.labels)} identities of the real images, '
                f'got {int(labels[absent[0, 0]])}'
            )
        return place

    def is_recognized(self, vectors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Whether the template nearest to each vector is that of its identity.

        Args:
            vectors: unit vectors, (G, D).
            rows: row of the identity of each vector, (G,), from :meth:`rows_of`.

        Returns:
            Bools, (G,).
        """
        return self._is_nearest(vectors, rows, (vectors * self.templates[rows]).sum(1))

    def _is_nearest(
        self, vectors: torch.Tensor, place: torch.Tensor, own: torch.Tensor
    ) -> torch.Tensor:
        rows = torch.arange(len(vectors)).split(max(1, SCORES_PER_BLOCK // len(self.templates)))
        nearest = []
        for block in rows:
            others = vectors[block] @ self.templates.T
            others.scatter_(1, place[block, None], -torch.inf)
            nearest.append(own[block] > others.amax(1))
        return torch.cat(nearest)


def evaluate_inversions(
    generated: torch.Tensor, labels: ArrayLike, reference: RealEmbeddings
) -> dict[str, Any]:
    """A judge's verdict on generated images, beside its verdict on real ones.

    The images of one identity are seldom independent, so that the interval of the share of
    identities says more than that of the share of images.

    Args:
        generated: the judge's embeddings of the generated images, (G, D), not normalized.
        labels: identity that each image is meant to show, (G,), whole numbers.
        reference: the judge's embeddings of real images.

    Returns:
        A report that JSON can hold:

        - ``images``, ``identities``: number of generated images and identities;
        - ``attack_accuracy``, with ``_low`` and ``_high``: share of the images whose
          nearest template is that of their identity, with Wilson's 95% interval; beside it
          ``real_accuracy`` (``RealEmbeddings.accuracy``) and ``chance_accuracy``;
        - ``identities_reidentified``: number of identities for which this holds for at least half
          of the images; ``reidentified_low`` and ``_high`` are Wilson's interval of their share;
        - ``cosine_own``: mean cosine to the real images of the same identity, ``cosine_other`` to
          all others; ``cosine_real`` and ``cosine_real_other`` for pairs of real images;
        - ``accepted@FAR=...``: share of the pairs of a generated image and a real one of its
          identity at or above ``threshold@FAR=...``, with equal weight for each image;
          ``accepted_real@FAR=...``: share of the pairs of real images of one identity;
        - ``frechet``: Frechet distance of the unit vectors of the generated images to those of the
          real images of their identities; ``frechet_real``: that of equally many real images (at
          most half of them, drawn with a fixed seed) to the rest. It grows as images get fewer, so
          that it compares only with the other. None for fewer than two images;
        - ``per_identity``: ``label``, ``images``, ``named`` (number of recognized images),
          ``cosine_own`` and ``reidentified`` of each identity;
        - ``notes``: warnings for the reader.

    Raises:
        ValueError: if embeddings and labels do not fit, a number is not finite, the width is not
            the reference's, or there are no real images of a label.

    Example:
        >>> real = RealEmbeddings(torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]]), [7, 7, 9])
        >>> report = evaluate_inversions(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), [7, 7], real)
        >>> report['attack_accuracy'], report['identities_reidentified']
        (0.5, 1)
    """
    vectors, labels = _check('generated', generated, labels)
    if vectors.shape[1] != reference.vectors.shape[1]:
        raise ValueError(
            f'generated embeddings must be {reference.vectors.shape[1]} wide, as those of the '
            f'real images, got {vectors.shape[1]}'
        )
    place = reference.rows_of(labels)
    named = reference.is_recognized(vectors, place)
    own = (vectors * reference.sums[place]).sum(1)
    other = vectors.double() @ reference.sums.sum(0) - own
    own = own / reference.counts[place]
    other = other / (len(reference.vectors) - reference.counts[place])
    accepted = _accepted(vectors, place, reference)
    identities = _per_identity(labels, named, own)

    reidentified = sum(identity['reidentified'] for identity in identities)
    accuracy_interval = wilson_interval(int(named.sum()), len(named))
    interval = wilson_interval(reidentified, len(identities))
    report = dict(
        images=len(labels),
        identities=len(identities),
        identities_reidentified=reidentified,
        reidentified_low=interval[0],
        reidentified_high=interval[1],
        attack_accuracy=float(named.double().mean()),
        attack_accuracy_low=accuracy_interval[0],
        attack_accuracy_high=accuracy_interval[1],
        real_accuracy=reference.accuracy,
        chance_accuracy=1 / len(reference.labels),
        cosine_own=float(own.mean()),
        cosine_real=reference.cosine_same,
        cosine_other=float(other.mean()),
        cosine_real_other=reference.cosine_other,
    )
    for calibration, share in zip(reference.calibrations, accepted, strict=True):
        key = f'FAR={calibration.wanted_far:g}'
        report[f'accepted@{key}'] = float(share.mean())
        report[f'accepted_real@{key}'] = calibration.tar
        report[f'threshold@{key}'] = calibration.threshold
    # Only real images of the generated identities: the spread over others need not be matched.
    generated = torch.isin(torch.arange(len(reference.labels)), place)
    report |= _frechet(vectors, reference.vectors[generated.repeat_interleave(reference.counts)])
    notes = [calibration.note for calibration in reference.calibrations if calibration.note]
    if reference.accuracy < 0.9:
        notes.append(
            f'the judge recognizes only {reference.accuracy:.0%} of the real images, so it may '
            'also miss people whom a generated image shows'
        )
    return report | dict(per_identity=identities, notes=notes)


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets of vectors.

    |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)) of the means and covariances, as in the FID (`Heusel
    et al. <https://arxiv.org/abs/1706.08500>`_, equation 6). With A = X^T X and B = Y^T Y the trace
    of (A B)^(1/2) is the sum of the singular values of X Y^T, and X and Y may be replaced by the R
    factors of their QR decompositions. So no root of a matrix is needed, and fewer vectors than
    dimensions are no special case.

    Args:
        a: vectors, (N, D).
        b: vectors, (M, D).

    Returns:
        The distance, at least 0, in fp64.

    Raises:
        ValueError: if a set has fewer than two vectors, the widths differ, or a number is not
            finite.

    Example:
        >>> a = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
        >>> round(frechet_distance(a, a + 3), 4)
        18.0
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            'a and b must be matrices of one width with at least two rows each, got '
            f'{tuple(a.shape)} and {tuple(b.shape)}'
        )
    triangles, means, variance = [], [], 0.0
    for name, vectors in dict(a=a, b=b).items():
        vectors = vectors.double()
        _check_finite(name, vectors)
        mean = vectors.mean(0)
        centered = (vectors - mean) / (len(vectors) - 1) ** 0.5
        means.append(mean)
        variance += float(centered.square().sum())
        triangles.append(torch.linalg.qr(centered, mode='r').R)
    covariance = float(torch.linalg.svdvals(triangles[0] @ triangles[1].T).sum())
    return max(0.0, float((means[0] - means[1]).square().sum()) + variance - 2 * covariance)


def nearest_image_rms(
    images: np.ndarray, others: np.ndarray, leave_out: ArrayLike | None = None
) -> np.ndarray:
    """Root-mean-square pixel difference between each image and the most similar other image.

    The difference is exact: equal images are at 0.

    Args:
        images: images, (N, H, W, C), uint8 in [0, 255].
        others: images to compare with, (M, H, W, C), uint8.
        leave_out: row, for each image, in ``others`` that does not count, (N,): the image itself,
            where the images are part of ``others``.

    Returns:
        Differences, (N,), fp64, in [0, 255].

    Raises:
        ValueError: if the images are not uint8 or not of one size, or there are none to compare
            with.

    Example:
        >>> images = np.full((1, 4, 4, 3), 100, np.uint8)
        >>> nearest_image_rms(images, np.stack([images[0] + 30, images[0] - 5])).tolist()
        [5.0]
    """
    for name, value in dict(images=images, others=others).items():
        if value.dtype != np.uint8 or value.ndim != 4:
            raise ValueError(
                f'{name} must be (N, H, W, C), uint8, got {value.shape}, {value.dtype}'
            )
    if images.shape[1:] != others.shape[1:]:
        raise ValueError(
            f'images and others must be of one size, got {images.shape[1:]} and {others.shape[1:]}'
        )
    if len(others) <= (leave_out is not None):
        raise ValueError(f'others must hold an image to compare with, got {len(others)}')
    if leave_out is not None and np.shape(leave_out) != (len(images),):
        raise ValueError(
            f'leave_out must be one place for each of {len(images)} images, got '
            f'{np.shape(leave_out)}'
        )
    number = int(np.prod(images.shape[1:]))
    rows = max(1, PIXELS_PER_BLOCK // number)
    squared = np.full(len(images), np.inf)
    for left in range(0, len(others), rows):
        # Integers below 2^53, so that the sums are exact.
        right = others[left : left + rows].reshape(-1, number).astype(np.float64)
        lengths = np.square(right).sum(1)
        for top in range(0, len(images), rows):
            block = images[top : top + rows].reshape(-1, number).astype(np.float64)
            gaps = np.square(block).sum(1)[:, None] + lengths - 2 * (block @ right.T)
            if leave_out is not None:
                own = np.asarray(leave_out)[top : top + rows] - left
                here = np.flatnonzero((own >= 0) & (own < len(right)))
                gaps[here, own[here]] = np.inf
            here = slice(top, top + rows)
            squared[here] = np.minimum(squared[here], gaps.min(1))
    return np.sqrt(squared / number)


def _check(
    name: str, embeddings: torch.Tensor, labels: ArrayLike
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors (N, D) in fp32 and labels (N,) in int64, both on the CPU."""
    embeddings, labels = torch.as_tensor(embeddings).detach().cpu(), torch.as_tensor(labels).cpu()
    if embeddings.ndim != 2 or embeddings.numel() == 0:
        raise ValueError(
            f'{name} embeddings must be (images, width), at least one, got '
            f'{tuple(embeddings.shape)}'
        )
    if labels.shape != embeddings.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f'labels of the {name} images must be {len(embeddings)} whole numbers, one per image, '
            f'got {tuple(labels.shape)} of {labels.dtype}'
        )
    _check_finite(f'{name} embeddings', embeddings)
    return F.normalize(embeddings.double()).float(), labels.long()


def _check_finite(name: str, vectors: torch.Tensor) -> None:
    bad = (~vectors.isfinite().all(1)).nonzero()
    if len(bad):
        raise ValueError(
            f'{name} must be finite, got {len(bad)} rows that are not, the first is row '
            f'{int(bad[0, 0])}'
        )


def _draw_pairs(counts: np.ndarray) -> torch.Tensor:
    """Pairs of images sorted by identity, (P, 2): all pairs, or a sample of each kind."""
    number = int(counts.sum())
    if number * (number - 1) // 2 <= MAX_PAIRS:
        return torch.combinations(torch.arange(number))
    random = np.random.default_rng(0)
    run, start = np.repeat(counts, counts), np.repeat(counts.cumsum() - counts, counts)
    # Draw an image in proportion to the number of its partners, then one of them.
    same = random.choice(number, MAX_PAIRS, p=(run - 1) / (run - 1).sum())
    mate = start[same] + random.integers(run[same] - 1)
    mate += mate >= same
    other = random.choice(number, MAX_PAIRS, p=(number - run) / (number - run).sum())
    stranger = random.integers(number - run[other])
    stranger += run[other] * (stranger >= start[other])
    pairs = np.stack([np.append(same, other), np.append(mate, stranger)], 1)
    return torch.from_numpy(pairs)


def _accepted(
    vectors: torch.Tensor, place: torch.Tensor, reference: RealEmbeddings
) -> torch.Tensor:
    """For each FAR and image, the share of its identity's real images that accept it."""
    thresholds = torch.tensor([calibration.threshold for calibration in reference.calibrations])
    accepted = torch.zeros(len(thresholds), len(vectors), dtype=torch.float64)
    for identity in place.unique().tolist():
        rows = (place == identity).nonzero().squeeze(1)
        start = int(reference.starts[identity])
        real = reference.vectors[start : start + int(reference.counts[identity])]
        for block in rows.split(max(1, SCORES_PER_BLOCK // len(real))):
            similarity = (vectors[block] @ real.T).double()
            for share, threshold in zip(accepted, thresholds, strict=True):
                share[block] = (similarity >= threshold).double().mean(1)
    return accepted


def _per_identity(labels: torch.Tensor, named: torch.Tensor, own: torch.Tensor) -> list[dict]:
    present, place, counts = labels.unique(return_inverse=True, return_counts=True)
    hits = torch.zeros(len(present), dtype=torch.int64).index_add_(0, place, named.long())
    cosine = torch.zeros(len(present), dtype=torch.float64).index_add_(0, place, own) / counts
    return [
        dict(label=label, images=number, named=hit, cosine_own=mean, reidentified=2 * hit >= number)
        for label, number, hit, mean in zip(
            *(column.tolist() for column in (present, counts, hits, cosine)), strict=True
        )
    ]


def _frechet(generated: torch.Tensor, real: torch.Tensor) -> dict[str, float | None]:
    size = min(len(generated), len(real) // 2)
    if size < 2:
        return dict(frechet=None, frechet_real=None)
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    return dict(
        frechet=frechet_distance(generated, real),
        frechet_real=frechet_distance(real[order[:size]], real[order[size:]]),
    )
