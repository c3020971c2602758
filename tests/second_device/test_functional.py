"""The functions of tensors, given tensors of the device."""

import pytest
import torch
from torch.nn.functional import normalize

import mmarcface.functional as F
from mmarcface.functional.retrieval import DENOMINATORS

from .same import check_same, moved

RANDOM = torch.Generator().manual_seed(0)
LABELS = torch.arange(40) % 8
CENTERS = torch.randn(8, 6, generator=RANDOM)
VECTORS = normalize(CENTERS[LABELS] + torch.randn(40, 6, generator=RANDOM))
WEIGHT = torch.randn(24, 6, generator=RANDOM)
COSINES = 2 * torch.rand(40, generator=RANDOM) - 1
SAME = COSINES + 0.5 * torch.randn(40, generator=RANDOM) > 0
OWN = 2 * torch.rand(40, 3, generator=RANDOM) - 1
IMAGES = torch.randn(2, 3, 8, 8, generator=RANDOM)
RELEVANT = torch.rand(40, 12, generator=RANDOM) > 0.5
NUMBERS = torch.randint(1, 12, (40,), generator=RANDOM)
OF_OTHERS = 90 + 10 * torch.randn(500, generator=RANDOM)
OF_OWN = torch.cat([30 + 8 * torch.randn(300, generator=RANDOM), OF_OTHERS[:60]])
# Functions whose values are lists of sizes or settings, or of arrays alone.
OF_NO_TENSOR = {
    'adaptive_margins', 'are_numbers', 'as_height_width', 'as_ranks', 'as_rates', 'check_number',
    'cmc_curve', 'consecutive_folds', 'convert_threshold', 'equal_error_rate', 'few_pairs_warning',
    'is_number', 'nearest_image_rms', 'roc_auc', 'tar_from_roc', 'target_logit_curve',
    'tpir_at_fpir', 'wilson_interval',
}  # fmt: skip
# Those of whole losses and nets, which the heads and the inversion call.
CALLED_BY_OTHERS = {
    'as_loss_inputs', 'batch_norm_layers', 'batch_statistics', 'bn_prior', 'check_trained',
    'class_products', 'curricularface_nontarget', 'elasticface_margins', 'interclass_filter',
    'linear_softmax', 'margin_sigmoid', 'margin_softmax', 'nontarget_sums',
    'sphereface2_similarity', 'sphereface_r_nontarget', 'target_cosines',
}  # fmt: skip
CALLS = {
    'intra_class_angle': [(VECTORS, LABELS)],
    'mean_directions': [(VECTORS, LABELS, 9)],
    'min_inter_class_angle': [(CENTERS,)],
    'search_gallery': [
        (VECTORS[:9], LABELS[:9], VECTORS[9:], LABELS[9:], 5),
        (VECTORS[:9], LABELS[:9], VECTORS[9:], LABELS[9:] + 3, 5),
    ],
    'search_distractors': [(VECTORS[:20], LABELS[:20], VECTORS[20:], 5)],
    'total_variation': [(IMAGES,), (IMAGES, 'deepinversion')],
    'squared_l2_norm': [(IMAGES,)],
    'squared_l2_distances': [(VECTORS, VECTORS.flip(0))],
    'evaluate_inversions': [
        (VECTORS[::2], LABELS[::2], lambda d: F.RealEmbeddings(VECTORS.to(d), LABELS)),
    ],
    'frechet_distance': [(VECTORS, CENTERS)],
    'sine_from_cosine': [(COSINES,)],
    'angle_from_cosine': [(COSINES,)],
    'detach_margin': [(COSINES, COSINES)],
    'norms': [(CENTERS,)],
    'normalize': [(CENTERS,)],
    'class_cosines': [(VECTORS, WEIGHT, 3)],
    'cosface': [(COSINES, 0.3), (COSINES, COSINES.abs())],
    'arcface': [(COSINES, 0.3), (COSINES, COSINES.abs(), True)],
    'combined_margin': [(COSINES, 1.1, 0.3, 0.1)],
    'sphereface': [(COSINES, 4, 5.0), (COSINES, 1 + COSINES.abs())],
    'sphereface_r': [(COSINES, 1.4)],
    'adaface': [(COSINES, 0.4, COSINES)],
    'magface_margin': [(60 + 60 * COSINES, 10, 110, 0.4, 0.8)],
    'magface_regularizer': [(60 + 60 * COSINES, 10, 110)],
    'topk_search': [
        (VECTORS[:9], VECTORS, 5),
        (VECTORS, VECTORS, 39, torch.arange(40)),
    ],
    'count_relevant': [(LABELS[:9], LABELS[9:])],
    'recall_at_k': [(RELEVANT, 3)],
    'map_at_k': [(RELEVANT, NUMBERS, 5, kind) for kind in DENOMINATORS],
    'map_at_r': [(RELEVANT, NUMBERS)],
    'r_precision': [(RELEVANT, NUMBERS)],
    'subcenter_cosines': [(VECTORS, WEIGHT, LABELS, 3)],
    'subcenter_counts': [(OWN, LABELS, 9)],
    'dominant_subcenters': [(LABELS.view(8, 5),)],
    'dead_subcenters': [(LABELS.view(8, 5),)],
    'angles_to_subcenters': [(OWN, LABELS % 3)],
    'clean_mask': [
        (COSINES.acos().rad2deg(), LABELS),
        (COSINES.acos().rad2deg(), LABELS, 50.0, 3),
    ],
    'fit_angle_mixture': [(OF_OWN, OF_OTHERS)],
    'pool_templates': [
        (VECTORS, LABELS, LABELS % 3),
        (VECTORS, LABELS, LABELS % 3, COSINES),
    ],
    'pair_similarity': [(VECTORS, LABELS.view(20, 2))],
    'roc_curve': [(COSINES, SAME)],
    'tar_at_far': [(COSINES, SAME, 0.1)],
    'tar_interval': [(COSINES, SAME, 0.1)],
    'kfold_accuracy': [(COSINES, SAME, 4)],
    'calibrate': [(COSINES, SAME, 0.1)],
}


