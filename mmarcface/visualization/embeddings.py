"""Embeddings and class centers as pictures: rays on the plane, points on a map of the sphere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mmarcface.functional.angles import intra_class_angle, mean_directions, min_inter_class_angle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Paul Tol's "muted" colors, with an orange that shows on white for its sand, and black: the
# color-blind can tell them apart. More classes repeat them.
COLORS = (
    '#332288', '#e69f00', '#117733', '#cc6677', '#88ccee',
    '#882255', '#999933', '#000000', '#44aa99', '#aa4499',
)  # fmt: skip
MAX_NAMES = 20
UNITS = {'within class': '\N{DEGREE SIGN}', 'nearest classes': '\N{DEGREE SIGN}', 'accuracy': ' %'}


@dataclass
class EmbeddingPanel:
    """The embeddings of a data set, and the words of their picture.

    Attributes:
        title: heading.
        embeddings: embeddings of any length, (N, D).
        labels: class of each embedding, (N,), whole numbers of at least 0.
        centers: class centers, (C * K, D), the K centers of a class together; None to show the mean
            directions of the classes instead.
        num_subcenters: number of centers per class, K.
        names: names of the classes; their numbers by default.
        accuracy: accuracy in percent; None to leave it out.
    """

    title: str
    embeddings: np.ndarray
    labels: np.ndarray
    centers: np.ndarray | None = None
    num_subcenters: int = 1
    names: Sequence[str] | None = None
    accuracy: float | None = None

    def __post_init__(self):
        vectors, labels = torch.as_tensor(self.embeddings), torch.as_tensor(self.labels)
        directions = mean_directions(vectors, labels, int(labels.max()) + 1)
        self.within = intra_class_angle(vectors, labels)
        self.between = min_inter_class_angle(directions)
        if self.centers is None:
            self.centers, self.num_subcenters = directions.numpy(), 1

    @property
    def statistics(self) -> dict[str, float]:
        """By name the angles within and between classes in degrees, and the accuracy in percent."""
        angles = {'within class': self.within, 'nearest classes': self.between}
        return angles if self.accuracy is None else angles | dict(accuracy=self.accuracy)


def draw_embeddings(panels: Sequence[EmbeddingPanel], columns: int = 3) -> Figure:
    """Draw embeddings side by side, with a ray for each center.

    Two dimensions are drawn as they are, scaled so that the longest embeddings reach the rim. Three
    are drawn as directions, on an equal-area map of the unit sphere (Hammer's) with the third axis
    pointing north; there a center is a cross. Of more, the first two principal axes through the
    origin are drawn, and the title says so.

    Args:
        panels: panels to draw, each in axes of its own.
        columns: largest number of panels in a row.

    Returns:
        The figure; save it with its ``savefig``.

    Raises:
        ValueError: if there is no panel, or embeddings have fewer than two dimensions.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError('panels must be at least one, got none')
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    height = 2.4 if all(np.shape(panel.embeddings)[1] == 3 for panel in panels) else 3.1
    figure = Figure(figsize=(2.7 * columns, height * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel)
    for axes in grid[len(panels) :]:
        axes.remove()
    return figure


def figure_to_image(figure: Figure, dpi: int = 100) -> np.ndarray:
    """The pixels of a figure, (H, W, 3), uint8 in [0, 255], RGB.

    Args:
        figure: a matplotlib figure.
        dpi: pixels per inch.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


def _draw(axes: Axes, panel: EmbeddingPanel) -> None:
    points, centers = np.asarray(panel.embeddings, float), _unit(np.asarray(panel.centers, float))
    dimensions, labels, note = points.shape[1], np.asarray(panel.labels), ''
    if dimensions < 2:
        raise ValueError(f'embeddings must have at least 2 dimensions, got {dimensions}')
    if dimensions == 3:
        points, ends, height = _map(_unit(points)), _map(centers), (-0.62, 0.78)
        rim = np.linspace(0, 2 * np.pi, 100)
        axes.fill(1.2 * np.cos(rim), 0.6 * np.sin(rim), color='#f2f2f2', zorder=0)
    else:
        if dimensions > 3:
            principal = np.linalg.svd(points, full_matrices=False)[2][:2].T
            points, centers = points @ principal, centers @ principal
            note = f'\n(2 of {dimensions} principal axes)'
        # A quantile, since one point far out would shrink all others.
        longest = np.quantile(np.hypot(*points.T), 0.99)
        points, ends, height = points / max(longest, np.finfo(float).tiny), centers, (-1.3, 1.3)
    # Drawn class after class, each class would cover those before it.
    order = np.random.default_rng(0).permutation(len(points))
    colors = np.array(COLORS)[labels % len(COLORS)]
    axes.scatter(*points[order].T, s=5, c=colors[order], alpha=0.6, linewidths=0)
    present = np.unique(labels)
    for row, end in enumerate(ends):
        label = row // panel.num_subcenters
        if label in present and centers[row].any():
            _draw_center(axes, panel, label, end, on_map=dimensions == 3)
    axes.set(xlim=(-1.3, 1.3), ylim=height, aspect='equal', xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(panel.title + note, fontsize=12, fontweight='bold')
    texts = [f'{name} {value:.1f}{UNITS[name]}' for name, value in panel.statistics.items()]
    axes.set_xlabel('\n'.join(texts), fontsize=10)


def _draw_center(
    axes: Axes, panel: EmbeddingPanel, label: int, end: np.ndarray, on_map: bool
) -> None:
    color = COLORS[label % len(COLORS)]
    if on_map:
        axes.plot(*end, 'x', color=color)
        place = end + [0, 0.15]
    else:
        axes.plot([0, end[0]], [0, end[1]], color=color, linewidth=1.2)
        place = 1.17 * end / max(np.hypot(*end), np.finfo(float).tiny)
    if len(np.unique(panel.labels)) <= MAX_NAMES:
        name = str(label if panel.names is None else panel.names[label])
        style = dict(fontsize=12, fontweight='bold', ha='center', va='center')
        axes.text(*place, name, color=color, **style)


def _map(vectors: np.ndarray) -> np.ndarray:
    """Hammer's map of unit vectors, (N, 3) to (N, 2), on an ellipse 2.4 wide and 1.2 high."""
    x, y, z = vectors.T
    longitude, on_equator = np.arctan2(y, x) / 2, np.hypot(x, y)
    scale = 0.6 / np.sqrt(1 + on_equator * np.cos(longitude))
    return np.stack([2 * scale * on_equator * np.sin(longitude), scale * z], axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
