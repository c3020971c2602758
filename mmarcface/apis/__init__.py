from mmpretrain.apis import ImageRetrievalInferencer, get_model, list_models

from .embedding_files import read_embeddings
from .inversion import Inversion, invert
from .inversion_settings import InversionSettings
from .judging import Judge
from .purification import Purification, purify
from .saved_inversion import save_inversion
from .saved_purification import save_purification
from .verification import VerificationInferencer

__all__ = [
    'ImageRetrievalInferencer',
    'Inversion',
    'InversionSettings',
    'Judge',
    'Purification',
    'VerificationInferencer',
    'get_model',
    'invert',
    'list_models',
    'purify',
    'read_embeddings',
    'save_inversion',
    'save_purification',
]
