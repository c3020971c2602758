"""What loading the plugin changes in the packages that it plugs into.

The registries need no more than their import; see :mod:`mmarcface.registry`.
"""

from __future__ import annotations

from pathlib import Path

import wrapt
from mmpretrain.apis import ModelHub
from mmpretrain.apis.base import BaseInferencer

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
    from .apis.inferencers import fit_to_gallery, take_gallery

    take_gallery(inferencer)
    return fit_to_gallery(wrapped(*args, **kwargs), inferencer.prototype_dataset)


def _preprocess(wrapped, inferencer, args, kwargs):
    """Keep an image's path and landmarks, and name one that cannot be read: mmpretrain does not."""
    from .apis.inferencers import query_samples

    def samples_of(inputs, batch_size=1):
        return query_samples(inferencer.pipeline, inputs), batch_size

    return BaseInferencer.preprocess(inferencer, *samples_of(*args, **kwargs))


def _visualize(wrapped, inferencer, args, kwargs):
    """Draw an image that was given with its landmarks."""
    inputs, *others = args
    images = [image['img'] if isinstance(image, dict) else image for image in inputs]
    return wrapped(images, *others, **kwargs)


def _init_pipeline(wrapped, inferencer, args, kwargs):
    """Find the pipeline of a test set in wrappers, too."""
    from .apis.inferencers import pipeline_after_loading

    return pipeline_after_loading(*args, **kwargs)


for _module, _name, _wrapper in (
    ('image_retrieval', 'ImageRetrievalInferencer._init_pipeline', _init_pipeline),
    ('image_classification', 'ImageClassificationInferencer._init_pipeline', _init_pipeline),
    ('feature_extractor', 'FeatureExtractor._init_pipeline', _init_pipeline),
    ('image_retrieval', 'ImageRetrievalInferencer.preprocess', _preprocess),
    ('image_retrieval', 'ImageRetrievalInferencer.visualize', _visualize),
    ('image_classification', 'ImageClassificationInferencer.preprocess', _preprocess),
    ('image_classification', 'ImageClassificationInferencer.visualize', _visualize),
    ('feature_extractor', 'FeatureExtractor.preprocess', _preprocess),
):
    wrapt.wrap_function_wrapper(f'mmpretrain.apis.{_module}', _name, _wrapper)


@wrapt.patch_function_wrapper('mmpretrain.apis.base', 'BaseInferencer._get_chunk_data')
def _get_chunk_data(wrapped, inferencer, args, kwargs):
    """Name images of unequal size in a batch: torch does not."""
    from .datasets.image_sizes import refuse_unequal_sizes

    return map(refuse_unequal_sizes, wrapped(*args, **kwargs))
