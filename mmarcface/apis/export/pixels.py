"""Images that an exported file is compared and calibrated on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.utils.data import Dataset

from mmarcface.apis.inferencers import pipeline_after_loading, query_samples
from mmarcface.datasets.formats.image_files import find_images, log_left_out
from mmarcface.datasets.wrappers import pipeline_of, with_pipeline
from mmarcface.registry import DATASETS

# What a config without a data set needs instead, and what for.
OTHERWISE = {'test': ('--images', 'compare'), 'train': ('--calibration-folder', 'calibrate')}


def test_pixels(config: Config, number: int) -> torch.Tensor:
    """Images of the test set of a config, evenly spaced, as its pipeline prepares them.

    Args:
        config: config of the model.
        number: number of images; all, if there are fewer.

    Returns:
        Images, (N, C, H, W), uint8, BGR.

    Raises:
        ValueError: if the config has no test set, it is empty, or its images differ in size.
    """
    return _pixels_of(_data_set(config, 'test'), number)


def training_pixels(config: Config, number: int) -> torch.Tensor:
    """Images of the training set of a config, evenly spaced, as its test pipeline prepares them.

    Args:
        config: config of the model.
        number: number of images; all, if there are fewer.

    Returns:
        Images, (N, C, H, W), uint8, BGR.

    Raises:
        ValueError: if ``number`` is not positive, the config lacks a training set or a test
            pipeline, the set is empty, or its images differ in size.
    """
    pipeline = pipeline_of(_data_set(config, 'test'))
    return _pixels_of(with_pipeline(_data_set(config, 'train'), pipeline), number)


def folder_pixels(config: Config, folder: str | Path, number: int) -> torch.Tensor:
    """Images in a folder, evenly spaced, as the test pipeline of a config prepares them.

    Args:
        config: config of the model.
        folder: the folder.
        number: number of images; all, if there are fewer.

    Returns:
        Images, (N, C, H, W), uint8, BGR.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
        ValueError: if an image cannot be read, or they differ in size.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f'the folder of images {folder} does not exist')
    paths, others = find_images(folder)
    log_left_out(folder, others)
    if not paths:
        raise FileNotFoundError(f'there are no images in {folder}')
    pipeline = pipeline_after_loading(config)
    samples = query_samples(pipeline, [paths[place] for place in _places(len(paths), number)])
    return _stack((pipeline(sample)['inputs'] for sample in samples), str(folder))


def _data_set(config: Config, part: str) -> Dataset:
    loader = config.get(f'{part}_dataloader')
    if not loader or not loader.get('dataset'):
        option, use = OTHERWISE[part]
        raise ValueError(
            f'the config must have a {part}_dataloader with a data set, for the images to {use} '
            f'on, and it has none: add it, or give {option} FOLDER'
        )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(loader['dataset'])
    if len(dataset) == 0:
        raise ValueError(f'{part}_dataloader.dataset has no images: {dataset}')
    return dataset


def _pixels_of(dataset: Dataset, number: int) -> torch.Tensor:
    images = (dataset[place]['inputs'] for place in _places(len(dataset), number))
    return _stack(images, type(dataset).__name__)


def _places(length: int, number: int) -> list[int]:
    """Up to ``number`` of the places in a list of some length, from the first to the last."""
    if number < 1:
        raise ValueError(f'the number of images must be at least 1, got {number}')
    return np.unique(np.linspace(0, length - 1, min(number, length)).round().astype(int)).tolist()


def _stack(images: Iterable[torch.Tensor], name: str) -> torch.Tensor:
    images = list(images)
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) > 1:
        raise ValueError(
            f'the images of {name} must be of one size after the test pipeline, got '
            f'{shapes[0]} and {shapes[1]}: resize or align them in it'
        )
    return torch.stack(images)
