"""Figure of a comparison of runs: attainment surfaces and hypervolume growth, with quartiles over the runs."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nasx.reports.comparison import Comparison, Group
from nasx.reports.figures.front import label_axis
from nasx.reports.figures.names import fit, wrap
from nasx.reports.figures.style import WIDTH, styled
from nasx.reports.palette import BLUE, GREEN, MUTED, ORANGE, PURPLE, VERMILLION

LINE_STYLES = ((BLUE, "-"), (VERMILLION, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, (0, (5, 1, 1, 1, 1, 1))))


@styled
def comparison_figure(comparison: Comparison) -> Figure:
    """Draw the attainment surfaces of the groups, if there are two objectives, above their hypervolume growth.

    A line is the median over the runs of a group, the band around it the interquartile range.
    """
    has_plane = len(comparison.objectives) == 2
    n_panels = 2 if has_plane else 1
    figure = Figure(figsize=(WIDTH, 1.2 + 3.6 * n_panels), layout="constrained")
    panels = list(figure.subplots(n_panels, 1, squeeze=False)[:, 0])
    if has_plane:
        _draw_surfaces(panels[0], comparison)
    _draw_growths(panels[-1], comparison)
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=1)
    caption = wrap(_caption(comparison), WIDTH - 0.3, 8)
    figure.supxlabel(caption, x=0.015, ha="left", fontsize=8, color=MUTED, linespacing=1.6)
    return figure


def _caption(comparison: Comparison) -> str:
    caption = "lines: median over the runs; bands: interquartile range\nnetworks are evaluated by their final estimates"
    observed = sum(bool(run.why_observed) for group in comparison.groups for run in group.runs)
    runs = sum(len(group.runs) for group in comparison.groups)
    if not observed:
        return caption
    which = "all runs have" if observed == runs else f"{observed} of {runs} runs {'has' if observed == 1 else 'have'}"
    return f"{caption}; {which} observed means only, which are optimistic"


def _draw_surfaces(axes: Axes, comparison: Comparison) -> None:
    y_objective, x_objective = comparison.objectives
    axes.set_title("Attainment surfaces")
    for group, (color, line) in zip(comparison.groups, cycle(LINE_STYLES), strict=False):
        if not sum(len(run.front) for run in group.runs):
            continue
        steps, *surfaces = group.surfaces().T
        x = x_objective.sign * steps
        low, median, high = (y_objective.sign * np.where(np.isfinite(s), s, np.nan) for s in surfaces)
        axes.fill_between(x, low, high, step="post", color=color, alpha=0.18, linewidth=0)
        axes.step(x, median, where="post", color=color, linestyle=line, linewidth=1.6)
        corners = median != np.r_[np.nan, median[:-1]]
        axes.plot(x[corners], median[corners], ".", color=color, markersize=5)
    label_axis(axes, "x", x_objective)
    label_axis(axes, "y", y_objective)


def _draw_growths(axes: Axes, comparison: Comparison) -> None:
    axes.set_title("Hypervolume growth")
    for group, (color, line) in zip(comparison.groups, cycle(LINE_STYLES), strict=False):
        quartiles = group.growths()
        x = np.arange(1, len(quartiles) + 1)
        low, median, high = quartiles.T
        axes.fill_between(x, low, high, step="post", color=color, alpha=0.18, linewidth=0)
        axes.step(x, median, where="post", color=color, linestyle=line, linewidth=1.6, label=_label(group))
    axes.set_xlabel("trials")
    axes.set_ylabel("hypervolume")


def _label(group: Group) -> str:
    n = len(group.runs)
    return f"{fit(group.label, WIDTH - 1.8, 8.5)} ({n} run{'s' if n > 1 else ''})"
