"""ArcFace on the ORL faces, and 20 people it has never seen, each from one photograph's embedding.

    python tools/train.py configs/inversion/iresnet18-arcface_orl-open.py

How many the judge names right was not measured yet.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.inversion_orl import *

from mmarcface.engine import BNPriorInversionHook

# An embedding pulls as a centre does.
inversion.update(targets='identities', target_weight=20.0)
custom_hooks.append(dict(type=BNPriorInversionHook, **inversion))
