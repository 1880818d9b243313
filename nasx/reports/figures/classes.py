"""Figures of the classes inside a network: distances, layer profile, principal components, dendrogram, activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram

from nasx.diagnostics.class_pairs import ClassMap
from nasx.reports.figures.style import DIVERGING, SEQUENTIAL, WIDTH, styled
from nasx.reports.palette import BLUE, INK, MUTED, VERMILLION
from nasx.reports.text import shorten


@styled
def distances_figure(distances: NDArray[np.float64], class_names: Sequence[str], *, title: str = "") -> Figure:
    """Draw the distances between classes as a heat map, with frames around the closest and the farthest pair.

    Args:
        distances: (n_classes, n_classes), symmetric; NaN: blank.
        class_names: up to 14 classes, the numbers are shown too.
        title: of the figure.
    """
    n = len(class_names)
    side = float(np.clip(0.5 * n + 1.6, 4.4, 9.0))
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title or "Distances between classes")
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
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 1.0))
    return figure


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    names = [shorten(name) for name in class_names]
    step = 1 + (len(names) - 1) // 40  # more than 40 names are illegible
    ticks = np.arange(0, len(names) - 1, step)
    long = max(map(len, names)) > 3
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(ticks, [names[i + 1] for i in ticks])
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
    figure.suptitle(title or "Introspectability by layer", x=0.015, ha="left", fontsize=11.5, fontweight="bold")
    ratios = [1.0 + n for n in lengths]
    panels = figure.subplots(len(profiles), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
    for axes, (scorer, profile) in zip(panels, profiles.items(), strict=True):
        _draw_profile(axes, scorer, profile)
    highest = max(value for profile in profiles.values() for value in profile.values())
    panels[-1].set_xlim(0, 1.12 * highest)
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
    axes.set_yticks(rows[::step], [shorten(layers[i], 24) for i in rows[::step]])
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_title(f"by {scorer}", fontsize=9.5, fontweight="normal", color=MUTED, pad=4)


COLUMNS: Final = 2
NAMED: Final = 30  # with more classes, their names are left out


@styled
def map_figure(maps: Sequence[ClassMap], class_names: Sequence[str], *, title: str = "") -> Figure:
    """Draw one plane per stage, from the input to the output: images as dots, class means as names.

    Args:
        maps: one per stage, from the input to the output.
        class_names: with more than 30 classes, they are not shown.
        title: of the figure.
    """
    rows = -(-len(maps) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.5 + 3.1 * rows), layout="constrained")
    heading = title or "Classes after each stage (principal components)"
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
    for c, (center_x, center_y) in enumerate(found.centroids):
        if np.isfinite(center_x) and len(names) <= NAMED:
            box = {"boxstyle": "round,pad=0.18", "facecolor": "white", "edgecolor": colors[c], "linewidth": 1.2}
            name = shorten(names[c], 10)
            axes.text(center_x, center_y, name, fontsize=8, ha="center", va="center", color=INK, bbox=box)
    axes.set_title(f"{found.layer}: {100 * found.shown:.0f} % of the variance", fontsize=9.5, fontweight="normal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


@styled
def tree_figure(tree: NDArray[np.float64], class_names: Sequence[str], *, title: str = "") -> Figure:
    """Draw the dendrogram of the classes (average linkage), from the closest pair (left) to all classes (right).

    Args:
        tree: (n_classes - 1, 4) linkage matrix of scipy.
        class_names: leaves of the tree.
        title: of the figure.
    """
    n = len(class_names)
    figure = Figure(figsize=(WIDTH, float(np.clip(0.9 + 0.24 * n, 2.2, 12.0))), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title or "Similarity of the classes inside the network")
    drawn = dendrogram(tree, no_plot=True)
    for heights, places in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        axes.plot(heights, places, color=BLUE, linewidth=1.6, solid_joinstyle="round")
    step = 1 + (n - 1) // 60  # more names are illegible
    ticks = np.arange(n)[::step]
    names = [shorten(class_names[drawn["leaves"][i]], 18) for i in ticks]
    axes.set_yticks(5.0 + 10.0 * ticks, names)  # positions of the leaves in scipy
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
    height = float(np.clip(1.5 + 0.24 * n_classes, 2.4, 12.0))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title or "Which classes activate which blocks")
    limit = float(np.abs(values).max()) or 1.0
    image = axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("activation (std. deviations)", color=INK)
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
