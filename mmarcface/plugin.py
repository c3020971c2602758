"""All that importing the plugin changes in the packages that it plugs into.

Importing mmarcface and mmpretrain, in either order, changes this and nothing else. mmpretrain's
registries get children of the scope ``mmarcface``, see :mod:`mmarcface.registry`, and its model
index gets our configs, so that ``get_model`` and ``list_models`` know their names. Every checkpoint
that mmengine reads, for whatever model, is read weights only: its loaders of local files and of
``http(s)`` URLs are replaced by ours, which return the same content, note the file's name in the
metadata of a state dict, and say what is wrong with a file that is damaged or refused;
onedl-mmengine no longer reads a refused file again without care; and ``torch.load`` builds the
types of mmengine's logs, see :mod:`mmarcface.checkpoint`. Where the model is an
:class:`EmbeddingRetriever`, mmpretrain's ``ImageRetrievalInferencer``,
``ImageClassificationInferencer`` and ``FeatureExtractor`` accept images with landmarks and wrapped
test sets, search every kind of gallery with any ``topk``, and name an image that is missing,
damaged or of another size than the rest of its batch; any other model keeps mmpretrain's methods.
mmcv-lite's warning that it has no ``MultiScaleDeformableAttention`` is not shown.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from inspect import BoundArguments, signature
from pathlib import Path
from typing import Any

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
with warnings.catch_warnings():
    warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')
    import mmcv.cnn.bricks.transformer  # noqa: F401 - it warns once, when it is first imported


def _for_our_model(method: str) -> Callable:
    """Replace a method of mmpretrain's inferencers for our model, and for no other.

    The replacement gets the original, the inferencer and the call, whose arguments it may change.
    """

    def decorate(replacement: Callable[[Callable, BaseInferencer, BoundArguments], Any]):
        def replace(wrapped, inferencer, args, kwargs):
            from .models import EmbeddingRetriever

            if not isinstance(inferencer.model, EmbeddingRetriever):
                return wrapped(*args, **kwargs)
            call = signature(wrapped).bind(*args, **kwargs)
            call.apply_defaults()
            return replacement(wrapped, inferencer, call)

        wrapt.wrap_function_wrapper('mmpretrain.apis', method, replace)
        return replacement

    return decorate


@_for_our_model('ImageRetrievalInferencer._init_pipeline')
@_for_our_model('ImageClassificationInferencer._init_pipeline')
@_for_our_model('FeatureExtractor._init_pipeline')
def _init_pipeline(wrapped, inferencer, call):
    """Find the pipeline of a test set in wrappers, too."""
    from .apis.inferencers import pipeline_after_loading

    return pipeline_after_loading(call.arguments['cfg'])


@_for_our_model('ImageRetrievalInferencer.preprocess')
@_for_our_model('ImageClassificationInferencer.preprocess')
@_for_our_model('FeatureExtractor.preprocess')
def _preprocess(wrapped, inferencer, call):
    """Keep an image's path and landmarks, and name one that cannot be read: mmpretrain does not."""
    from .apis.inferencers import query_samples

    samples = query_samples(inferencer.pipeline, call.arguments['inputs'])
    return BaseInferencer.preprocess(inferencer, samples, call.arguments['batch_size'])


@_for_our_model('ImageRetrievalInferencer.visualize')
@_for_our_model('ImageClassificationInferencer.visualize')
def _visualize(wrapped, inferencer, call):
    """Draw an image that was given with its landmarks."""
    call.arguments['ori_inputs'] = [
        image['img'] if isinstance(image, dict) else image for image in call.arguments['ori_inputs']
    ]
    return wrapped(*call.args, **call.kwargs)


@_for_our_model('base.BaseInferencer._get_chunk_data')
def _get_chunk_data(wrapped, inferencer, call):
    """Name images of unequal size in a batch: torch does not."""
    from .datasets.image_sizes import refuse_unequal_sizes

    return map(refuse_unequal_sizes, wrapped(*call.args, **call.kwargs))


@_for_our_model('ImageRetrievalInferencer._prepare_prototype')
def _prepare_prototype(wrapped, inferencer, call):
    """Let the model see gallery and cache together: mmpretrain hands it one or the other."""
    from .apis.inferencers import prepare_gallery

    return prepare_gallery(wrapped, inferencer, **call.arguments)


@_for_our_model('ImageRetrievalInferencer._dispatch_kwargs')
def _dispatch_kwargs(wrapped, inferencer, call):
    """Let topk exceed the gallery and refuse to draw bare embeddings: mmpretrain fails on both."""
    from .apis.inferencers import fit_to_gallery, take_gallery

    take_gallery(inferencer)
    return fit_to_gallery(wrapped(*call.args, **call.kwargs), inferencer.prototype_dataset)
