from .metrics import (
    IdentificationMetric,
    RetrievalMetric,
    TemplateVerificationMetric,
    VerificationMetric,
)

__all__ = [
    'IdentificationMetric',
    'RetrievalMetric',
    'TemplateVerificationMetric',
    'VerificationMetric',
]
