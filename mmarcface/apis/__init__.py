from mmpretrain.apis import ImageRetrievalInferencer, get_model, list_models

from .embedding_files import read_embeddings
from .export.exporting import export_model
from .inversion.evaluator import InversionEvaluator
from .inversion.result import Inversion
from .inversion.saving import save_inversion
from .inversion.search import invert
from .inversion.settings import InversionSettings
from .purification.purify import purify
from .purification.result import Purification
from .purification.saving import save_purification
from .verification import VerificationInferencer

__all__ = [
    'ImageRetrievalInferencer',
    'Inversion',
    'InversionEvaluator',
    'InversionSettings',
    'Purification',
    'VerificationInferencer',
    'export_model',
    'get_model',
    'invert',
    'list_models',
    'purify',
    'read_embeddings',
    'save_inversion',
    'save_purification',
]
