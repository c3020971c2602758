from mmpretrain.apis import ImageRetrievalInferencer, get_model, list_models

from .embedding_files import read_embeddings
from .inversion import Inversion, invert
from .inversion_settings import InversionSettings
from .judging import Judge
from .saved_inversion import save_inversion
from .verification import VerificationInferencer

__all__ = [
    'ImageRetrievalInferencer',
    'Inversion',
    'InversionSettings',
    'Judge',
    'VerificationInferencer',
    'get_model',
    'invert',
    'list_models',
    'read_embeddings',
    'save_inversion',
]
