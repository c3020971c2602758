from .adaface_head import AdaFaceHead
from .arcface_head import ArcFaceHead, SubCenterArcFaceHead
from .class_head import ClassHead
from .combined_margin_head import CombinedMarginHead
from .cosface_head import CosFaceHead
from .curricularface_head import CurricularFaceHead
from .elasticface_head import ElasticFaceHead
from .magface_head import MagFaceHead
from .margin_head import MarginHead
from .softmax_head import NormSoftmaxHead, SoftmaxHead
from .sphereface_head import SphereFace2Head, SphereFaceHead, SphereFaceRHead
from .uniface_head import UniFaceHead

__all__ = [
    'AdaFaceHead',
    'ArcFaceHead',
    'ClassHead',
    'CombinedMarginHead',
    'CosFaceHead',
    'CurricularFaceHead',
    'ElasticFaceHead',
    'MagFaceHead',
    'MarginHead',
    'NormSoftmaxHead',
    'SoftmaxHead',
    'SphereFace2Head',
    'SphereFaceHead',
    'SphereFaceRHead',
    'SubCenterArcFaceHead',
    'UniFaceHead',
]
