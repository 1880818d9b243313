"""Color palette of all figures and pages, for matplotlib and the browser.

Source: Okabe and Ito, "Color Universal Design", 2008: distinguishable with every common color blindness.
"""

from __future__ import annotations

from typing import Final

INK: Final = "#1b1f24"  # text
MUTED: Final = "#6b7280"  # secondary text
FAINT: Final = "#d7dbe0"  # grid, frames
CLOUD: Final = "#a9b0ba"  # data shown for comparison only

BLUE: Final = "#0072b2"  # the front
VERMILLION: Final = "#d55e00"  # highlights: the knee, the closest pair
GREEN: Final = "#009e73"  # the paper
SKY: Final = "#56b4e9"
ORANGE: Final = "#e69f00"
PURPLE: Final = "#cc79a7"
