from .face_vit import FaceViT
from .ir_net import IRNet
from .iresnet import IResNet
from .lenet_plus import LeNetPlus
from .mobilefacenet import MobileFaceNet
from .onnx_backbone import OnnxBackbone
from .raw_pixels import RawPixels
from .timm_encoder import TimmEncoder

__all__ = [
    'FaceViT',
    'IRNet',
    'IResNet',
    'LeNetPlus',
    'MobileFaceNet',
    'OnnxBackbone',
    'RawPixels',
    'TimmEncoder',
]
