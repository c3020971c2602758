from .retrieval import RetrievalMetric
from .verification import VerificationMetric

__all__ = ['RetrievalMetric', 'VerificationMetric']
