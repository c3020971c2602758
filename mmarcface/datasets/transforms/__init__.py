from .align_face import AlignFace
from .loading import LoadImageFromFile
from .render_glyph import RenderGlyph
from .virtual_identities import VirtualIdentities

__all__ = ['AlignFace', 'LoadImageFromFile', 'RenderGlyph', 'VirtualIdentities']
