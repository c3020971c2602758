"""The registries: children of mmpretrain's, scope ``mmarcface``.

Importing this module is what "loading the plugin" means: mmengine does it by itself for every
``type='mmarcface.<Name>'``.
"""

import warnings
from importlib import metadata, util

# Distributions that bring a package of the same name.
STACK = {
    'mmengine': ('mmengine', 'onedl-mmengine'),
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
    'mmcv': ('mmcv', 'mmcv-lite', 'onedl-mmcv'),
}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_stack() -> None:
    """See that each mm* package is there, and there once, before any of them is imported.

    Raises:
        ImportError: if one is missing; it says how to install it.

    Warns:
        UserWarning: if two distributions of the same package were installed over each other.
    """
    for package, distributions in STACK.items():
        if util.find_spec(package) is None:
            raise ImportError(
                f'mmarcface needs {package}: `pip install "mmarcface[lite]"` installs mmengine, '
                'mmpretrain and mmcv-lite; beside onedl-mmengine and onedl-mmpretrain install '
                'mmcv-lite alone, with `pip install --no-deps mmcv-lite`'
            )
        found = [f'{name} {version}' for name in distributions if (version := _version(name))]
        if len(found) > 1:
            warnings.warn(
                f'{" and ".join(found)} are installed over each other, and {package} is a mixture '
                'of their files: uninstall all of them with pip, then install one again',
                stacklevel=2,
            )


check_stack()

from mmengine.registry import Registry  # noqa: E402
from mmpretrain import registry as parents  # noqa: E402

MODELS = Registry('model', parent=parents.MODELS, scope='mmarcface', locations=['mmarcface.models'])
DATASETS = Registry(
    'dataset', parent=parents.DATASETS, scope='mmarcface', locations=['mmarcface.datasets']
)
TRANSFORMS = Registry(
    'transform', parent=parents.TRANSFORMS, scope='mmarcface', locations=['mmarcface.datasets']
)
METRICS = Registry(
    'metric', parent=parents.METRICS, scope='mmarcface', locations=['mmarcface.evaluation']
)
HOOKS = Registry('hook', parent=parents.HOOKS, scope='mmarcface', locations=['mmarcface.engine'])
VISUALIZERS = Registry(
    'visualizer',
    parent=parents.VISUALIZERS,
    scope='mmarcface',
    locations=['mmarcface.visualization'],
)
