"""The functions of tensors, given tensors of the device."""

import pytest
import torch
from torch.nn.functional import normalize

from mmarcface.functional import (
    angles,
    identification,
    inversion,
    inversion_metrics,
    margins,
    retrieval,
    subcenter,
    templates,
    verification,
)

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
    'consecutive_folds', 'wilson_interval', 'convert', 'few_pairs_warning', 'area_under_curve',
    'equal_error_rate', 'tar_of_curve', 'cumulative_match', 'tpir_at_fpir', 'adaptive_margins',
    'nearest_distance', 'target_logit_curve',
}  # fmt: skip
# Those of whole losses and nets, which the heads and the inversion call.
CALLED_BY_OTHERS = {
    'batch_norm_layers', 'batch_statistics', 'bn_prior', 'refuse_untrained', 'curricular',
    'sphereface_r_nontarget', 'interclass_filter', 'sphereface2_similarity', 'elastic_margins',
}  # fmt: skip
CALLS = {
    'within_class_angle': [(angles, VECTORS, LABELS)],
    'class_directions': [(angles, VECTORS, LABELS, 9)],
    'smallest_angle': [(angles, CENTERS)],
    'search_gallery': [
        (identification, VECTORS[:9], LABELS[:9], VECTORS[9:], LABELS[9:], 5),
        (identification, VECTORS[:9], LABELS[:9], VECTORS[9:], LABELS[9:] + 3, 5),
    ],
    'search_distractors': [(identification, VECTORS[:20], LABELS[:20], VECTORS[20:], 5)],
    'total_variation': [(inversion, IMAGES), (inversion, IMAGES, 'deepinversion')],
    'image_energy': [(inversion, IMAGES)],
    'embedding_distances': [(inversion, VECTORS, VECTORS.flip(0))],
    'evaluate_inversions': [
        (
            inversion_metrics,
            VECTORS[::2],
            LABELS[::2],
            lambda d: inversion_metrics.RealEmbeddings(VECTORS.to(d), LABELS),
        ),
    ],
    'frechet_distance': [(inversion_metrics, VECTORS, CENTERS)],
    'sine': [(margins, COSINES)],
    'angle': [(margins, COSINES)],
    'detached': [(margins, COSINES, COSINES)],
    'cosface': [(margins, COSINES, 0.3), (margins, COSINES, COSINES.abs())],
    'arcface': [(margins, COSINES, 0.3), (margins, COSINES, COSINES.abs(), True)],
    'combined': [(margins, COSINES, 1.1, 0.3, 0.1)],
    'sphereface': [(margins, COSINES, 4, 5.0), (margins, COSINES, 1 + COSINES.abs())],
    'sphereface_r': [(margins, COSINES, 1.4)],
    'adaface': [(margins, COSINES, 0.4, COSINES)],
    'magface_margin': [(margins, 60 + 60 * COSINES, 10, 110, 0.4, 0.8)],
    'magface_regularizer': [(margins, 60 + 60 * COSINES, 10, 110)],
    'topk_search': [
        (retrieval, VECTORS[:9], VECTORS, 5),
        (retrieval, VECTORS, VECTORS, 39, torch.arange(40)),
    ],
    'count_relevant': [(retrieval, LABELS[:9], LABELS[9:])],
    'recall_at_k': [(retrieval, RELEVANT, 3)],
    'average_precision_at_k': [
        (retrieval, RELEVANT, NUMBERS, 5, kind) for kind in retrieval.DENOMINATORS
    ],
    'map_at_r': [(retrieval, RELEVANT, NUMBERS)],
    'r_precision': [(retrieval, RELEVANT, NUMBERS)],
    'subcenter_cosines': [(subcenter, VECTORS, WEIGHT, LABELS, 3)],
    'count_by_subcenter': [(subcenter, OWN, LABELS, 9)],
    'dominant_subcenters': [(subcenter, LABELS.view(8, 5))],
    'dead_subcenters': [(subcenter, LABELS.view(8, 5))],
    'angles_to_centers': [(subcenter, OWN, LABELS % 3)],
    'keep_mask': [
        (subcenter, COSINES.acos().rad2deg(), LABELS),
        (subcenter, COSINES.acos().rad2deg(), LABELS, 50.0, SAME, 3),
    ],
    'fit_angle_mixture': [(subcenter, OF_OWN, OF_OTHERS)],
    'pool_templates': [
        (templates, VECTORS, LABELS, LABELS % 3),
        (templates, VECTORS, LABELS, LABELS % 3, COSINES),
    ],
    'pair_similarity': [(verification, VECTORS, LABELS.view(20, 2))],
    'roc_curve': [(verification, COSINES, SAME)],
    'tar_at_far': [(verification, COSINES, SAME, 0.1)],
    'tar_interval': [(verification, COSINES, SAME, 0.1)],
    'kfold_accuracy': [(verification, COSINES, SAME, 4)],
    'calibrate': [(verification, COSINES, SAME, 0.1)],
}


def test_every_function_is_tried():
    rooms = {room for calls in CALLS.values() for room, *_ in calls}
    public = {
        name
        for room in rooms
        for name, value in vars(room).items()
        if getattr(value, '__module__', '') == room.__name__ and name.islower() and name[0] != '_'
    }
    assert public == set(CALLS) | OF_NO_TENSOR | CALLED_BY_OTHERS


@pytest.mark.parametrize('name', CALLS)
def test_figures_are_those_of_the_cpu(device, name):
    for room, *arguments in CALLS[name]:
        of_cpu, of_device = (
            [a(where) if callable(a) else a for a in moved(arguments, where)]
            for where in ('cpu', device)
        )
        call = getattr(room, name)
        check_same(call(*of_device), call(*of_cpu))


@pytest.mark.parametrize(
    'name', ['topk_search', 'pool_templates', 'subcenter_cosines', 'keep_mask']
)
def test_results_stay_there(device, name):
    for room, *arguments in CALLS[name]:
        found = getattr(room, name)(*moved(arguments, device))
        for part in found if isinstance(found, tuple) else [found]:
            assert part.device == device


def test_places_may_be_on_the_cpu(device):
    """As arrays of a data set are, once they are tensors."""
    pairs = LABELS.view(20, 2)
    expected = verification.pair_similarity(VECTORS, pairs)
    check_same(verification.pair_similarity(VECTORS.to(device), pairs), expected, device)
    expected = retrieval.topk_search(VECTORS, VECTORS, 5, torch.arange(40))
    found = retrieval.topk_search(VECTORS.to(device), VECTORS.to(device), 5, torch.arange(40))
    check_same(found, expected, device)


def test_drawn_margins(device):
    torch.manual_seed(0)
    cosines, means = COSINES.to(device), COSINES.abs().to(device)
    for plus in (False, True):
        drawn = margins.elastic_margins(cosines, means, 0.1, plus)
        assert drawn.device == device
        assert 0.05 < float((drawn - means).std()) < 0.15 or plus
