"""Images made from a trained network: side by side, as a one-page audit, and their convergence.

Images are uint8 in [0, 255], BGR, as OpenCV reads them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colors, which the color-blind can tell apart.
GENERATED, REAL, OTHER = '#d55e00', '#0072b2', '#767676'
LINES = ('#000000', '#d55e00', '#0072b2', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
GAP = 2
MAX_IN_STRIP = 6


def image_grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Images row by row, with thin white gaps.

    Args:
        images: images, (N, H, W, 3), uint8.
        columns: number of images in a row.

    Returns:
        The grid, (R * (H + gap) - gap, columns * (W + gap) - gap, 3), uint8, with R rows and gaps
        of 2 pixels; places without an image are white.

    Raises:
        ValueError: if there are no images, they are of another shape, or ``columns`` is below 1.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3 or len(images) == 0:
        raise ValueError(f'images must be (N, H, W, 3), at least one, got {images.shape}')
    if columns < 1:
        raise ValueError(f'columns must be at least 1, got {columns}')
    number, height, width = images.shape[:3]
    rows = -(-number // columns)
    grid = np.full((rows * columns, height + GAP, width + GAP, 3), 255, np.uint8)
    grid[:number, :height, :width] = images
    grid = grid.reshape(rows, columns, *grid.shape[1:]).swapaxes(1, 2)
    return grid.reshape(rows * (height + GAP), columns * (width + GAP), 3)[:-GAP, :-GAP]


def draw_audit(
    report: Mapping[str, Any], images: Mapping[int, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """One page on how much of the people that a network was trained on is in its weights.

    Args:
        report: report of :meth:`mmarcface.apis.InversionEvaluator.evaluate`.
        images: images by label: a real image of the identity, (H, W, 3), and the generated ones,
            (K, H, W, 3), from :meth:`mmarcface.apis.InversionEvaluator.pair_with_real`.

    Returns:
        The figure, 8 inches wide; save it with its ``savefig``.

    Raises:
        ValueError: if no identity of the report has images.
    """
    from matplotlib.figure import Figure

    shown = _best_median_worst(report['per_identity'], images)
    footer = _footer(report)
    heights = dict(head=1.6, plots=2.85, strips=1.35 * len(shown), foot=0.18 * len(footer) + 0.25)
    total = sum(heights.values())
    figure = Figure(figsize=(8, total))
    tops = dict(zip(heights, 1 - np.cumsum([0, *heights.values()]) / total, strict=False))

    _write_head(figure, report, tops['head'], total)
    bottom, top = tops['strips'] + 0.9 / total, tops['plots'] - 0.3 / total
    left, right = figure.subplots(
        1,
        2,
        width_ratios=(2, 2.6),
        gridspec_kw=dict(left=0.08, right=0.96, bottom=bottom, top=top, wspace=0.75),
    )
    _draw_acceptance(left, report)
    _draw_cosines(right, report)
    for row, (rank, identity) in enumerate(shown.items()):
        _draw_strip(figure, rank, identity, images, tops['strips'] * total - 1.35 * row, total)
    figure.text(0.03, tops['foot'] - 0.05 / total, '\n'.join(footer), va='top', fontsize=9)
    return figure


def draw_convergence(history: Mapping[str, Sequence[float]]) -> Figure:
    """The terms of an objective over the steps, on a logarithmic scale.

    Args:
        history: values of a term by its name, and their steps by 'step'. Values that
            are not positive are left out, since the scale cannot show them.

    Returns:
        The figure; save it with its ``savefig``.

    Raises:
        ValueError: if there are no steps or no terms, or a term does not have one value per step.
    """
    from matplotlib.figure import Figure

    steps = history.get('step', ())
    terms = {name: values for name, values in history.items() if name != 'step'}
    if len(steps) == 0 or not terms:
        raise ValueError(f"history must have 'step' and a term, got {list(history)}")
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    for i, (name, values) in enumerate(terms.items()):
        if len(values) != len(steps):
            raise ValueError(
                f'history must have one value per step, got {len(values)} of {name!r} for '
                f'{len(steps)} steps'
            )
        style = ('-', '--', ':', '-.')[i % 4]
        axes.plot(steps, values, style, color=LINES[i % len(LINES)], label=name)
    axes.set_yscale('log', nonpositive='mask')
    axes.set_xlabel('step')
    axes.set_ylabel('term of the objective')
    axes.grid(alpha=0.3)
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5))
    return figure


def _best_median_worst(identities: Sequence[dict], images: Mapping) -> dict[str, dict]:
    known = [identity for identity in identities if identity['label'] in images]
    if not known:
        raise ValueError(
            f'images must be of identities in the report, got {sorted(images)[:5]} as labels'
        )
    known.sort(key=lambda one: (one['named'] / one['images'], one['cosine_own']), reverse=True)
    if len(known) == 1:
        return {'Only identity': known[0]}
    shown = {'Best': known[0], 'Median': known[len(known) // 2], 'Worst': known[-1]}
    return {rank: one for rank, one in shown.items() if rank != 'Median' or len(known) > 2}


def _write_head(figure: Figure, report: Mapping, top: float, height: float) -> None:
    number = report['identities']
    found = f'{report["identities_reidentified"]} of {number} identities re-identified'
    title = 'Privacy audit of a trained network, from its weights alone'
    low, high = (100 * report[f'reidentified_{end}'] for end in ('low', 'high'))
    text = (
        f'95% interval {low:.0f}% to {high:.0f}%. A second model, which took no part in making the '
        'images, recognizes them: an identity counts where it names at least half of its images '
        f'right, among {round(1 / report["chance_accuracy"])} identities. It names '
        f'{_percent(report["attack_accuracy"])} of the generated images right, '
        f'{_percent(report["real_accuracy"])} of the real ones, and '
        f'{_percent(report["chance_accuracy"])} by chance.'
    )
    style = dict(va='top', x=0.03)
    figure.text(y=top - 0.15 / height, s=title, fontsize=11, **style)
    figure.text(
        y=top - 0.42 / height,
        s=found,
        fontsize=20,
        fontweight='bold',
        color=GENERATED,
        **style,
    )
    figure.text(y=top - 0.85 / height, s=textwrap.fill(text, 106), fontsize=10, **style)


def _draw_acceptance(axes: Axes, report: Mapping) -> None:
    rates = [key.split('=')[1] for key in report if key.startswith('accepted@FAR=')]
    for kind, name, color, marker, side in (
        ('accepted_real', 'real', REAL, 's', -1),
        ('accepted', 'generated', GENERATED, 'o', 1),
    ):
        shares = [100 * report[f'{kind}@FAR={rate}'] for rate in rates]
        places = np.arange(len(rates)) + 0.22 * side
        axes.vlines(places, 0, shares, color=color, linewidth=2)
        axes.plot(places, shares, marker, color=color, markersize=8, label=name)
        for place, share in zip(places, shares, strict=True):
            axes.annotate(
                f'{share:.0f}%',
                (place, share),
                (0, 7),
                textcoords='offset points',
                ha='center',
                fontsize=10,
                color=color,
            )
    axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.27), ncols=2, frameon=False)
    axes.set_title('Accepted as the identity', fontsize=11, fontweight='bold', loc='left')
    axes.set_xticks(range(len(rates)), [f'{100 * float(rate):g}%' for rate in rates], fontsize=10)
    axes.set_xlabel('other identities accepted (FAR)', fontsize=10)
    axes.set(xlim=(-0.6, len(rates) - 0.4), ylim=(0, 118), yticks=(0, 50, 100))
    axes.set_yticks((0, 50, 100), ('0', '50%', '100%'), fontsize=10)
    axes.spines[['top', 'right']].set_visible(False)


def _draw_cosines(axes: Axes, report: Mapping) -> None:
    rows = {
        'two real images,\nsame identity': ('cosine_real', REAL, 's'),
        'generated and real,\nsame identity': ('cosine_own', GENERATED, 'o'),
        'generated and real,\nother identity': ('cosine_other', GENERATED, 'X'),
        'two real images,\nother identity': ('cosine_real_other', OTHER, 'D'),
    }
    for row, (key, color, marker) in enumerate(rows.values()):
        value = report[key]
        axes.hlines(row, min(value, 0), max(value, 0), color=color, linewidth=2)
        axes.plot(value, row, marker, color=color, markersize=8)
        axes.annotate(
            f'{value:.2f}',
            (max(value, 0), row),
            (9, 0),
            textcoords='offset points',
            va='center',
            fontsize=10,
            color=color,
        )
    axes.axvline(0, color='black', linewidth=0.8)
    axes.set_title('Likeness (mean cosine)', fontsize=11, fontweight='bold', loc='left')
    axes.set_yticks(range(len(rows)), list(rows), fontsize=10)
    lowest = min(report[key] for key, *_ in rows.values())
    axes.set(xlim=(min(-0.1, 1.2 * lowest), 1.15), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks((0, 0.5, 1), ('0', '0.5', '1'), fontsize=10)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.tick_params(axis='y', length=0)


def _draw_strip(
    figure: Figure, rank: str, identity: dict, images: Mapping, top: float, total: float
) -> None:
    """One identity: text, a real image, generated ones; ``top`` and ``total`` are in inches."""
    real, generated = images[identity['label']]
    name = identity.get('name', identity['label'])
    words = (
        f'{identity["named"]} of {identity["images"]} named right\n'
        f'cosine {identity["cosine_own"]:.2f}'
    )
    figure.text(0.03, (top - 0.3) / total, f'{rank}: {name}', fontsize=11, fontweight='bold')
    figure.text(0.03, (top - 0.4) / total, words, fontsize=10, va='top')
    strip = image_grid(generated[:MAX_IN_STRIP], min(MAX_IN_STRIP, len(generated)))
    for left, width, image, title, color in (
        (0.24, 0.12, real, 'real', REAL),
        (0.385, 0.595, strip, 'generated', GENERATED),
    ):
        axes = figure.add_axes((left, (top - 1.25) / total, width, 1.05 / total), anchor='NW')
        axes.imshow(image[..., ::-1], interpolation='nearest')
        axes.set_title(title, fontsize=10, color=color, loc='left', pad=3)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=2)


def _footer(report: Mapping) -> list[str]:
    lines = [
        f'Copies? A generated image differs from the most similar real one by '
        f'{report["nearest_image_rms"]:.0f} of 255 gray levels (root mean square; at least '
        f'{report["nearest_image_rms_min"]:.0f}), a real one from the most similar other real '
        f'one by {report["nearest_image_rms_real"]:.0f}.'
    ]
    if report['frechet'] is not None:
        lines.append(
            f'Frechet distance to the real images by the judge: '
            f'{report["frechet"]:.3f}; of as many real images: {report["frechet_real"]:.3f}.'
        )
    lines += [f'Note: {note}.' for note in report['notes']]
    return [part for line in lines for part in textwrap.wrap(line, 112)]


def _percent(share: float) -> str:
    return f'{100 * share:.0f}%' if share >= 0.1 else f'{100 * share:.1f}%'
