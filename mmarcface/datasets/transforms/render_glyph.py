"""Drawing characters in many variations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageDraw, ImageFont

from mmarcface.functional.arguments import are_numbers, check_number
from mmarcface.registry import TRANSFORMS

# Glyphs are drawn larger than needed: small ones lose detail when turned, or come as bitmaps.
OVERSAMPLING = 2
# The square of an ideograph reaches this share of its side below the baseline.
DESCENT = 0.12
# Gray levels, both away from 0 and 255, where noise would be cut off.
PAPER, INK = 224, 32


@TRANSFORMS.register_module()
class RenderGlyph(BaseTransform):
    """Draw ``character`` in ``font``, dark on light, in place of reading an image.

    The glyph is turned, moved, scaled and blurred, and noise is added. The character and the number
    ``rendering`` alone seed the random numbers, which are uniform in each range: a sample gives the
    same image in every epoch, process and worker, whatever the global seeds.

    Args:
        size: height and width of the image in pixels.
        degrees: largest rotation to either side, in [0, 180].
        shift: largest movement along each axis in either direction, as a share of ``size``, in
            [0, 1].
        scale: smallest and largest size of the font, as a share of ``size``.
        blur: largest standard deviation of the Gaussian blur, in pixels.
        noise: standard deviation of the Gaussian noise, in gray levels of 255.

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(
        self,
        size: int = 32,
        degrees: float = 10.0,
        shift: float = 0.08,
        scale: Sequence[float] = (0.75, 1.05),
        blur: float = 0.7,
        noise: float = 10.0,
    ):
        check_number('size', size, minimum=1, whole=True)
        check_number('degrees', degrees, minimum=0, maximum=180)
        check_number('shift', shift, minimum=0, maximum=1)
        check_number('blur', blur, minimum=0)
        check_number('noise', noise, minimum=0)
        if not are_numbers(scale, 2) or not 0 < scale[0] <= scale[1]:
            raise ValueError(f'scale must be two numbers, 0 < smallest <= largest, got {scale}')
        self.size = size
        self.degrees = degrees
        self.shift = shift
        self.scale = tuple(scale)
        self.blur = blur
        self.noise = noise

    def transform(self, results: dict) -> dict:
        """Add ``img``, (size, size, 3), uint8, BGR, ``img_shape`` and ``ori_shape``."""
        character, size = results['character'], self.size
        chance = np.random.default_rng([ord(character), results['rendering']])
        # The same count of numbers is always drawn, so that one argument does not change what
        # the others do.
        turn, dx, dy = chance.uniform(-1, 1, 3) * (self.degrees, self.shift, self.shift)
        scale = chance.uniform(*self.scale)
        sigma = chance.uniform(0, self.blur)
        noise = chance.normal(0, self.noise, (size, size))

        drawn = _draw(character, results['font'], OVERSAMPLING * size)
        center = (len(drawn) - 1) / 2
        motion = cv2.getRotationMatrix2D((center, center), turn, scale / OVERSAMPLING)
        motion[:, 2] += (size - 1) / 2 - center + np.array([dx, dy]) * size
        glyph = cv2.warpAffine(drawn.astype(np.float32), motion, (size, size))
        if sigma > 0:
            glyph = cv2.GaussianBlur(glyph, (0, 0), sigma)
        gray = PAPER + (INK - PAPER) / 255 * glyph + noise
        image = cv2.cvtColor(gray.round().clip(0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
        return results | dict(img=image, img_shape=(size, size), ori_shape=(size, size))

    def __repr__(self) -> str:
        names = ('size', 'degrees', 'shift', 'scale', 'blur', 'noise')
        values = ', '.join(f'{name}={getattr(self, name)}' for name in names)
        return f'{type(self).__name__}({values})'


@lru_cache
def _open(font: str, pixels: int) -> ImageFont.FreeTypeFont:
    # Every build of Pillow has this layout engine.
    return ImageFont.truetype(font, pixels, layout_engine=ImageFont.Layout.BASIC)


def _draw(character: str, font: str, pixels: int) -> np.ndarray:
    """A glyph in the middle of (2 * pixels, 2 * pixels), uint8, 255 where there is ink."""
    canvas = Image.new('L', (2 * pixels, 2 * pixels))
    # Placed by its square, not by its ink, as the place of a stroke tells characters apart.
    line = (1.5 - DESCENT) * pixels
    ImageDraw.Draw(canvas).text(
        (pixels, line), character, fill=255, font=_open(font, pixels), anchor='ms'
    )
    return np.asarray(canvas)
