# mmpretrain's encoders, necks and heads are reached through our registry as their parent.
import mmpretrain.models  # noqa: F401

from .backbones import (
    FaceViT,
    IResNet,
    IRNet,
    LeNetPlus,
    MobileFaceNet,
    OnnxBackbone,
    RawPixels,
    TimmEncoder,
)
from .embedding import embed_images
from .heads import (
    AdaFaceHead,
    ArcFaceHead,
    ClassHead,
    CombinedMarginHead,
    CosFaceHead,
    CurricularFaceHead,
    ElasticFaceHead,
    MagFaceHead,
    MarginHead,
    NormSoftmaxHead,
    SoftmaxHead,
    SphereFace2Head,
    SphereFaceHead,
    SphereFaceRHead,
    SubCenterArcFaceHead,
    UniFaceHead,
)
from .retrievers import EmbeddingRetriever
from .wrappers import unwrap_model

__all__ = [
    'AdaFaceHead',
    'ArcFaceHead',
    'ClassHead',
    'CombinedMarginHead',
    'CosFaceHead',
    'CurricularFaceHead',
    'ElasticFaceHead',
    'EmbeddingRetriever',
    'FaceViT',
    'IRNet',
    'IResNet',
    'LeNetPlus',
    'MagFaceHead',
    'MarginHead',
    'MobileFaceNet',
    'NormSoftmaxHead',
    'OnnxBackbone',
    'RawPixels',
    'SoftmaxHead',
    'SphereFace2Head',
    'SphereFaceHead',
    'SphereFaceRHead',
    'SubCenterArcFaceHead',
    'TimmEncoder',
    'UniFaceHead',
    'embed_images',
    'unwrap_model',
]
