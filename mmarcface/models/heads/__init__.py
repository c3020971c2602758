from .arcface_head import ArcFaceHead, SubCenterArcFaceHead
from .margin_head import MarginHead
from .norm_softmax_head import NormSoftmaxHead

__all__ = ['ArcFaceHead', 'MarginHead', 'NormSoftmaxHead', 'SubCenterArcFaceHead']
