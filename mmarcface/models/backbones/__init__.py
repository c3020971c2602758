from .iresnet import IResNet
from .onnx_backbone import OnnxBackbone
from .pixels import Pixels

__all__ = ['IResNet', 'OnnxBackbone', 'Pixels']
