"""Every metric, with embeddings and labels where a model leaves them."""

import pytest

from mmarcface import evaluation
from mmarcface.evaluation import RetrievalMetric, VerificationMetric
from tests.evaluation.test_metrics import as_samples, embeddings, evaluate
from tests.evaluation.test_template import every_metric

from .same import check_same, moved


def metrics():
    roles = ['query' if i % 5 == 0 else 'gallery' for i in range(61)]
    return [
        (RetrievalMetric(), as_samples(*embeddings(), roles)),
        (RetrievalMetric(map_denominator='min'), as_samples(*embeddings())),
        (VerificationMetric(), as_samples(*embeddings())),
        (VerificationMetric(max_pairs=500), as_samples(*embeddings())),
        (VerificationMetric(pairs=[(0, 6), (1, 8)] * 20), as_samples(*embeddings())),
        *every_metric(),
    ]


def test_every_metric_is_tried():
    tried = {type(metric).__name__ for metric, _ in metrics()}
    assert tried == {name for name in evaluation.__all__ if name.endswith('Metric')}


@pytest.mark.parametrize('number', range(len(metrics())))
def test_figures_are_those_of_the_cpu(device, number):
    metric, samples = metrics()[number]
    expected = evaluate(metric, samples)
    check_same(evaluate(metric, moved(samples, device)), expected)
    assert getattr(metric, 'calibrations', True)
