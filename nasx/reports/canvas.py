"""Where pictures are made and written: figures outside pyplot, so that nothing global changes."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure

from nasx.errors import ResourceError, SettingError
from nasx.reports.style import SETTINGS

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
