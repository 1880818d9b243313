"""Figure of the benchmarks: factor by which nasx is better than each peer, with range and target."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from nasx.reports.figures.style import WIDTH, styled
from nasx.reports.palette import BLUE, INK, MUTED, VERMILLION
from scripts.bench.measurement import Measurement


@styled
def draw(measurements: Sequence[Measurement], title: str) -> Figure:
    """Draw one row per measurement with a peer: a line from the smallest to the largest ratio, a tick at the target."""
    compared = [m for m in measurements if m.theirs]
    figure = Figure(figsize=(WIDTH, 1.2 + 0.32 * len(compared)), layout="constrained")
    axes = figure.subplots()
    for row, m in enumerate(compared):
        color = VERMILLION if m.met is False else BLUE
        axes.plot([min(m.figures), max(m.figures)], [row, row], color=color, linewidth=2, solid_capstyle="round")
        axes.plot(m.median, row, "o", color=color, markersize=5)
        if m.target is not None:
            axes.plot(m.target, row, "|", color=INK, markersize=12, markeredgewidth=1.5)
    axes.axvline(1, color=MUTED, linewidth=1)
    axes.set(xscale="log", xlabel="times better than the peer: median and range; |: target; red: missed", title=title)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(compared)), [f"{m.what}\nagainst {m.against}" for m in compared], fontsize=6.5)
    axes.set_ylim(len(compared) - 0.5, -0.5)
    return figure
