"""The registries: children of mmpretrain's, scope ``mmarcface``.

Importing this module is what "loading the plugin" means: mmengine does it by itself for every
``type='mmarcface.<Name>'``.
"""

try:
    import mmcv  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        'mmarcface needs mmcv, which has no wheel for every torch: install the part it uses with '
        '`pip install "mmarcface[lite]"` (or `pip install mmcv-lite`)'
    ) from error

from mmengine.registry import Registry
from mmpretrain import registry as parents

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
