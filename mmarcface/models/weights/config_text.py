"""The config that goes with converted weights."""

from __future__ import annotations

TEMPLATE = '''"""{net}, converted from {source}, on the 6,000 pairs of LFW.

    python tools/test.py {config} {checkpoint}

{about}
To test on other images, change path and type of the data set, or give
--cfg-options test_dataloader.dataset.path=FILE. The net sees {channel_order}.
"""

{imports}

default_scope = 'mmpretrain'

model = dict(
    type=EmbeddingRetriever,
    image_encoder=dict(type={type}, {settings}),{head}
    test_cfg=dict(flip=True),
)
# Images are loaded as BGR; to_rgb turns them around.
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb={to_rgb})

test_pipeline = [
    dict(type=LoadImageFromFile),
{resize}    dict(type=PackInputs),
]

# The data set is named, not imported: mmpretrain.get_model looks it up by its name.
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(
        type='mmarcface.VerificationBin', path='data/faces/lfw.bin', pipeline=test_pipeline
    ),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_evaluator = dict(type=VerificationMetric)
test_cfg = dict()
'''
WITH_HEAD = (
    'It has a head, so that tools/invert.py draws its classes: give --labels, or add the training\n'
    'set as train_dataloader.'
)
WITHOUT_HEAD = 'It has no head: tools/invert.py draws images or embeddings with it, and no classes.'
# Height and width of the images in the files of pairs that insightface hands out.
LFW_SIZE = 112, 112


def write_config_text(
    encoder: dict,
    head: dict | None,
    channel_order: str,
    input_size: tuple[int, int],
    source: str,
    config: str,
    checkpoint: str,
) -> str:
    """The text of a config, ready for ``tools/test.py``.

    Args:
        encoder: config of the net, with its class as ``type``.
        head: config of the head, with its class as ``type``; None for none.
        channel_order: order in which the net sees color channels, 'RGB' or 'BGR'.
        input_size: height and width of the images in pixels.
        source: name of the file that the weights are from.
        config: path of the config.
        checkpoint: path of the checkpoint.
    """
    heads = (
        '' if head is None else f'\n    head=dict(type={head["type"].__name__}, {_listed(head)}),'
    )
    resize = ''
    names = ['EmbeddingRetriever', encoder['type'].__name__]
    names += [head['type'].__name__] if head else []
    imports = [
        'from mmengine.dataset import DefaultSampler',
        'from mmpretrain.datasets import PackInputs',
        '',
        'from mmarcface.datasets import LoadImageFromFile',
        'from mmarcface.evaluation import VerificationMetric',
        f'from mmarcface.models import {", ".join(sorted(names))}',
    ]
    if input_size != LFW_SIZE:
        height, width = input_size
        resize = f"    dict(type=Resize, scale=({width}, {height}), interpolation='area'),\n"
        imports.insert(0, 'from mmcv.transforms import Resize')
    return TEMPLATE.format(
        net=encoder['type'].__name__,
        source=source,
        config=config,
        checkpoint=checkpoint,
        about=WITHOUT_HEAD if head is None else WITH_HEAD,
        channel_order=channel_order,
        imports='\n'.join(imports),
        type=encoder['type'].__name__,
        settings=_listed(encoder),
        head=heads,
        to_rgb=channel_order == 'RGB',
        resize=resize,
    )


def _listed(config: dict) -> str:
    return ', '.join(f'{name}={value!r}' for name, value in config.items() if name != 'type')
