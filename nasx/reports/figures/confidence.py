"""Figures of calibration: reliability diagram and risk-coverage curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nasx.diagnostics.calibration import Reliability, count_bins, reliability, risk_coverage
from nasx.reports.figures.names import fit
from nasx.reports.figures.style import WIDTH, set_title, styled
from nasx.reports.palette import BLUE, CLOUD, GREEN, MUTED, VERMILLION

if TYPE_CHECKING:
    from nasx.diagnostics.debug import ConfidenceMeasure

COLORS = (BLUE, VERMILLION, GREEN)


@styled
def reliability_figure(confidences: Sequence[ConfidenceMeasure], is_correct: ArrayLike) -> Figure:
    """Draw accuracy against confidence in bins of equally many images, with its 95 % interval; one panel per measure.

    Args:
        confidences: measures of the same images.
        is_correct: (n,) whether each prediction is correct.
    """
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    set_title(figure, "Accuracy by confidence")
    panels = figure.subplots(1, len(confidences), squeeze=False, sharey=True)[0]
    for axes, confidence, color in zip(panels, confidences, COLORS, strict=False):
        found = reliability(confidence.values, is_correct)
        axes.vlines(found.confidence, found.low, found.high, color=color, linewidth=1.0, alpha=0.45)
        axes.plot(found.confidence, found.accuracy, "o", color=color, markersize=4.5, alpha=0.7, clip_on=False)
        if confidence.is_probability:
            _draw_diagonal(axes, found)
        axes.set_title(fit(confidence.name, 2.2, 9.5), fontsize=9.5, fontweight="normal", color=MUTED, pad=6)
    panels[0].set_ylabel("accuracy of a bin (%)")
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
    n = len(np.asarray(is_correct))
    bins = count_bins(n)
    sizes = f"{bins} bin{'s' * (bins > 1)} of {n // bins:,} or more of {n:,} validation images; bars: 95 % interval"
    figure.supxlabel(f"mean confidence of a bin ({sizes})", fontsize=9)
    return figure


def _draw_diagonal(axes: Axes, found: Reliability) -> None:
    low = min(found.confidence.min(), found.accuracy.min())
    axes.plot([low, 1], [low, 1], color=CLOUD, linewidth=1.2, zorder=1, label="perfect calibration")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.1), handlelength=1.2)


@styled
def risk_coverage_figure(confidences: Mapping[str, ArrayLike], is_correct: ArrayLike) -> Figure:
    """Draw the error of the most confident images against coverage, the share of images that are not rejected."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title("Error when the least confident images are rejected")
    for (name, values), color in zip(confidences.items(), COLORS, strict=False):
        coverage, risk = risk_coverage(values, is_correct)
        axes.plot(100 * coverage, 100 * risk, color=color, linewidth=1.6, label=fit(name, 2.6, 8.5))
    coverage, risk = risk_coverage(np.asarray(is_correct, dtype=float), is_correct)
    axes.plot(100 * coverage, 100 * risk, color=CLOUD, linewidth=1.2, zorder=1, label="oracle: errors rejected first")
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage: most confident images, not rejected (%)")
    axes.set_ylabel("error of these images (%)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure
