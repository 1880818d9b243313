"""The picture of `score_quality`: what each knob of the SHAP score buys, and how completeness falls with the draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nasx.reports.canvas import save, styled
from nasx.reports.style import BLUE, GREEN, MUTED, ORANGE, PURPLE, VERMILLION, WIDTH

if TYPE_CHECKING:
    from scripts.bench.score_quality import Quality

COLOURS = {
    "samples_per_class": BLUE,
    "draws": VERMILLION,
    "quadrature": ORANGE,
    "background": GREEN,
    "max_samples": PURPLE,
}


@styled
def draw(title: str, qualities: Mapping[str, Quality], sweeps: Mapping[str, Sequence[str]], path: Path) -> None:
    """ICC, with its interval, against processor time, a line a knob; and completeness error against time."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for knob, names in sweeps.items():
        measured = sorted((qualities[name] for name in names if name in qualities), key=lambda q: q.seconds)
        if len(measured) > 1:
            _icc_line(left, knob, measured)
    for name in ("shap", "activations"):
        left.annotate(f"default {name}", (qualities[name].seconds, qualities[name].icc.estimate), color=MUTED, size=8)
    left.set(xscale="log", xlabel="seconds a score", ylabel="ICC", title=f"ICC: {title}")
    left.legend()
    _completeness(right, [q for q in qualities.values() if q.completeness_error])
    save(figure, path)


def _icc_line(axes: Axes, knob: str, swept: Sequence[Quality]) -> None:
    estimates = [q.icc.estimate for q in swept]
    low = [q.icc.estimate - q.icc.low for q in swept]
    high = [q.icc.high - q.icc.estimate for q in swept]
    seconds = [q.seconds for q in swept]
    axes.errorbar(
        seconds, estimates, [low, high], color=COLOURS[knob], label=knob, marker="o", ms=4, lw=1.2, elinewidth=0.6
    )


def _completeness(axes: Axes, qualities: Sequence[Quality]) -> None:
    axes.scatter(
        [q.seconds for q in qualities], [100 * (q.completeness_error or 0) for q in qualities], color=BLUE, s=16
    )
    for q in qualities:
        axes.annotate(q.name, (q.seconds, 100 * (q.completeness_error or 0)), color=MUTED, size=6)
    axes.axhline(2, color=VERMILLION, lw=0.8)
    axes.set(xscale="log", yscale="log", xlabel="seconds a score", ylabel="completeness error, % of the logit gap")
    axes.set_title("Completeness")
