from .metrics import RetrievalMetric, VerificationMetric

__all__ = ['RetrievalMetric', 'VerificationMetric']
