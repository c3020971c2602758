from .iresnet import IResNet
from .lenet_plus import LeNetPlus
from .onnx_backbone import OnnxBackbone
from .raw_pixels import RawPixels

__all__ = ['IResNet', 'LeNetPlus', 'OnnxBackbone', 'RawPixels']
