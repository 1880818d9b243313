"""The look of all pictures: the palette, colour maps and matplotlib's settings, applied without global state."""

from __future__ import annotations

from typing import Any, Final

from matplotlib.colors import LinearSegmentedColormap

from nasx.reports.palette import BLUE, CLOUD, FAINT, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION

__all__ = [
    "BLUE",
    "CLOUD",
    "DIVERGING",
    "FAINT",
    "GREEN",
    "INK",
    "MUTED",
    "ORANGE",
    "PURPLE",
    "SEQUENTIAL",
    "SETTINGS",
    "SKY",
    "VERMILLION",
    "WIDTH",
]

# distances: from none (white) to far (deep blue); lightness falls steadily, so that it survives black-and-white print
SEQUENTIAL: Final = LinearSegmentedColormap.from_list("nasx_sequential", ["#ffffff", "#cfe3f1", SKY, BLUE, "#08306b"])
# SHAP values: against (blue), nothing (white), for (vermillion)
DIVERGING: Final = LinearSegmentedColormap.from_list(
    "nasx_diverging", ["#00487a", BLUE, "#ffffff", VERMILLION, "#8a3d00"]
)

WIDTH: Final = 7.6  # inches: at 200 dots an inch the width of a README twice over, sharp on dense screens
SETTINGS: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.hashsalt": "nasx",  # the same SVG for the same data
    "text.parse_math": False,  # a class named $x$ stays text
}
