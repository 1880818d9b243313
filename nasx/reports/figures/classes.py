"""Figures of the classes inside a network: distances, layer profile, principal components, dendrogram, activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram

from nasx.diagnostics.class_pairs import ClassMap
from nasx.reports.figures.names import class_labels, fit
from nasx.reports.figures.style import DIVERGING, SEQUENTIAL, WIDTH, set_title, styled
from nasx.reports.palette import BLUE, INK, MUTED, VERMILLION

NAME: Final = 1.5  # inches, for the name of a class
SMALL: Final = 7.5  # points
ROW: Final = 0.15  # inches, for a row with a name
MOST_NAMED: Final = 150  # classes: a figure with more names would be too large


@styled
def distances_figure(distances: NDArray[np.float64], class_names: Sequence[str], *, title: str = "") -> Figure:
    """Draw the distances between classes as a heat map, with frames around the closest and the farthest pair.

    Args:
        distances: (n_classes, n_classes), symmetric; NaN: blank.
        class_names: up to 14 classes, the numbers are shown too; above 150, only some names.
        title: of the figure.
    """
    n = len(class_names)
    side = max(float(np.clip(0.5 * n, 2.2, 6.8)), ROW * min(n, MOST_NAMED))
    figure = Figure(figsize=(max(side + 3.4, WIDTH), side + 2.2), layout="constrained")
    set_title(figure, title or "Distances between classes")
    axes = figure.add_subplot()
    lower = np.where(np.tri(n, k=-1, dtype=bool), distances, np.nan)  # symmetric: half is enough
    top = max(1.0, float(np.nanmax(lower)))
    image = axes.imshow(lower[1:, :-1], cmap=SEQUENTIAL, vmin=0, vmax=top)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)
    bar.set_label("cosine distance (0: same evidence)", color=INK)
    bar.outline.set_visible(False)
    _name_classes(axes, class_names)
    if n <= 14:
        _write_values(axes, lower[1:, :-1], dark=0.6 * top)
    _frame_pair(axes, np.unravel_index(np.nanargmin(lower), lower.shape), VERMILLION, "closest")
    _frame_pair(axes, np.unravel_index(np.nanargmax(lower), lower.shape), INK, "farthest")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    names = class_labels(class_names, NAME, SMALL)
    ticks = np.arange(0, len(names) - 1, 1 + (len(names) - 1) // MOST_NAMED)
    rotation = 90 if max(map(len, names)) > 2 or len(names) > 20 else 0
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=rotation, fontsize=SMALL)
    axes.set_yticks(ticks, [names[i + 1] for i in ticks], fontsize=SMALL)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _write_values(axes: Axes, values: NDArray[np.float64], dark: float) -> None:
    """Write the values into their cells, in white if above `dark`."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if value > dark else INK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=color)


def _frame_pair(axes: Axes, pair: Sequence[Any], color: str, label: str) -> None:
    row, column = int(pair[0]), int(pair[1])
    axes.add_patch(Rectangle((column - 0.5, row - 1.5), 1, 1, fill=False, edgecolor=color, linewidth=2.0, label=label))


