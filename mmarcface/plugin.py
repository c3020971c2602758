"""What loading the plugin changes in the packages that it plugs into.

The registries need no more than their import; see :mod:`mmarcface.registry`.
"""

from __future__ import annotations

from pathlib import Path

import wrapt
from mmpretrain.apis import ModelHub

from . import registry
from .checkpoint import read_weights_only

__all__ = ['registry']

PACKAGE = Path(__file__).parent
# Installed, configs and model-index.yml lie in the package; in a bare checkout, beside it.
CONFIG_ROOT = next(
    root for root in (PACKAGE / '.mim', PACKAGE.parent) if (root / 'model-index.yml').exists()
)

read_weights_only()
ModelHub.register_model_index(CONFIG_ROOT / 'model-index.yml', config_prefix=CONFIG_ROOT)


@wrapt.patch_function_wrapper(
    'mmpretrain.apis.image_retrieval', 'ImageRetrievalInferencer._prepare_prototype'
)
def _prepare_prototype(wrapped, inferencer, args, kwargs):
    """Let our model see gallery and cache together: mmpretrain hands it one or the other."""
    from .apis.inferencers import prepare_gallery
    from .models import EmbeddingRetriever

    if not isinstance(inferencer.model, EmbeddingRetriever):
        return wrapped(*args, **kwargs)
    return prepare_gallery(wrapped, inferencer, *args, **kwargs)


@wrapt.patch_function_wrapper(
    'mmpretrain.apis.image_retrieval', 'ImageRetrievalInferencer._dispatch_kwargs'
)
def _dispatch_kwargs(wrapped, inferencer, args, kwargs):
    """Let topk exceed the gallery and refuse to draw bare embeddings: mmpretrain fails on both."""
    from .apis.inferencers import fit_to_gallery

    return fit_to_gallery(wrapped(*args, **kwargs), inferencer.prototype_dataset)


@wrapt.patch_function_wrapper(
    'mmpretrain.apis.image_retrieval', 'ImageRetrievalInferencer.preprocess'
)
def _preprocess(wrapped, inferencer, args, kwargs):
    """Name a query image that cannot be read: mmpretrain lets OpenCV's own error through."""
    from .apis.inferencers import read_queries

    inputs, *others = args
    return wrapped(read_queries(inputs), *others, **kwargs)
