# mmpretrain's encoders, necks and heads are reached through our registry as their parent.
import mmpretrain.models  # noqa: F401

from .backbones import IResNet, Pixels
from .heads import ArcFaceHead, MarginHead, NormSoftmaxHead, SubCenterArcFaceHead
from .retrievers import EmbeddingRetriever

__all__ = [
    'ArcFaceHead',
    'EmbeddingRetriever',
    'IResNet',
    'MarginHead',
    'NormSoftmaxHead',
    'Pixels',
    'SubCenterArcFaceHead',
]
