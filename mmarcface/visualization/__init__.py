# mmpretrain's visualizers are reached through our registry as their parent.
import mmpretrain.visualization  # noqa: F401

from .embeddings import EmbeddingPanel, draw_embeddings, figure_to_image
from .inversion import draw_audit, draw_convergence, image_grid
from .purification import DroppedRow, draw_angles, draw_dropped, draw_subcenters
from .target_logits import draw_target_logits

__all__ = [
    'DroppedRow',
    'EmbeddingPanel',
    'draw_angles',
    'draw_audit',
    'draw_convergence',
    'draw_dropped',
    'draw_embeddings',
    'draw_subcenters',
    'draw_target_logits',
    'figure_to_image',
    'image_grid',
]
