import numpy as np
import pytest
from mmengine.config import Config

from mmarcface.datasets import VirtualIdentities
from mmarcface.registry import DATASETS
from tests.conftest import ROOT


def sample(label=3):
    image = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    return dict(img=image, gt_label=label, img_path='face.png')


def test_changed_images_are_other_identities():
    np.random.seed(0)
    transform = VirtualIdentities(num_identities=10)
    upright = sample()['img']
    expected = {
        3: upright,
        13: np.flipud(upright),
        23: 255 - upright,
        33: 255 - np.flipud(upright),
    }
    labels = []
    for _ in range(400):
        result = transform(sample())
        assert (result['img'] == expected[result['gt_label']]).all()
        labels.append(result['gt_label'])
    assert all(60 < labels.count(label) < 140 for label in expected)


def test_orl_recipe_uses_all_classes_of_its_head():
    config = Config.fromfile(ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py')
    dataset = DATASETS.build(config.train_dataloader.dataset)
    np.random.seed(0)
    labels = {dataset[i]['data_samples'].gt_label.item() for _ in range(4) for i in range(200)}
    assert labels == set(range(config.model.head.num_classes)) == set(range(80))


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r'num_identities is 3 and face.png has label 3'):
        VirtualIdentities(3)(sample())
    with pytest.raises(ValueError, match='at least 1, got 0'):
        VirtualIdentities(0)
