"""Figure of `scripts.claims`: correlation of introspectability with each benefit, also at equal error and size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from nasx.reports.figures.style import WIDTH, save, styled
from nasx.reports.palette import BLUE, MUTED, VERMILLION

if TYPE_CHECKING:
    from scripts.claims import Finding

COLORS = {"shap": BLUE, "activations": VERMILLION}


@styled
def draw(findings: Sequence[Finding], path: Path) -> None:
    """Draw a row per claim and a color per score; hollow: plain correlation, filled: at equal error and size."""
    claims = list(dict.fromkeys(f.claim for f in findings))
    figure = Figure(figsize=(WIDTH, 0.7 * len(claims) + 1), layout="constrained")
    axes = figure.add_subplot()
    for f in findings:
        row = len(claims) - claims.index(f.claim) + (0.12 if f.score == "shap" else -0.16)
        for lift, effect, face in ((0.1, f.effect, "white"), (0.0, f.at_equal, COLORS[f.score])):
            axes.plot([effect.low, effect.high], [row + lift] * 2, color=COLORS[f.score], lw=1)
            label = f.score if lift == 0 and f.claim == claims[0] else None
            axes.plot(effect.estimate, row + lift, "o", ms=5, mfc=face, mec=COLORS[f.score], ls="", label=label)
    axes.axvline(0, color=MUTED, lw=0.8)
    axes.set_yticks(range(len(claims), 0, -1), [claim.replace(": ", ":\n") for claim in claims])
    axes.set(xlim=(-1, 1), xlabel="Spearman with introspectability; filled: at equal error and size; lines: 90 %")
    figure.suptitle("Benefits of introspectability", x=0.015, ha="left", fontsize=11.5, fontweight="bold")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    save(figure, path)
