from mmpretrain.apis import ImageRetrievalInferencer, get_model, list_models

from .verification import VerificationInferencer

__all__ = ['ImageRetrievalInferencer', 'VerificationInferencer', 'get_model', 'list_models']