@styled
def profile_figure(profiles: Mapping[str, Mapping[str, float]], *, title: str = "") -> Figure:
    """Draw introspectability by layer, from the input (top) to the output, with one panel per scorer.

    `profiles`: scorer -> layer -> introspectability.
    """
    lengths = [len(profile) for profile in profiles.values()]
    height = float(np.clip(1.0 + 0.7 * len(profiles) + 0.26 * sum(min(n, 16 + n // 3) for n in lengths), 2.4, 10.0))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    set_title(figure, title or "Introspectability by layer")
    ratios = [1.0 + n for n in lengths]
    panels = figure.subplots(len(profiles), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
    for axes, (scorer, profile) in zip(panels, profiles.items(), strict=True):
        _draw_profile(axes, scorer, profile)
    highest = max(value for profile in profiles.values() for value in profile.values())
    panels[-1].set_xlim(0, 1.15 * highest)  # room for the numbers
    panels[-1].set_xlabel("mean cosine distance between classes")
    return figure


def _draw_profile(axes: Axes, scorer: str, profile: Mapping[str, float]) -> None:
    layers, values = list(profile), np.array(list(profile.values()))
    rows = np.arange(len(layers))
    axes.hlines(rows, 0, values, color=BLUE, linewidth=2.2, alpha=0.35)
    axes.plot(values, rows, "o", color=BLUE, markersize=6, clip_on=False)
    if len(layers) <= 20:
        for row, value in zip(rows, values, strict=True):
            axes.annotate(
                f"{value:.3f}", (value, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8
            )
    step = 1 + (len(layers) - 1) // 24
    axes.set_yticks(rows[::step], [fit(layers[i], 2.0, SMALL) for i in rows[::step]], fontsize=SMALL)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_title(fit(f"by {scorer}", 4.0, 9.5), fontsize=9.5, fontweight="normal", color=MUTED, pad=4)


COLUMNS: Final = 2
MARKERS: Final = "osD^vP*Xph"  # with the colors, they tell 100 classes apart and more
LEGEND_COLUMN: Final = 1.8  # inches


@styled
def map_figure(maps: Sequence[ClassMap], class_names: Sequence[str], *, title: str = "") -> Figure:
    """Draw one plane per stage, from the input to the output: images as dots, class means as markers.

    Args:
        maps: one per stage, from the input to the output.
        class_names: in the legend below, since names at the means would cover each other.
        title: of the figure.
    """
    rows = -(-len(maps) // COLUMNS)
    ncols = min(4, len(class_names))
    legend = 0.17 * -(-len(class_names) // ncols) + 0.1  # inches
    figure = Figure(figsize=(WIDTH, 0.5 + 3.1 * rows + legend), layout="constrained")
    set_title(figure, title or "Classes after each stage (principal components)")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    colors = mpl.colormaps["tab20" if len(class_names) > 10 else "tab10"]
    styles = [(colors(i % colors.N), MARKERS[i // colors.N % len(MARKERS)]) for i in range(len(class_names))]
    for axes, found in zip(panels, maps, strict=False):
        _draw_map(axes, found, styles)
    names = class_labels(class_names, LEGEND_COLUMN - 0.5, SMALL)
    handles = [
        Line2D([], [], linestyle="", color=color, marker=marker, markeredgecolor=INK, label=name)
        for name, (color, marker) in zip(names, styles, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=ncols, fontsize=SMALL, columnspacing=1.0)
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    return figure


def _draw_map(axes: Axes, found: ClassMap, styles: Sequence[tuple[Any, str]]) -> None:
    x, y = found.images.T
    axes.scatter(x, y, s=7, c=[styles[c][0] for c in found.labels], alpha=0.4, linewidths=0)
    for (color, marker), (center_x, center_y) in zip(styles, found.centroids, strict=True):
        if np.isfinite(center_x):
            axes.plot(center_x, center_y, marker, color=color, markersize=8, markeredgecolor=INK, zorder=3)
    title = f"{fit(found.layer, 1.4, 9.5)}: {100 * found.shown:.0f} % of the variance"
    axes.set_title(title, fontsize=9.5, fontweight="normal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


WIDE_NAME: Final = 2.4  # inches, for a name at a wide figure


def _names_height(n: int) -> float:
    """Return the height of rows with the names of `n` classes, in inches."""
    return max(min(0.24 * n, 7.0), ROW * min(n, MOST_NAMED))


@styled
def tree_figure(tree: NDArray[np.float64], class_names: Sequence[str], *, title: str = "") -> Figure:
    """Draw the dendrogram of the classes (average linkage), from the closest pair (left) to all classes (right).

    Args:
        tree: (n_classes - 1, 4) linkage matrix of scipy.
        class_names: leaves of the tree.
        title: of the figure.
    """
    n = len(class_names)
    figure = Figure(figsize=(WIDTH, max(2.2, 1.2 + _names_height(n))), layout="constrained")
    set_title(figure, title or "Similarity of the classes inside the network")
    axes = figure.add_subplot()
    drawn = dendrogram(tree, no_plot=True)
    for heights, places in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        axes.plot(heights, places, color=BLUE, linewidth=1.6, solid_joinstyle="round")
    ticks = np.arange(n)[:: 1 + (n - 1) // MOST_NAMED]
    labels = class_labels(class_names, WIDE_NAME, SMALL)
    names = [labels[drawn["leaves"][i]] for i in ticks]
    axes.set_yticks(5.0 + 10.0 * ticks, names, fontsize=SMALL)  # positions of the leaves in scipy
    axes.set_ylim(0, 10 * n)
    axes.set_xlim(0, None)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("cosine distance at which clusters merge", color=MUTED)
    return figure


@styled
def activity_figure(
    activity: Mapping[str, NDArray[np.float64]], class_names: Sequence[str], *, title: str = ""
) -> Figure:
    """Draw the mean activation of each block (column) for each class (row), from the input to the output.

    Args:
        activity: block -> (n_classes,), in standard deviations over the classes.
        class_names: of the rows.
        title: of the figure.
    """
    values = np.stack(list(activity.values()), axis=1)
    n_classes, n_blocks = values.shape
    figure = Figure(figsize=(WIDTH, max(3.4, 2.2 + _names_height(n_classes))), layout="constrained")
    set_title(figure, title or "Which classes activate which blocks")
    axes = figure.add_subplot()
    limit = float(np.abs(values).max()) or 1.0
    image = axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("activation (std. deviations)", color=INK)
    bar.outline.set_visible(False)
    rows = np.arange(n_classes)[:: 1 + (n_classes - 1) // MOST_NAMED]
    columns = np.arange(n_blocks)[:: 1 + (n_blocks - 1) // 24]
    blocks = list(activity)
    labels = class_labels(class_names, WIDE_NAME, SMALL)
    axes.set_yticks(rows, [labels[i] for i in rows], fontsize=SMALL)
    axes.set_xticks(columns, [fit(blocks[i], 1.2, SMALL) for i in columns], rotation=90, fontsize=SMALL)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure
