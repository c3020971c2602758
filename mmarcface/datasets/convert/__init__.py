"""Face data sets from one format into another, compared with the source afterwards."""

from .folds import with_pairs
from .readers import open_source, refuse_nested
from .source import Face, Source
from .writers import to_bin, to_folder, to_lfw, to_records

__all__ = [
    'Face',
    'Source',
    'open_source',
    'refuse_nested',
    'to_bin',
    'to_folder',
    'to_lfw',
    'to_records',
    'with_pairs',
]
