"""What is converted: images with their identities, and pairs of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mmengine import fileio

from mmarcface.datasets.formats.pairs import ListedPair


@dataclass(frozen=True, slots=True)
class Face:
    """An image of a source.

    Attributes:
        path: path of the image, also inside a larger file.
        identity: name of the identity.
        number: number of the image among those of the identity, from 1 on.
    """

    path: str
    identity: str
    number: int

    def read(self) -> bytes:
        """Read the encoded image."""
        return fileio.get(self.path)


@dataclass
class Source:
    """A data set to convert.

    Attributes:
        faces: all images, grouped by identity.
        pairs: pairs by fold, as a pairs file lists them, or None where the source has none.
        num_folds: number of folds of the pairs.
    """

    faces: list[Face]
    pairs: list[ListedPair] | None
    num_folds: int

    @property
    def images_per_identity(self) -> dict[str, int]:
        """Number of images of each identity."""
        return Counter(face.identity for face in self.faces)
