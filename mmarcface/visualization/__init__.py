# mmpretrain's visualizers are reached through our registry as their parent.
import mmpretrain.visualization  # noqa: F401

from .target_logits import draw_target_logits

__all__ = ['draw_target_logits']
