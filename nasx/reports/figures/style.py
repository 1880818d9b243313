"""Style of all figures and how to save them, without global state."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from nasx.errors import ResourceError, SettingError
from nasx.reports.palette import BLUE, FAINT, INK, MUTED, SKY, VERMILLION

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
FORMATS: Final = (".png", ".svg", ".pdf")
P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Runs a drawing function under the house's settings and puts the user's back."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()  # whatever the user's matplotlibrc says
            mpl.rcParams.update(SETTINGS)
            return draw(*args, **kwargs)

    return inner


def check_format(path: Path) -> None:
    """Raises SettingError where the file name's suffix is no picture format that is written."""
    if path.suffix.lower() not in FORMATS:
        raise SettingError("the picture's file name", f"must end in .png, .svg or .pdf, got {path.name!r}.")


@styled
def save(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the suffix, folders made as needed.

    Raises SettingError for an unknown suffix, ResourceError where the file cannot be written.
    """
    check_format(path)
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # the same data give the same file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata=undated.get(path.suffix.lower()))
    except OSError as exc:
        raise ResourceError(f"cannot write the picture {path}: {exc.strerror or exc}.") from exc


@styled
def as_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
