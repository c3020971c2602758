from .iresnet import IResNet
from .pixels import Pixels

__all__ = ['IResNet', 'Pixels']
