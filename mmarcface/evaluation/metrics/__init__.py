from .identification import IdentificationMetric
from .retrieval import RetrievalMetric
from .template import TemplateVerificationMetric
from .verification import VerificationMetric

__all__ = [
    'IdentificationMetric',
    'RetrievalMetric',
    'TemplateVerificationMetric',
    'VerificationMetric',
]
