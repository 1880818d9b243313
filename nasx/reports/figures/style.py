"""Style of all figures, and saving them, without global state."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from nasx.errors import SettingError
from nasx.files import write_atomically
from nasx.reports.figures.names import fit, font_families
from nasx.reports.palette import BLUE, FAINT, INK, MUTED, SKY, VERMILLION

# distances, from 0 (white) to far (dark blue); lightness falls steadily, so that it works in black-and-white print
SEQUENTIAL: Final = LinearSegmentedColormap.from_list("nasx_sequential", ["#ffffff", "#cfe3f1", SKY, BLUE, "#08306b"])
# SHAP values: against (blue), none (white), for (vermillion)
DIVERGING: Final = LinearSegmentedColormap.from_list(
    "nasx_diverging", ["#00487a", BLUE, "#ffffff", VERMILLION, "#8a3d00"]
)
WIDTH: Final = 7.6  # inches: at 200 dots per inch twice the width of a README, sharp on high-density screens
SETTINGS: Final[dict[Any, Any]] = {
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
    "svg.hashsalt": "nasx",  # the same data result in the same SVG
    "text.parse_math": False,  # class names such as $x$ are text
}
TITLE_SIZE: Final = 11.5  # points
FORMATS: Final = (".png", ".svg", ".pdf")
P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate a drawing function to use these settings; the user's settings are restored afterwards."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()  # ignore the user's matplotlibrc
            mpl.rcParams.update(SETTINGS)
            mpl.rcParams["font.family"] = list(font_families())
            return draw(*args, **kwargs)

    return inner


def set_title(figure: Figure, title: str) -> None:
    """Write a title at the upper left, shortened to the width of the figure."""
    shown = fit(title, figure.get_figwidth() - 0.25, TITLE_SIZE, "bold")
    figure.suptitle(shown, x=0.015, ha="left", fontsize=TITLE_SIZE, fontweight="bold")


def check_format(path: Path) -> None:
    """Raise SettingError if the suffix of the file name is not a supported format."""
    if path.suffix.lower() not in FORMATS:
        raise SettingError("the figure's file name", f"must end in .png, .svg or .pdf, got {path.name!r}.")


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the suffix; create missing directories.

    Raises SettingError if the suffix is unknown, ResourceError if the file cannot be written.
    """
    check_format(path)
    undated = {
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }  # no dates: the same data result in the same file
    suffix, buffer = path.suffix.lower(), io.BytesIO()
    figure.savefig(buffer, format=suffix.removeprefix("."), metadata=undated.get(suffix))
    write_atomically(path, buffer.getvalue())


@styled
def as_png(figure: Figure) -> bytes:
    """Return the bytes of a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
