"""Figure of a confusion matrix, for two classes as for a hundred."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nasx.diagnostics.class_report import ClassReport
from nasx.reports.figures.names import class_labels
from nasx.reports.figures.style import SEQUENTIAL, WIDTH, set_title, styled
from nasx.reports.palette import INK, MUTED, VERMILLION

NUMBERED: Final = 12  # classes: with more, cells are too small for numbers
SHOWN: Final = 30  # classes: with more, only the classes of the most frequent confusions are drawn
NAME: Final = 1.5  # inches, for the name of a class
SIZE: Final = 8.0  # points


@styled
def confusion_figure(report: ClassReport, *, title: str = "", images: str = "validation images") -> Figure:
    """Draw the images of each true class (row) by predicted class (column), as shares of the row.

    With at most 12 classes cells have their number of images. With more than 30 classes, the 30 classes with the most
    frequent confusions are drawn; the other ones are in the last row and column, together.

    Args:
        report: of the network.
        title: of the figure.
        images: on which the figure rests, in the plural.
    """
    shown = _chosen(report)
    counts, labels, sizes = _matrix(report, shown)
    n = len(labels)
    cell = float(np.clip(4.6 / n, 0.2, 0.62))
    side = max(cell * n, 2.0)
    figure = Figure(figsize=(max(WIDTH, side + 4.0), side + 2.9), layout="constrained")
    set_title(figure, title or "Confusion matrix")
    axes = figure.add_subplot()
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    image = axes.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02, format=lambda value, _: f"{100 * value:.0f}")
    bar.set_label("share of the true class (%)", color=INK)
    bar.outline.set_visible(False)
    _name_axes(axes, labels, sizes)
    if n <= NUMBERED:
        _write_counts(axes, counts, shares)
    else:
        _mark_confusions(axes, counts)
    figure.supxlabel(_caption(report, shown, images), x=0.015, ha="left", fontsize=8, color=MUTED, linespacing=1.6)
    return figure


def _chosen(report: ClassReport) -> list[int]:
    """Return the classes that are drawn: all, or those of the most frequent confusions."""
    n = len(report.class_names)
    if n <= SHOWN:
        return list(range(n))
    ranked = [c for a, b, _ in report.confusions() for c in (a, b)]
    return sorted(list(dict.fromkeys([*ranked, *range(n)]))[:SHOWN])


def _matrix(report: ClassReport, shown: list[int]) -> tuple[NDArray[np.int64], list[str], list[int]]:
    """Return the counts, the labels and the number of images of the rows; the classes left out are one class."""
    rest = [c for c in range(len(report.class_names)) if c not in set(shown)]
    labels = class_labels(report.class_names, NAME, SIZE)
    groups, names = [[c] for c in shown], [labels[c] for c in shown]
    if rest:
        groups, names = [*groups, rest], [*names, f"{len(rest)} others"]
    counts = np.array([[report.confusion[np.ix_(a, b)].sum() for b in groups] for a in groups])
    return counts, names, [int(row.sum()) for row in counts]


def _name_axes(axes: Axes, labels: list[str], sizes: list[int]) -> None:
    places = np.arange(len(labels))
    axes.set_xticks(places, labels, rotation=90 if max(map(len, labels)) > 2 else 0, fontsize=SIZE)
    axes.set_yticks(places, [f"{name}  ({size:,})" for name, size in zip(labels, sizes, strict=True)], fontsize=SIZE)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (images)")
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _write_counts(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (row, column), value in np.ndenumerate(counts):
        if value:
            color = "white" if shares[row, column] > 0.6 else INK
            text = f"{value:,}" if value < 100_000 else f"{value / 1000:,.0f}k"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)


def _mark_confusions(axes: Axes, counts: NDArray[np.int64]) -> None:
    """Put a dot at the upper right corner of the cells of confused pairs: a share of 1 % is almost white."""
    off = [(column, row) for (row, column), n in np.ndenumerate(counts) if n and row != column]
    if off:
        x, y = np.array(off, dtype=float).T
        axes.scatter(x + 0.36, y - 0.36, s=float(np.clip(60 / len(counts), 1, 7)), color=VERMILLION, linewidths=0)


def _caption(report: ClassReport, shown: list[int], images: str) -> str:
    dots = "; dots: confusions" if len(shown) > NUMBERED else ""
    lines = [f"{report.n_images:,} {images}; rows add up to 100 %{dots}"]
    hidden = len(report.class_names) - len(shown)
    if hidden:
        lines.append(f"the {len(shown)} classes with the most frequent confusions; the other {hidden} together")
    return "\n".join(lines)
