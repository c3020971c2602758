"""Labeled Faces in the Wild."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mmarcface.registry import DATASETS

from .formats.pairs import Pairs, read_pairs, read_people
from .identity_dataset import IdentityDataset

PAIR_FILES = {'view1': ('pairsDevTrain.txt', 'pairsDevTest.txt'), 'view2': ('pairs.txt',)}
PEOPLE_FILES = {
    'people': 'people.txt',
    'people_train': 'peopleDevTrain.txt',
    'people_test': 'peopleDevTest.txt',
}


@DATASETS.register_module()
class LFW(IdentityDataset):
    """LFW, or other faces in its layout: 13,233 images of 5,749 people.

    Layout, as the `homepage <http://vis-www.cs.umass.edu/lfw/>`_ gives it::

        data_root/
            pairs.txt                                  View 2, to report figures
            pairsDevTrain.txt, pairsDevTest.txt        View 1, to choose between models
            people.txt, peopleDevTrain.txt, peopleDevTest.txt
            lfw/
                Aaron_Eckhart/Aaron_Eckhart_0001.jpg

    In the views ``metainfo['pairs']`` has the pairs for :class:`VerificationMetric`, and the
    samples are the images of these pairs, each once. View 2 has ten folds. View 1 chooses its
    threshold on the pairs of ``pairsDevTrain.txt`` and is tested on those of ``pairsDevTest.txt``.

    Args:
        data_root: the folder shown above.
        split: 'view2', 'view1', or all images of the people in 'people', 'people_train' or
            'people_test', with their ``fold``.
        folder: folder of the images in ``data_root``, such as that of an aligned version.
        extension: extension of the image files.
        **kwargs: see :class:`IdentityDataset`; a view of pairs cannot be filtered by a keep-list.

    Raises:
        FileNotFoundError: if a list or an image is missing.
        ValueError: if the split is unknown, or see :func:`read_pairs` and :func:`read_people`.
    """

    def __init__(
        self,
        data_root: str,
        split: str = 'view2',
        folder: str = 'lfw',
        extension: str = '.jpg',
        **kwargs,
    ):
        splits = [*PAIR_FILES, *PEOPLE_FILES]
        if split not in splits:
            raise ValueError(f'split must be one of {splits}, got {split!r}')
        self.split = split
        self.extension = extension
        super().__init__(ann_file='', data_root=data_root, data_prefix=folder, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each image: ``img_path``, ``gt_label`` and the ``identity``'s name."""
        if self.split in PEOPLE_FILES:
            return self._load_people()
        listed, folds = [], []
        files = [Path(self.data_root, name) for name in PAIR_FILES[self.split]]
        for place, path in enumerate(files):
            pairs = read_pairs(path)
            listed += [(path, pair) for pair in pairs]
            # The last file is tested, and the one before it only gives the threshold.
            folds += [pair.fold if path == files[-1] else place - 1 for pair in pairs]
        places, samples = {}, []
        for path, pair in listed:
            for image in (pair.first, pair.second):
                if image not in places:
                    places[image] = len(places)
                    samples.append(self._sample(*image, f'{path}:{pair.line}'))
        self._metainfo['pairs'] = Pairs(
            np.array([(places[pair.first], places[pair.second]) for _, pair in listed]),
            np.array([pair.is_same for _, pair in listed]),
            np.array(folds),
        )
        return self._label(samples)

    def _load_people(self) -> list[dict]:
        path = Path(self.data_root, PEOPLE_FILES[self.split])
        return self._label(
            [
                self._sample(name, number, f'{path}:{line}') | dict(fold=fold)
                for line, name, images, fold in read_people(path)
                for number in range(1, images + 1)
            ]
        )

    def _sample(self, name: str, number: int, where: str) -> dict:
        path = Path(self.img_prefix, name, f'{name}_{number:04d}{self.extension}')
        if not os.path.isfile(path):  # Of any name, also of one too long for a file.
            raise FileNotFoundError(f'{where}: image {path} does not exist')
        return dict(img_path=str(path), identity=name)

    def _label(self, samples: list[dict]) -> list[dict]:
        names = sorted({sample['identity'] for sample in samples})
        labels = {name: label for label, name in enumerate(names)}
        self._metainfo['classes'] = tuple(names)
        return [sample | dict(gt_label=labels[sample['identity']]) for sample in samples]