def test_every_function_is_tried():
    functions = {name for name in F.__all__ if name.islower()}
    assert functions == set(CALLS) | OF_NO_TENSOR | CALLED_BY_OTHERS


@pytest.mark.parametrize('name', CALLS)
def test_figures_are_those_of_the_cpu(device, name):
    call = getattr(F, name)
    for arguments in CALLS[name]:
        of_cpu, of_device = (
            [a(where) if callable(a) else a for a in moved(arguments, where)]
            for where in ('cpu', device)
        )
        check_same(call(*of_device), call(*of_cpu))


@pytest.mark.parametrize(
    'name', ['topk_search', 'pool_templates', 'subcenter_cosines', 'clean_mask']
)
def test_results_stay_there(device, name):
    for arguments in CALLS[name]:
        found = getattr(F, name)(*moved(arguments, device))
        for part in found if isinstance(found, tuple) else [found]:
            assert part.device == device


def test_places_may_be_on_the_cpu(device):
    """As arrays of a data set are, once they are tensors."""
    pairs = LABELS.view(20, 2)
    expected = F.pair_similarity(VECTORS, pairs)
    check_same(F.pair_similarity(VECTORS.to(device), pairs), expected, device)
    expected = F.topk_search(VECTORS, VECTORS, 5, torch.arange(40))
    found = F.topk_search(VECTORS.to(device), VECTORS.to(device), 5, torch.arange(40))
    check_same(found, expected, device)


def test_drawn_margins(device):
    torch.manual_seed(0)
    cosines, means = COSINES.to(device), COSINES.abs().to(device)
    for plus in (False, True):
        drawn = F.elasticface_margins(cosines, means, 0.1, plus)
        assert drawn.device == device
        assert 0.05 < float((drawn - means).std()) < 0.15 or plus
