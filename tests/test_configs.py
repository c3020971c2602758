"""Every config builds, and says what it costs and gives."""

import ast
import re
from inspect import signature
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS, OPTIMIZERS, DefaultScope
from mmpretrain.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS
from modelindex.load_model_index import load

import mmarcface.apis  # noqa: F401

from .conftest import ROOT

CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def test_all_parts_build(path, scope, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(path)
    if 'path' in config.model.image_encoder:
        # Only the weights, a file that is not part of the project, may be missing.
        with pytest.raises(FileNotFoundError, match=config.model.image_encoder.path):
            MODELS.build(config.model)
    else:
        model = MODELS.build(config.model)
    if 'optim_wrapper' in config:
        OPTIMIZERS.build(dict(config.optim_wrapper.optimizer, params=model.parameters()))
    for hook in [*config.default_hooks.values(), *config.get('custom_hooks', [])]:
        HOOKS.build(hook)
    for name in {'val_evaluator', 'test_evaluator'} & set(config):
        evaluators = config[name] if isinstance(config[name], list) else [config[name]]
        for metric in evaluators:
            METRICS.build(metric)
    for name in {'train_dataloader', 'val_dataloader', 'test_dataloader'} & set(config):
        dataset = dict(config[name].dataset)
        for transform in dataset['pipeline']:
            TRANSFORMS.build(transform)
        kind = DATASETS.get(dataset.pop('type'))
        # The data may be missing here; the arguments must fit all the same.
        base = {name for c in kind.__mro__ for name in signature(c.__init__).parameters}
        assert set(dataset) <= base
        assert DATA_SAMPLERS.get(config[name].sampler.type.__name__) is not None


def test_config_survives_the_round_trip_that_a_resume_makes(path):
    config = Config.fromfile(path)
    again = Config.fromstring(config.pretty_text, '.py')
    assert again.pretty_text == config.pretty_text


def test_docstring_gives_the_command_and_the_result(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    config = Config.fromfile(path)
    tool = 'train.py' if 'train_dataloader' in config else 'test.py'
    tool = 'purify.py run' if 'purification' in config else tool
    assert f'python tools/{tool} {path.relative_to(ROOT)}' in docstring
    assert re.search(r'(Recall@1|Rank-1|[Aa]ccuracy) \d|was not measured', docstring)
    assert '@@' not in docstring


def test_model_index_names_files_that_exist():
    index = load(str(ROOT / 'model-index.yml'))
    for model in index.models:
        assert (ROOT / model.config).is_file()
        assert Path(model.config).stem.split('_')[0] == model.name.split('_')[0]
    for collection in index.collections:
        assert (ROOT / collection.readme).is_file()


@pytest.mark.parametrize(
    ('config', 'model'),
    [('arcface/resnet50-arcface_inshop.py', 'resnet50-arcface_8xb32_inshop')],
)
def test_size_is_the_published_one(config, model):
    built = MODELS.build(Config.fromfile(ROOT / 'configs' / config).model)
    (entry,) = (m for m in load(str(ROOT / 'model-index.yml')).models if m.name == model)
    number = sum(p.numel() for p in built.parameters())
    assert number == entry.metadata.parameters == 31_693_888
