"""ArcFace on the ORL faces, and its 20 training people back from its weights.

    python tools/train.py configs/inversion/iresnet18-arcface_orl-closed.py

X
"""

from mmengine.config import read_base

with read_base():
    from .._base_.inversion_orl import *

from mmarcface.engine import BNPriorInversionHook

inversion.update(targets='classes')
custom_hooks.append(dict(type=BNPriorInversionHook, **inversion))
