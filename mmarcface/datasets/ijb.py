"""IJB-B and IJB-C: people shown by templates, sets of photographs and video frames."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from mmarcface.registry import DATASETS

from .formats.landmarks import read_landmarks
from .formats.pairs import Pairs
from .formats.text_lists import delimiter_of, iterate_lines
from .subsets import IndexedMetainfo, SubsettableDataset

GALLERIES = {'ijbb': ('S1', 'S2'), 'ijbc': ('G1', 'G2')}


@dataclass(frozen=True, eq=False)
class Templates(IndexedMetainfo):
    """Which samples of a data set make up which template; ``metainfo['templates']``.

    Attributes:
        template: number of the template of each sample, (N,), counted from 0.
        media: number of the photograph of each sample, or of the video that a frame is from, (N,).
        detection_score: score of the face detector for each sample, (N,), in [0, 1].
        pairs: pairs of templates, for verification.
        galleries: templates (G,) of each gallery, by its name, and their subjects (G,).
        probes: templates of the probes (P,) and their subjects (P,).
    """

    template: np.ndarray
    media: np.ndarray
    detection_score: np.ndarray
    pairs: Pairs | None = None
    galleries: dict[str, tuple[np.ndarray, np.ndarray]] | None = None
    probes: tuple[np.ndarray, np.ndarray] | None = None

    def for_subset(self, places: np.ndarray, number: int) -> Templates:
        """See :meth:`IndexedMetainfo.for_subset`: the templates of the samples that are left."""
        template = self.template[places]
        kept = np.zeros(1 + self.template.max(), bool)
        kept[template] = True

        def enrolled(lists: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            templates, subjects = lists
            return templates[kept[templates]], subjects[kept[templates]]

        return Templates(
            template,
            self.media[places],
            self.detection_score[places],
            self.pairs and self.pairs.among(kept),
            self.galleries and {name: enrolled(of) for name, of in self.galleries.items()},
            self.probes and enrolled(self.probes),
        )


@DATASETS.register_module()
class IJB(SubsettableDataset):
    """IJB-B (227,630 faces) or IJB-C (469,375), with the lists that insightface provides.

    Layout, here of IJB-C; that of IJB-B has ijbb for ijbc and its galleries are S1 and S2::

        data_root/
            loose_crop/1.jpg ...
            meta/
                ijbc_face_tid_mid.txt            image template media
                ijbc_name_5pts_score.txt         image x1 y1 ... x5 y5 score
                ijbc_template_pair_label.txt     template template 0 or 1, for 1:1
                ijbc_1N_gallery_G1.csv           TEMPLATE_ID,SUBJECT_ID,..., for 1:N
                ijbc_1N_gallery_G2.csv
                ijbc_1N_probe_mixed.csv

    Each image is a sample, with ``landmarks``, (5, 2), for :class:`AlignFace`.
    ``metainfo['templates']`` has the :class:`Templates` for :class:`TemplateVerificationMetric`.

    Args:
        data_root: the folder shown above.
        benchmark: 'ijbb' or 'ijbc'.
        protocols: protocols whose lists are read: '1:1', '1:N' or both.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: if a list or an image is missing.
        ValueError: if an argument is unknown, or a line breaks its format or names an unknown
            template.
    """

    def __init__(
        self,
        data_root: str,
        benchmark: str = 'ijbc',
        protocols: tuple[str, ...] = ('1:1', '1:N'),
        **kwargs,
    ):
        if benchmark not in GALLERIES:
            raise ValueError(f'benchmark must be one of {list(GALLERIES)}, got {benchmark!r}')
        if not protocols or not set(protocols) <= {'1:1', '1:N'}:
            raise ValueError(f"protocols must be of '1:1' and '1:N', got {protocols}")
        self.benchmark = benchmark
        self.protocols = protocols
        super().__init__(ann_file='', data_root=data_root, data_prefix='loose_crop', **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each face: ``img_path``, ``gt_label`` (its template) and ``landmarks``."""
        listed = self._file('face_tid_mid.txt')
        names, ids, media = _columns(listed, 'image template media', names=1)
        landmarks_file = self._file('name_5pts_score.txt')
        landmarks = read_landmarks(landmarks_file)
        numbers, template = np.unique(ids, return_inverse=True)
        samples, scores = [], []
        for line, (name, label) in enumerate(zip(names, template.tolist(), strict=True), 1):
            path = Path(self.img_prefix, name)
            if name not in landmarks or landmarks[name].shape != (5, 3):
                raise ValueError(
                    f'{landmarks_file} must give five points and a score for {name} of '
                    f'{listed}:{line}'
                )
            if not os.path.isfile(path):  # Of any name, also of one too long for a file.
                raise FileNotFoundError(f'{listed}:{line}: image {path} does not exist')
            points = landmarks[name]
            samples.append(dict(img_path=str(path), gt_label=label, landmarks=points[:, :2]))
            scores.append(points[0, 2])
        lists = {}
        if '1:1' in self.protocols:
            path = self._file('template_pair_label.txt')
            one, other, same = _columns(path, 'template template 0 or 1')
            wrong = np.flatnonzero((same != 0) & (same != 1))
            if len(wrong):
                raise ValueError(
                    f'{path}:{wrong[0] + 1}: the answer must be 0 or 1, got {same[wrong[0]]}'
                )
            indices = np.stack([_places(numbers, ids, path) for ids in (one, other)], 1)
            lists['pairs'] = Pairs(indices, same == 1, np.zeros(len(same), np.int64))
        if '1:N' in self.protocols:
            lists['galleries'] = {
                name: self._enrolled(numbers, f'1N_gallery_{name}.csv')
                for name in GALLERIES[self.benchmark]
            }
            lists['probes'] = self._enrolled(numbers, '1N_probe_mixed.csv')
        scores = np.array(scores, np.float32)
        self._metainfo['templates'] = Templates(template, media, scores, **lists)
        return samples

    def _file(self, name: str) -> Path:
        path = Path(self.data_root, 'meta', f'{self.benchmark}_{name}')
        if not path.is_file():
            raise FileNotFoundError(f'{path} does not exist: correct data_root or protocols')
        return path

    def _enrolled(self, numbers: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Templates and subjects of a list, where a template may be in several lines."""
        path = self._file(name)
        ids, subjects = _columns(path, 'TEMPLATE_ID,SUBJECT_ID', csv=True)
        templates, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        wrong = np.flatnonzero(subjects != subjects[first][inverse])
        if len(wrong):
            raise ValueError(
                f'{path}:{wrong[0] + 2}: template {ids[wrong[0]]} is of subject '
                f'{subjects[wrong[0]]} here, and of {subjects[first][inverse][wrong[0]]} before'
            )
        _places(numbers, ids, path, skip=1)
        return _places(numbers, templates, path), subjects[first]


def _places(numbers: np.ndarray, ids: np.ndarray, path: Path, skip: int = 0) -> np.ndarray:
    """Places of templates among those that have images."""
    places = np.searchsorted(numbers, ids).clip(max=len(numbers) - 1)
    unknown = np.flatnonzero(numbers[places] != ids)
    if len(unknown):
        raise ValueError(
            f'{path}:{unknown[0] + 1 + skip}: template {ids[unknown[0]]} has no images'
        )
    return places


def _columns(path: Path, rule: str, names: int = 0, csv: bool = False) -> list[np.ndarray]:
    """Columns of a list: names first, then numbers as ``rule`` shows; others are left out."""
    number = 2 if csv else len(rule.split()[:3])
    delimiter = delimiter_of(next(iterate_lines(path), '')) if csv else None
    kinds = [object] * names + [np.int64] * (number - names)

    def rows() -> Iterator[str]:
        for line in islice(iterate_lines(path), int(csv), None):
            if not line:
                # NumPy would skip it, and rows would no longer match lines.
                raise ValueError('a blank line')
            yield line

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            table = np.loadtxt(
                rows(),
                [(f'column {place}', kind) for place, kind in enumerate(kinds)],
                comments=None,
                delimiter=delimiter,
                usecols=range(number),
                ndmin=1,
            )
        if len(table):
            return [table[name].copy() for name in table.dtype.names]
    except (ValueError, OverflowError):
        pass
    _refuse(path, rule, number, names, delimiter)


def _refuse(path: Path, rule: str, number: int, names: int, delimiter: str | None) -> NoReturn:
    """Name the first line that breaks the format."""
    header = int(delimiter is not None)
    for line, text in enumerate(islice(iterate_lines(path), header, None), 1 + header):
        fields = text.split(delimiter)
        numbers = [field.strip() for field in fields[names:number]]
        whole = all(f.isascii() and f.isdigit() and len(f) < 19 for f in numbers)
        if len(fields) < number or not whole:
            raise ValueError(f'{path}:{line}: a line must be "{rule}"; got {text!r}')
    raise ValueError(f'{path} has no lines of "{rule}"')
