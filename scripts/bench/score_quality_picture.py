"""Figure of `score_quality`: ICC for each setting of the scores, and completeness error against draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from nasx.reports.figures.style import WIDTH, save, styled
from nasx.reports.palette import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, VERMILLION

if TYPE_CHECKING:
    from scripts.bench.score_quality import Quality

COLORS = {
    "samples_per_class": BLUE,
    "draws": VERMILLION,
    "quadrature": ORANGE,
    "background": GREEN,
    "max_samples": PURPLE,
}
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # no math text for powers of ten


@styled
def draw(
    title: str,
    qualities: Mapping[str, Quality],
    sweeps: Mapping[str, Sequence[str]],
    gradients: Mapping[str, Mapping[int, str]],
    path: Path,
) -> None:
    """Draw ICC against CPU time, a line per setting, and completeness error against gradients, a line per path.

    Args:
        title: of the figure.
        qualities: by name of the variant; variants that were not measured are left out.
        sweeps: setting -> names of its variants.
        gradients: path -> gradients per sample and probe -> name of the variant.
        path: file to write.
    """
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for setting, names in sweeps.items():
        measured = sorted((qualities[name] for name in names if name in qualities), key=lambda q: q.seconds)
        if len(measured) > 1:
            _icc_line(left, setting, measured)
    for name in ("shap", "activations"):
        left.plot(qualities[name].seconds, qualities[name].icc.estimate, "o", ms=9, mfc="none", mec=INK, mew=1.2)
    left.set(
        xscale="log", xlabel="seconds per score", ylabel="ICC", ylim=(None, 1), title=f"{title}: share of variance"
    )
    for axis, (name, counts) in enumerate(gradients.items()):
        found = {n: qualities[v].completeness_error for n, v in sorted(counts.items()) if v in qualities}
        errors = [100 * (error or 0) for error in found.values()]
        right.plot(list(found), errors, "o-", ms=4, lw=1.2, color=(VERMILLION, ORANGE)[axis], label=f"path={name}")
    right.axhline(2, color=MUTED, lw=0.8)
    right.set(xscale="log", yscale="log", xlabel="gradients per sample and layer", title="Completeness error")
    right.set_ylabel("% of the logit gap")
    for axes in (left, right):
        axes.xaxis.set_major_formatter(PLAIN)
        axes.xaxis.set_minor_formatter(NullFormatter())
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    right.yaxis.set_major_formatter(PLAIN)
    right.yaxis.set_minor_formatter(PLAIN)
    save(figure, path)


def _icc_line(axes: Axes, setting: str, measured: Sequence[Quality]) -> None:
    estimates = [q.icc.estimate for q in measured]
    low = [q.icc.estimate - q.icc.low for q in measured]
    high = [q.icc.high - q.icc.estimate for q in measured]
    seconds = [q.seconds for q in measured]
    color = COLORS[setting]
    axes.errorbar(seconds, estimates, [low, high], color=color, label=setting, marker="o", ms=4, lw=1.2, elinewidth=0.6)
