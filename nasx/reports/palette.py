"""The colours of every picture and page, one palette for matplotlib and for the browser.

They are those of Okabe and Ito, "Color Universal Design", 2008: told apart under every common colour blindness.
"""

from __future__ import annotations

from typing import Final

INK: Final = "#1b1f24"  # text
MUTED: Final = "#6b7280"  # secondary text
FAINT: Final = "#d7dbe0"  # grid, frames
CLOUD: Final = "#a9b0ba"  # what is there for comparison only

BLUE: Final = "#0072b2"  # the front
VERMILLION: Final = "#d55e00"  # what the eye should find: the knee, the closest pair
GREEN: Final = "#009e73"  # the paper
SKY: Final = "#56b4e9"
ORANGE: Final = "#e69f00"
PURPLE: Final = "#cc79a7"
