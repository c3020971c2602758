"""Drawn Han characters, 200 of them: 100 renderings each to learn from, 20 others to test on."""

from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import PackInputs

from mmarcface.datasets import RenderGlyph
from mmarcface.evaluation import RetrievalMetric

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
pipeline = [dict(type=RenderGlyph, size=32), dict(type=PackInputs)]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
train_dataloader = dict(
    batch_size=100,
    num_workers=0,
    dataset=dict(type='mmarcface.HanGlyphs', num_classes=200, renderings=100, pipeline=pipeline),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    dataset=dict(
        type='mmarcface.HanGlyphs',
        num_classes=200,
        renderings=20,
        first_rendering=1000,
        pipeline=pipeline,
    ),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=RetrievalMetric, recall_at=(1,), map_at=())
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
