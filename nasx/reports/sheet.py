"""Sheets of small pictures: a figure that is filled from the top down in inches."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nasx.reports.style import FAINT, INK, WIDTH

MARGIN: Final = 0.12  # inches
GAP: Final = 0.06  # inches between pictures


class Sheet:
    """A figure filled from the top down in inches, so that its pictures have one size whatever their number."""

    def __init__(self, height: float) -> None:
        self.figure = Figure(figsize=(WIDTH, height))
        self.height = height
        self.top = 0.0  # inches from the upper edge

    def text(
        self, x: float, text: str, size: float, color: str = INK, weight: str = "normal", drop: float = 0.0
    ) -> None:
        y = 1 - (self.top + drop) / self.height
        self.figure.text(x / WIDTH, y, text, fontsize=size, color=color, fontweight=weight, va="top")

    def axes(self, x: float, drop: float, side: float) -> Axes:
        """Square axes without marks, `x` from the left and `drop` below the top, in inches."""
        bottom = self.height - self.top - drop - side
        axes = self.figure.add_axes((x / WIDTH, bottom / self.height, side / WIDTH, side / self.height))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(FAINT)
        return axes


def show_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    """An image of (channels, height, width): grey for one channel, else the first three as colours."""
    shown = image[0] if len(image) < 3 else np.moveaxis(image[:3], 0, -1)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
