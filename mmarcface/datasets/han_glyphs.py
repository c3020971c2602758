"""Chinese characters drawn from fonts: thousands of classes, and nothing to download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmarcface.functional.arguments import check_number
from mmarcface.registry import DATASETS

from .identity_dataset import IdentityDataset

INSTALL_FONTS = (
    'apt-get install fonts-arphic-ukai fonts-arphic-uming fonts-wqy-zenhei fonts-wqy-microhei'
)
# A brush, a book and two screen faces, which have 18,366 ideographs in common.
DEBIAN_FONTS = tuple(
    f'/usr/share/fonts/truetype/{name}.ttc'
    for name in ('arphic/ukai', 'arphic/uming', 'wqy/wqy-zenhei', 'wqy/wqy-microhei')
)
# The block of CJK unified ideographs.
IDEOGRAPHS = range(0x4E00, 0xA000)


@DATASETS.register_module()
class HanGlyphs(IdentityDataset):
    """Han characters as classes, each drawn in a few fonts and many variations.

    The samples say what to draw, and ``mmarcface.RenderGlyph`` draws it. Rendering number r is in
    font r modulo the number of fonts. The number decides everything else about the image too, so
    data sets with other numbers have other images: for example, train on 0 to 99 and test on 1000
    to 1009. The default fonts are Debian's (``apt-get install fonts-arphic-ukai fonts-arphic-uming
    fonts-wqy-zenhei fonts-wqy-microhei``); with them there are up to 18,366 classes.

    Args:
        num_classes: number of characters; the label counts them from 0.
        renderings: number of images of each character.
        first_rendering: number of the first rendering.
        fonts: paths of TrueType or OpenType files; of a collection the first face is used. The
            Debian fonts by default.
        characters: characters to draw, of which the first ``num_classes`` are used; by default the
            CJK unified ideographs from U+4E00 on that all fonts have.
        **kwargs: see :class:`IdentityDataset`.

    Raises:
        FileNotFoundError: if a font does not exist.
        ImportError: if the package ``fonttools`` is not installed.
        ValueError: if a number is out of its range, there are fewer characters than classes, a
            character is there twice or not in all fonts, or a file is not a font.
    """

    def __init__(
        self,
        num_classes: int = 200,
        renderings: int = 100,
        first_rendering: int = 0,
        fonts: Sequence[str] | None = None,
        characters: str | None = None,
        **kwargs,
    ):
        for name, value, minimum in (
            ('num_classes', num_classes, 1),
            ('renderings', renderings, 1),
            ('first_rendering', first_rendering, 0),
        ):
            check_number(name, value, minimum=minimum, whole=True)
        if fonts is not None and (isinstance(fonts, str) or not fonts):
            raise ValueError(f'fonts must be a list of one path or more, got {fonts!r}')
        if characters is not None:
            if len(characters) < num_classes:
                raise ValueError(
                    f'characters must be at least num_classes, {num_classes}, got {len(characters)}'
                )
            characters = characters[:num_classes]
            character, times = Counter(characters).most_common(1)[0]
            if times > 1:
                raise ValueError(f'characters must differ, got {character!r} {times} times')
        self.num_classes = num_classes
        self.numbers = range(first_rendering, first_rendering + renderings)
        self.fonts = [str(font) for font in fonts or DEBIAN_FONTS]
        self.characters = characters
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each image: ``character``, ``font``, ``rendering`` and ``gt_label``."""
        code_points = [_code_points(font) for font in self.fonts]
        characters = self.characters
        if characters is None:
            common = sorted(set(IDEOGRAPHS).intersection(*code_points))
            if len(common) < self.num_classes:
                raise ValueError(
                    f'num_classes must be at most {len(common)}, the number of CJK unified '
                    f'ideographs that all fonts have, got {self.num_classes}'
                )
            characters = ''.join(map(chr, common[: self.num_classes]))
        for font, known in zip(self.fonts, code_points, strict=True):
            lacking = [character for character in characters if ord(character) not in known]
            if lacking:
                raise ValueError(
                    f'characters must be in all fonts, got {lacking[0]!r}, one of {len(lacking)} '
                    f'that {font} lacks'
                )
        self._metainfo['classes'] = tuple(characters)
        return [
            dict(
                character=character,
                font=self.fonts[number % len(self.fonts)],
                rendering=number,
                gt_label=label,
            )
            for label, character in enumerate(characters)
            for number in self.numbers
        ]

    def sample_id(self, sample: dict) -> str:
        """See :meth:`IdentityDataset.sample_id`: the character and the number of rendering."""
        return f'{sample["character"]}/{sample["rendering"]}'


def _code_points(font: str) -> set[int]:
    """The code points of the characters that a font has."""
    try:
        from fontTools.ttLib import TTFont, TTLibError
    except ImportError as error:
        raise ImportError(
            'HanGlyphs reads with the package fonttools what a font can draw: pip install fonttools'
        ) from error
    if not Path(font).is_file():
        raise FileNotFoundError(
            f'font {font} does not exist; those that HanGlyphs uses by default come with: '
            f'{INSTALL_FONTS}'
        )
    try:
        with TTFont(font, fontNumber=0, lazy=True) as opened:
            return set(opened.getBestCmap() or ())
    except TTLibError as error:
        raise ValueError(f'fonts must be TrueType or OpenType, {font} is not: {error}') from error
