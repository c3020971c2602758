"""The ArcFace family for mmpretrain.

Importing this loads no mm* package. Once mmpretrain is loaded too, whichever came first, its
registries, model names and inferencers know the plugin.
"""

from importlib import import_module

import wrapt

__version__ = '0.1.0'


@wrapt.when_imported('mmpretrain')
def _load_plugin(_) -> None:
    import_module('mmarcface.plugin')
