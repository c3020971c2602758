"""Figures of a purification: angles, sub-centers, and the samples that are dropped.

Images are uint8 in [0, 255], BGR, as OpenCV reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

# Colors of Okabe and Ito, which the color-blind can tell apart, and which differ in lightness.
RIGHT, WRONG = '#0072b2', '#e69f00'
DEGREE = '\N{DEGREE SIGN}'
BIN = 2
# More bars than this are merged: no screen shows them apart.
MAX_BARS = 1000
MAX_DROPPED = 12
# Files of fonts on usual systems that have characters which matplotlib's own lacks, such as
# Chinese. Others, such as Last Resort, may have only boxes for them.
FONTS = (
    'NotoSansCJK-Regular.ttc', 'NotoSansCJKsc-Regular.otf', 'SourceHanSansSC-Regular.otf',
    'wqy-microhei.ttc', 'wqy-zenhei.ttc', 'uming.ttc', 'ukai.ttc', 'PingFang.ttc',
    'Hiragino Sans GB.ttc', 'msyh.ttc', 'simhei.ttf', 'Arial Unicode.ttf',
)  # fmt: skip
# Measures of the contact sheet, in pixels. matplotlib saves 100 pixels an inch by default, so that
# a pixel of a thumbnail is one of the picture.
DPI = 100
THUMB, GAP, NAMES, HEAD, LINE = 64, 6, 130, 50, 13


@dataclass(frozen=True)
class DroppedRow:
    """A class and its dropped samples.

    Attributes:
        label: label of the class.
        typical: image of the kept sample that is nearest to the dominant center, (H, W, 3), uint8,
            BGR; None where none was kept.
        images: images of dropped samples, each (H, W, 3), uint8, BGR, of any sizes, in any order.
        angles: angle of each of them to the dominant center, in degrees.
        proposed: class proposed for each of them, -1 for none; None where none are proposed.
        total: number of dropped samples, where ``images`` are only some of them; their number by
            default.

    Raises:
        ValueError: if angles or proposals are not one per image, or an image has another shape or
            type.
    """

    label: int
    typical: np.ndarray | None
    images: Sequence[np.ndarray]
    angles: Sequence[float]
    proposed: Sequence[int] | None = None
    total: int | None = None

    def __post_init__(self):
        for name in ('angles', 'proposed'):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.images):
                raise ValueError(
                    f'{name} must be one per image, got {len(values)} for {len(self.images)} images'
                )
        typical = [] if self.typical is None else [self.typical]
        for image in (*typical, *self.images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ValueError(
                    f'images must be (H, W, 3), uint8, got {image.shape}, {image.dtype}'
                )


def draw_angles(
    angles: np.ndarray,
    threshold: float,
    nontarget_angles: np.ndarray | None = None,
    wrong: np.ndarray | None = None,
    dropped: np.ndarray | None = None,
) -> Figure:
    """Draw the angles of samples to the dominant center of their class, and what a threshold drops.

    Args:
        angles: angles of the samples, in degrees, (N,), N at least 1.
        threshold: largest angle to keep, in degrees.
        nontarget_angles: angles between samples and dominant centers of other classes, in degrees,
            (M,), which show where wrong labels lie. They are scaled down to the height of the bars
            where they are higher, and the legend says so.
        wrong: whether each sample is known to have a wrong label, (N,), bool; None where nothing is
            known.
        dropped: whether each sample is dropped, (N,), bool; by the threshold alone by default.

    Returns:
        The figure; save it with its ``savefig``.

    Raises:
        ValueError: if there are no angles, one is not in [0, 180], or ``wrong`` or ``dropped`` is
            of another length.
    """
    from matplotlib.figure import Figure

    angles = _angles('angles', angles)
    dropped = angles > threshold if dropped is None else dropped
    for name, flags in dict(wrong=wrong, dropped=dropped).items():
        if flags is not None and np.shape(flags) != angles.shape:
            raise ValueError(f'{name} must be {angles.shape} as angles, got {np.shape(flags)}')
    others = (
        np.empty(0) if nontarget_angles is None else _angles('nontarget_angles', nontarget_angles)
    )
    edges = np.arange(0, 180 + BIN, BIN)

    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    bars = 100 * np.histogram(angles, edges)[0] / len(angles)
    if wrong is None:
        axes.stairs(bars, edges, fill=True, color=RIGHT, label='samples')
    else:
        right = 100 * np.histogram(angles[~wrong], edges)[0] / len(angles)
        share = 100 * wrong.mean()
        label = f'rightly labeled ({100 - share:.1f}%)'
        axes.stairs(right, edges, fill=True, color=RIGHT, label=label)
        axes.stairs(
            bars,
            edges,
            baseline=right,
            fill=True,
            facecolor=WRONG,
            edgecolor='black',
            linewidth=0,
            hatch='////',
            label=f'wrongly labeled ({share:.1f}%)',
        )
    if len(others):
        outline = 100 * np.histogram(others, edges)[0] / len(others)
        scale = min(1.0, bars.max() / outline.max())
        label = 'to other classes' + (', scaled down' if scale < 1 else '')
        axes.stairs(scale * outline, edges, color='black', linestyle='--', label=label)
    axes.axvline(threshold, color='black', linewidth=1.5)

    said = f'threshold {threshold:g}{DEGREE} drops {100 * dropped.mean():.1f}%'
    if wrong is not None and wrong.any() and not wrong.all():
        found, lost = 100 * dropped[wrong].mean(), 100 * dropped[~wrong].mean()
        said += f':\n{found:.1f}% of the wrong, {lost:.1f}% of the right labels'
    end = max(90, threshold, angles.max(), others.max(initial=0))
    end = min(180, 10 * np.ceil((end + 1) / 10))
    start = min(0, threshold)
    place = (threshold - start) / (max(end, threshold) - start)
    # Above the axes, where no bar is, and on the side where there is room.
    side = 'left' if place < 0.35 else 'right' if place > 0.65 else 'center'
    axes.annotate(
        said,
        (threshold, 1),
        (0, 4),
        xycoords=('data', 'axes fraction'),
        textcoords='offset points',
        ha=side,
        annotation_clip=False,
    )
    axes.set(xlim=(start, max(end, threshold)), ylim=(0, 1.05 * bars.max()))
    axes.set_xlabel('angle to the dominant center of the class (degrees)')
    axes.set_ylabel(f'% of the samples, per {BIN}{DEGREE}')
    axes.set_xticks(np.arange(0, end + 1, 15))
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside lower center', ncols=3, frameon=False)
    return figure


def draw_subcenters(counts: np.ndarray) -> Figure:
    """Draw how the samples of each class spread over its sub-centers, the largest at the bottom.

    Classes are sorted by the share of their dominant center; with more than 1000, neighbors are
    merged and their shares averaged. Classes without samples are left out.

    Args:
        counts: number of samples nearest to each center, (C, K), integers of at least 0.

    Returns:
        The figure; save it with its ``savefig``.

    Raises:
        ValueError: if ``counts`` is not (C, K), one is negative, or there are no samples.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.size == 0:
        raise ValueError(f'counts must be (C, K), got {counts.shape}')
    if counts.min() < 0 or not counts.any():
        raise ValueError(f'counts must be at least 0, some above, got a minimum of {counts.min()}')
    seen = counts[counts.any(1)]
    shares = -np.sort(-seen, axis=1) / seen.sum(1, keepdims=True)
    shares = 100 * shares[np.argsort(-shares[:, 0], kind='stable')]
    number, ways = shares.shape
    edges = np.unique(np.linspace(0, number, min(number, MAX_BARS) + 1).round().astype(int))
    bars = np.add.reduceat(shares, edges[:-1]) / np.diff(edges)[:, None]
    tops = np.cumsum(bars, axis=1)

    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    colors = colormaps['cividis'](np.linspace(0.1, 0.95, ways))
    for k in range(ways):
        label = {0: 'largest', 1: 'second', 2: 'third'}.get(k, f'{k + 1}th')
        # Only some names: a legend of a hundred entries would be taller than the picture.
        shown = label if k < 7 or k == ways - 1 else None
        low = tops[:, k - 1] if k else np.zeros(len(tops))
        axes.stairs(tops[:, k], edges, baseline=low, fill=True, color=colors[k], label=shown)
    dead, empty = int((seen == 0).sum()), len(counts) - number
    middle, typical = f'{np.median(shares[:, 0]):.0f}%', 'median share of the dominant one'
    axes.set_title(
        f'{dead:,} of {seen.size:,} sub-centers {"is" if dead == 1 else "are"} dead (no samples), '
        f'{empty:,} of {len(counts):,} classes {"is" if empty == 1 else "are"} empty\n'
        f'{typical}: {middle}',
        fontsize=11,
        loc='left',
    )
    axes.set(xlim=(0, number), ylim=(0, 100))
    axes.set_xlabel('classes, by the share of their dominant sub-center')
    axes.set_ylabel('% of the samples of a class')
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter('{x:,.0f}')
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc='outside right center', frameon=False)
    return figure


