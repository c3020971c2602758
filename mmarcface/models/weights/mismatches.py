"""State-dict hooks that refuse weights which are not those of the model.

mmengine loads what fits and logs the rest, which leaves a net of random weights to be trained or
tested.
"""

from __future__ import annotations

from collections.abc import Callable


def refuse_mismatched_init(name: str, file: str) -> Callable:
    """A hook that refuses initial weights which would leave a part of a module random.

    Args:
        name: name of the module, for the error.
        file: file of the weights, for the error.
    """

    def refuse(module, state_dict, prefix, *_):
        own = {f'{prefix}{key}': v.shape for key, v in module.state_dict().items()}
        given = {key: v.shape for key, v in state_dict.items()}
        findings = misfits(own, given, extra_is_fine=True)
        if findings:
            raise ValueError(
                f'{file} does not hold the weights of model.{name}: {"; ".join(findings)}. Set '
                'checkpoint and prefix of its init_cfg to those of the same kind of net'
            )

    return refuse


def refuse_mismatched_checkpoint(model, state_dict, prefix, local_metadata, *_):
    """Refuse a checkpoint file whose encoder or head is not this model's: a hook before loading.

    A state dict that does not come from a file keeps torch's rules.

    Args:
        model: module that loads.
        state_dict: weights by name.
        prefix: prefix of the module's names in ``state_dict``.
        local_metadata: metadata of the module in ``state_dict``.
    """
    filename = local_metadata.get('checkpoint_file')
    if filename is None:
        return
    given = {
        key.replace('head.norm_product.', 'head.'): getattr(value, 'shape', ())
        for key, value in state_dict.items()
    }
    own = {f'{prefix}{key}': v.shape for key, v in model.state_dict().items()}
    findings = misfits(own, given, f'{prefix}image_encoder.')
    if model.head is not None and any(key.startswith(f'{prefix}head.') for key in given):
        findings += misfits(own, given, f'{prefix}head.')
    if findings:
        raise ValueError(
            f'{filename} is the checkpoint of another model: {"; ".join(findings)} (its keys are '
            f'like {next(iter(given), None)}). Use the config it was trained with; to start '
            'training from a part of it, name it in the init_cfg of the image encoder '
            "(type='Pretrained', checkpoint=..., prefix=...)"
        )


def misfits(
    expected: dict, given: dict, prefix: str = '', extra_is_fine: bool = False
) -> list[str]:
    """What keeps tensors from being those of a module, in words.

    Args:
        expected: shapes of the module's tensors, by name.
        given: shapes that are given, by name.
        prefix: beginning of the names that are compared.
        extra_is_fine: whether there may be tensors that the module does not have.
    """
    expected, given = (
        {
            key: tuple(shape)
            for key, shape in shapes.items()
            if key.startswith(prefix) and not key.endswith('num_batches_tracked')
        }
        for shapes in (expected, given)
    )
    findings = []
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing:
        findings.append(f'{len(missing)} of {len(expected)} tensors missing, such as {missing[0]}')
    if extra and not extra_is_fine:
        findings.append(f'{len(extra)} unknown, such as {extra[0]}')
    for key in sorted(expected.keys() & given.keys()):
        if expected[key] != given[key]:
            findings.append(f'{key}: {given[key]} in the file, {expected[key]} in the model')
            break
    return findings
