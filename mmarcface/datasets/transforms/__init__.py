from .loading import LoadImageFromFile
from .virtual_identities import VirtualIdentities

__all__ = ['LoadImageFromFile', 'VirtualIdentities']