def draw_dropped(
    rows: Sequence[DroppedRow], names: Sequence[str] | Mapping[int, str] | None = None
) -> Figure:
    """Draw the dropped samples of some classes: a row for each class, after a typical image of it.

    Twelve samples are shown, those with the largest angles first. The picture of 20 classes has
    1050 x 2090 pixels; with photographs it takes about 120 kB as WebP and six times that as PNG.

    Args:
        rows: the classes, at least one.
        names: names of the classes, by label; a number is shown where a name is missing, or no font
            of this machine has its characters.

    Returns:
        The figure; save it with its ``savefig``, with ``dpi=100`` or a multiple for sharp images.

    Raises:
        ValueError: if there are no rows.
    """
    from matplotlib.figure import Figure

    if len(rows) == 0:
        raise ValueError('rows must be at least one, got none')
    known = names if isinstance(names, Mapping) else dict(enumerate(names or ()))
    lines = 2 if any(row.proposed is not None for row in rows) else 1
    columns = min(max(len(row.images) for row in rows), MAX_DROPPED)
    step, height = THUMB + GAP, THUMB + lines * LINE + 2 * GAP
    typical_at = NAMES + GAP
    dropped_at = typical_at + step + 2 * GAP
    # Wide enough for the heading where few samples were dropped.
    size = HEAD + height * len(rows), max(dropped_at + step * columns + GAP, 560)
    canvas = np.full((*size, 3), 255, np.uint8)
    figure = Figure(figsize=(size[1] / DPI, size[0] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[1]), ylim=(size[0], 0))
    axes.axis('off')

    def write(
        x: float, y: float, said: str, points: float = 8, width: float = size[1], **style
    ) -> None:
        font = _font(said)
        font.set_weight(style.pop('weight', 'normal'))
        font.set_size(points)
        said = _cut(said, width * 72 / DPI, font)
        axes.text(x, y, said, font=font, va='top', parse_math=False, **style)

    def name(label: int) -> str:
        text = ' '.join(str(known.get(label, '')).split())
        return text if text and text.isprintable() and _font(text) else str(label)

    headings = 'class', 'typical', 'not kept' if lines == 2 else 'dropped'
    for x, said in zip((GAP, typical_at, dropped_at), headings, strict=True):
        write(x, 8, said, 10, weight='bold')
    note = 'farthest first, by the angle to the dominant center'
    note = 'by the angle to the dominant center; below, another class' if lines == 2 else note
    write(dropped_at, 26, note)
    for i, row in enumerate(rows):
        top = HEAD + i * height
        write(GAP, top + 8, name(row.label), 10, NAMES - GAP, weight='bold')
        total = len(row.images) if row.total is None else row.total
        write(GAP, top + 28, f'{total} {headings[2]}')
        if row.typical is None:
            write(typical_at, top + 24, 'none kept')
        else:
            _paste(canvas, row.typical, top, typical_at, frame=3)
        order = np.argsort(-np.asarray(row.angles, float), kind='stable')[:MAX_DROPPED]
        for j, index in enumerate(order):
            left = dropped_at + j * step
            _paste(canvas, row.images[index], top, left)
            middle, below = left + THUMB / 2, top + THUMB + 3
            write(middle, below, f'{row.angles[index]:.0f}{DEGREE}', ha='center')
            if row.proposed is not None and row.proposed[index] >= 0:
                said = name(row.proposed[index])
                write(middle, below + LINE, said, width=THUMB, ha='center', color=RIGHT)
    axes.imshow(canvas[..., ::-1], extent=(0, size[1], size[0], 0), interpolation='nearest')
    axes.set_aspect('auto')
    return figure


