"""Pictures of where the classes lie inside a network: planes, a tree, and what each class drives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram

from nasx.diagnostics.class_map import ClassMap
from nasx.reports.canvas import styled
from nasx.reports.style import BLUE, DIVERGING, INK, MUTED, WIDTH
from nasx.reports.wording import shorten

COLUMNS: Final = 2
NAMED: Final = 30  # classes at most whose names are written


@styled
def map_figure(maps: Sequence[ClassMap], class_names: Sequence[str], *, title: str = "") -> Figure:
    """One plane a stage, from the input to the output: images as dots, the mean of each class by its name."""
    rows = -(-len(maps) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.5 + 3.1 * rows), layout="constrained")
    heading = title or "Where the classes lie after each stage"
    figure.suptitle(heading, x=0.015, ha="left", fontsize=11.5, fontweight="bold")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    colors = mpl.colormaps["tab20" if len(class_names) > 10 else "tab10"]
    for axes, found in zip(panels, maps, strict=False):
        _draw_map(axes, found, class_names, [colors(i % colors.N) for i in range(len(class_names))])
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    return figure


def _draw_map(axes: Axes, found: ClassMap, names: Sequence[str], colors: Sequence[object]) -> None:
    x, y = found.images.T
    axes.scatter(x, y, s=7, c=[colors[c] for c in found.labels], alpha=0.5, linewidths=0)
    for c, (across, upright) in enumerate(found.centroids):
        if np.isfinite(across) and len(names) <= NAMED:
            box = {"boxstyle": "round,pad=0.18", "facecolor": "white", "edgecolor": colors[c], "linewidth": 1.2}
            axes.text(across, upright, shorten(names[c], 10), fontsize=8, ha="center", va="center", color=INK, bbox=box)
    axes.set_title(f"{found.layer}: {100 * found.shown:.0f} % of the spread", fontsize=9.5, fontweight="normal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


@styled
def tree_figure(tree: NDArray[np.float64], class_names: Sequence[str], *, title: str = "") -> Figure:
    """The classes joined from the closest pair (left) to all of them (right), at their average distance."""
    n = len(class_names)
    figure = Figure(figsize=(WIDTH, float(np.clip(0.9 + 0.24 * n, 2.2, 12.0))), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title or "Which classes are alike inside the network")
    drawn = dendrogram(tree, no_plot=True)
    for heights, places in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        axes.plot(heights, places, color=BLUE, linewidth=1.6, solid_joinstyle="round")
    step = 1 + (n - 1) // 60  # more names cannot be read
    ticks = np.arange(n)[::step]
    names = [shorten(class_names[drawn["leaves"][i]], 18) for i in ticks]
    axes.set_yticks(5.0 + 10.0 * ticks, names)  # where scipy puts its leaves
    axes.set_ylim(0, 10 * n)
    axes.set_xlim(0, None)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("cosine distance at which they are joined", color=MUTED)
    return figure


@styled
def activity_figure(
    activity: Mapping[str, NDArray[np.float64]], class_names: Sequence[str], *, title: str = ""
) -> Figure:
    """How strongly each class (row) drives each block (column), from the input to the output."""
    values = np.stack(list(activity.values()), axis=1)
    n_classes, n_blocks = values.shape
    height = float(np.clip(1.5 + 0.24 * n_classes, 2.4, 12.0))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title or "Which classes drive which blocks")
    limit = float(np.abs(values).max()) or 1.0
    image = axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("activation, in standard deviations", color=INK)
    bar.outline.set_visible(False)
    rows = np.arange(n_classes)[:: 1 + (n_classes - 1) // 60]
    columns = np.arange(n_blocks)[:: 1 + (n_blocks - 1) // 24]
    blocks = list(activity)
    axes.set_yticks(rows, [shorten(class_names[i], 18) for i in rows])
    axes.set_xticks(columns, [shorten(blocks[i], 14) for i in columns], rotation=45, ha="right")
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure
