# mmpretrain's data sets and transforms are reached through our registries as their parents.
import mmpretrain.datasets  # noqa: F401

from .celeba import CelebA
from .han_glyphs import HanGlyphs
from .identity_folder import IdentityFolder
from .identity_records import IdentityRecords
from .ijb import IJB
from .inshop import InShop
from .joined import ProbesAndGallery, VerificationSets
from .lfw import LFW
from .mnist import MNIST
from .orl_faces import ORLFaces
from .transforms import AlignFace, LoadImageFromFile, RenderGlyph, VirtualIdentities
from .verification_bin import VerificationBin

__all__ = [
    'IJB',
    'LFW',
    'MNIST',
    'AlignFace',
    'CelebA',
    'HanGlyphs',
    'IdentityFolder',
    'IdentityRecords',
    'InShop',
    'LoadImageFromFile',
    'ORLFaces',
    'ProbesAndGallery',
    'RenderGlyph',
    'VerificationBin',
    'VerificationSets',
    'VirtualIdentities',
]