def _angles(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f'{name} must be (N,), at least one, got {values.shape}')
    inside = (values >= 0) & (values <= 180)
    if not inside.all():
        raise ValueError(f'{name} must be in [0, 180], got {values[~inside][0]}')
    return values


def _paste(canvas: np.ndarray, image: np.ndarray, top: int, left: int, frame: int = 0) -> None:
    """Put an image into the middle of a square, as large as fits, with a frame around it."""
    height, width = image.shape[:2]
    scale = (THUMB - 2 * max(frame, 1)) / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(image, size, interpolation=how)
    color = (178, 114, 0) if frame else (204, 204, 204)
    around = [max(frame, 1)] * 4
    small = cv2.copyMakeBorder(small, *around, cv2.BORDER_CONSTANT, value=color)
    height, width = small.shape[:2]
    top, left = top + (THUMB - height) // 2, left + (THUMB - width) // 2
    canvas[top : top + height, left : left + width] = small


def _font(text: str) -> FontProperties | None:
    """A font that has all characters, matplotlib's or one of this machine; or None."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    for font in (FontProperties(), *(FontProperties(fname=file) for file in _font_files())):
        face = get_font(findfont(font))
        if all(face.get_char_index(ord(character)) for character in text):
            return font
    return None


@cache
def _font_files() -> list[str]:
    # matplotlib's own list of names does not know fonts that were installed after it was made.
    from matplotlib.font_manager import findSystemFonts

    found = {Path(file).name: file for file in findSystemFonts()}
    return [found[name] for name in FONTS if name in found]


def _cut(text: str, width: float, font: FontProperties) -> str:
    """The text, cut with dots to a width in points."""
    from matplotlib.textpath import text_to_path

    def fits(said: str) -> bool:
        return text_to_path.get_text_width_height_descent(said, font, ismath=False)[0] <= width

    if fits(text):
        return text
    end = len(text)
    while end and not fits(f'{text[:end]}...'):
        end -= 1
    return f'{text[:end]}...'
