"""The maths, as functions of tensors and arrays: no mm* package is imported here.

Everything public is exported flat::

    import mmarcface.functional as F

    loss = F.margin_softmax(embeddings, weight, labels, 'arcface', margin=0.5)
"""

from .angles import intra_class_angle, mean_directions, min_inter_class_angle
from .arguments import are_numbers, as_height_width, as_ranks, as_rates, check_number, is_number
from .blockwise import class_products, nontarget_sums
from .calibration import (
    Calibration,
    calibrate,
    convert_threshold,
    few_pairs_warning,
    wilson_interval,
)
from .identification import (
    SearchResults,
    cmc_curve,
    search_distractors,
    search_gallery,
    tpir_at_fpir,
)
from .inversion import (
    BatchStatistics,
    batch_norm_layers,
    batch_statistics,
    bn_prior,
    check_trained,
    squared_l2_distances,
    squared_l2_norm,
    total_variation,
)
from .inversion_metrics import (
    RealEmbeddings,
    evaluate_inversions,
    frechet_distance,
    nearest_image_rms,
)
from .losses import (
    as_loss_inputs,
    class_cosines,
    linear_softmax,
    margin_sigmoid,
    margin_softmax,
    target_cosines,
)
from .margins import (
    adaface,
    adaptive_margins,
    angle_from_cosine,
    arcface,
    combined_margin,
    cosface,
    detach_margin,
    elasticface_margins,
    magface_margin,
    magface_regularizer,
    sine_from_cosine,
    sphereface,
    sphereface_r,
    target_logit_curve,
)
from .nontarget import (
    Modulation,
    curricularface_nontarget,
    interclass_filter,
    sphereface2_similarity,
    sphereface_r_nontarget,
)
from .retrieval import count_relevant, map_at_k, map_at_r, r_precision, recall_at_k, topk_search
from .subcenter import (
    AngleMixture,
    angles_to_subcenters,
    clean_mask,
    dead_subcenters,
    dominant_subcenters,
    fit_angle_mixture,
    subcenter_cosines,
    subcenter_counts,
)
from .templates import pool_templates
from .vectors import normalize, norms
from .verification import (
    consecutive_folds,
    equal_error_rate,
    kfold_accuracy,
    pair_similarity,
    roc_auc,
    roc_curve,
    tar_at_far,
    tar_from_roc,
    tar_interval,
)

__all__ = [
    'AngleMixture',
    'BatchStatistics',
    'Calibration',
    'Modulation',
    'RealEmbeddings',
    'SearchResults',
    'adaface',
    'adaptive_margins',
    'angle_from_cosine',
    'angles_to_subcenters',
    'arcface',
    'are_numbers',
    'as_height_width',
    'as_loss_inputs',
    'as_ranks',
    'as_rates',
    'batch_norm_layers',
    'batch_statistics',
    'bn_prior',
    'calibrate',
    'check_number',
    'check_trained',
    'class_cosines',
    'class_products',
    'clean_mask',
    'cmc_curve',
    'combined_margin',
    'consecutive_folds',
    'convert_threshold',
    'cosface',
    'count_relevant',
    'curricularface_nontarget',
    'dead_subcenters',
    'detach_margin',
    'dominant_subcenters',
    'elasticface_margins',
    'equal_error_rate',
    'evaluate_inversions',
    'few_pairs_warning',
    'fit_angle_mixture',
    'frechet_distance',
    'interclass_filter',
    'intra_class_angle',
    'is_number',
    'kfold_accuracy',
    'linear_softmax',
    'magface_margin',
    'magface_regularizer',
    'map_at_k',
    'map_at_r',
    'margin_sigmoid',
    'margin_softmax',
    'mean_directions',
    'min_inter_class_angle',
    'nearest_image_rms',
    'nontarget_sums',
    'normalize',
    'norms',
    'pair_similarity',
    'pool_templates',
    'r_precision',
    'recall_at_k',
    'roc_auc',
    'roc_curve',
    'search_distractors',
    'search_gallery',
    'sine_from_cosine',
    'sphereface',
    'sphereface2_similarity',
    'sphereface_r',
    'sphereface_r_nontarget',
    'squared_l2_distances',
    'squared_l2_norm',
    'subcenter_cosines',
    'subcenter_counts',
    'tar_at_far',
    'tar_from_roc',
    'tar_interval',
    'target_cosines',
    'target_logit_curve',
    'topk_search',
    'total_variation',
    'tpir_at_fpir',
    'wilson_interval',
]
