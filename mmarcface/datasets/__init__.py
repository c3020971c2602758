# mmpretrain's data sets and transforms are reached through our registries as their parents.
import mmpretrain.datasets  # noqa: F401

from .celeba import CelebA
from .filtered_dataset import FilteredDataset
from .han_glyphs import HanGlyphs
from .identity_dataset import IdentityDataset
from .identity_folder import IdentityFolder
from .identity_records import IdentityRecords
from .ijb import IJB
from .inshop import InShop
from .joined_identities import JoinedIdentities
from .labels import labels_of
from .lfw import LFW
from .mnist import MNIST
from .noisy_labels import NoisyLabels
from .orl_faces import ORLFaces
from .probes_and_gallery import ProbesAndGallery
from .transforms import AlignFace, LoadImageFromFile, RenderGlyph, VirtualIdentities
from .verification_bin import VerificationBin
from .verification_sets import VerificationSets

__all__ = [
    'IJB',
    'LFW',
    'MNIST',
    'AlignFace',
    'CelebA',
    'FilteredDataset',
    'HanGlyphs',
    'IdentityDataset',
    'IdentityFolder',
    'IdentityRecords',
    'InShop',
    'JoinedIdentities',
    'LoadImageFromFile',
    'NoisyLabels',
    'ORLFaces',
    'ProbesAndGallery',
    'RenderGlyph',
    'VerificationBin',
    'VerificationSets',
    'VirtualIdentities',
    'labels_of',
]
