"""Figures of calibration: reliability diagram and risk-coverage curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nasx.diagnostics.calibration import Reliability, reliability, risk_coverage
from nasx.reports.figures.style import WIDTH, styled
from nasx.reports.palette import BLUE, CLOUD, GREEN, MUTED, VERMILLION

if TYPE_CHECKING:
    from nasx.diagnostics.debug import ConfidenceMeasure

COLORS = (BLUE, VERMILLION, GREEN)


@styled
def reliability_figure(confidences: Sequence[ConfidenceMeasure], is_correct: ArrayLike, *, n_bins: int = 50) -> Figure:
    """Draw accuracy against confidence in bins of equally many images, with one panel per confidence measure.

    Args:
        confidences: measures of the same images.
        is_correct: (n,) whether each prediction is correct.
        n_bins: at most, per panel.
    """
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    figure.suptitle("Accuracy by confidence", x=0.015, ha="left", fontsize=11.5, fontweight="bold")
    panels = figure.subplots(1, len(confidences), squeeze=False, sharey=True)[0]
    for axes, confidence, color in zip(panels, confidences, COLORS, strict=False):
        found = reliability(confidence.values, is_correct, n_bins)
        axes.plot(found.confidence, found.accuracy, "o", color=color, markersize=4.5, alpha=0.7, clip_on=False)
        if confidence.is_probability:
            _draw_diagonal(axes, found)
        axes.set_title(confidence.name, fontsize=9.5, fontweight="normal", color=MUTED, pad=6)
    panels[0].set_ylabel("accuracy of a bin (%)")
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
    n = len(np.asarray(is_correct))
    figure.supxlabel(f"mean confidence of a bin ({min(n_bins, n)} bins, {n:,} validation images)", fontsize=9.5)
    return figure


def _draw_diagonal(axes: Axes, found: Reliability) -> None:
    low = min(found.confidence.min(), found.accuracy.min())
    axes.plot([low, 1], [low, 1], color=CLOUD, linewidth=1.2, zorder=1, label="perfect calibration")
    axes.legend(loc="lower right")


@styled
def risk_coverage_figure(confidences: Mapping[str, ArrayLike], is_correct: ArrayLike) -> Figure:
    """Draw the error of the most confident images against coverage, the share of images that are not rejected."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title("Error when the least confident images are rejected")
    for (name, values), color in zip(confidences.items(), COLORS, strict=False):
        coverage, risk = risk_coverage(values, is_correct)
        axes.plot(100 * coverage, 100 * risk, color=color, linewidth=1.6, label=name)
    coverage, risk = risk_coverage(np.asarray(is_correct, dtype=float), is_correct)
    axes.plot(100 * coverage, 100 * risk, color=CLOUD, linewidth=1.2, zorder=1, label="oracle: errors rejected first")
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage: most confident images, not rejected (%)")
    axes.set_ylabel("error of these images (%)")
    axes.legend(loc="upper left")
    return figure
