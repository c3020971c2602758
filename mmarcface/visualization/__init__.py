# mmpretrain's visualizers are reached through our registry as their parent.
import mmpretrain.visualization  # noqa: F401
