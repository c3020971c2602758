# mmpretrain's data sets and transforms are reached through our registries as their parents.
import mmpretrain.datasets  # noqa: F401

from .identity_folder import IdentityFolder
from .inshop import InShop
from .orl_faces import ORLFaces
from .transforms import LoadImageFromFile, VirtualIdentities

__all__ = ['IdentityFolder', 'InShop', 'LoadImageFromFile', 'ORLFaces', 'VirtualIdentities']
