"""A dataset at a glance: a row of training images for every class, with its name and how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matplotlib.figure import Figure

from nasx.reports.canvas import styled
from nasx.reports.sheet import GAP, MARGIN, Sheet, show_image
from nasx.reports.style import MUTED, WIDTH
from nasx.reports.wording import shorten

if TYPE_CHECKING:
    from nasx.data.check import DataReport

COLUMNS: Final = 10  # images of a class
MOST_CLASSES: Final = 40  # rows; of the other classes only the number is told
NAMES: Final = 1.45  # inches, for the names
SIDE: Final = (WIDTH - 2 * MARGIN - NAMES - (COLUMNS - 1) * GAP) / COLUMNS
ROW: Final = SIDE + GAP  # inches
HEAD: Final = 0.62  # inches


@styled
def contact_sheet(report: DataReport) -> Figure:
    """The training images that `nasx.data.check` has kept of each class."""
    part = report.train
    shown = min(len(part.class_names), MOST_CLASSES)
    sheet = Sheet(HEAD + max(shown, 1) * ROW + 0.1)
    sheet.top = 0.1
    sheet.text(MARGIN, f"{report.name}: training images", 11.5, weight="bold")
    hidden = len(part.class_names) - shown
    more = f"; {hidden} more classes are not shown" if hidden else ""
    size = f", {part.shape[1]} × {part.shape[2]} pixels" if part.shape else ""
    sheet.text(MARGIN, f"{part.n_images:,} images of {len(part.class_names)} classes{size}{more}", 8, MUTED, drop=0.26)
    for row in range(shown):
        sheet.top = HEAD + row * ROW
        sheet.text(MARGIN, shorten(part.class_names[row], 20), 8, drop=SIDE / 2 - 0.13)
        sheet.text(MARGIN, f"{part.counts[row]:,}", 7.5, MUTED, drop=SIDE / 2 + 0.02)
        for column, image in enumerate(part.samples[row][:COLUMNS]):
            show_image(sheet.axes(MARGIN + NAMES + column * (SIDE + GAP), 0, SIDE), image)
    return sheet.figure
