# mmpretrain's visualizers are reached through our registry as their parent.
import mmpretrain.visualization  # noqa: F401

from .embeddings import Embedded, draw_embeddings, to_image
from .inversion import draw_audit, draw_convergence, image_grid
from .target_logits import draw_target_logits

__all__ = [
    'Embedded',
    'draw_audit',
    'draw_convergence',
    'draw_embeddings',
    'draw_target_logits',
    'image_grid',
    'to_image',
]
