"""Suspect labels: every training image ranked, as a CSV, and the most suspect ones on a sheet."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

from matplotlib.figure import Figure
from numpy.typing import NDArray

from nasx.reports.canvas import styled
from nasx.reports.sheet import GAP, MARGIN, Sheet, show_image
from nasx.reports.style import MUTED, VERMILLION, WIDTH
from nasx.reports.wording import shorten

if TYPE_CHECKING:
    import numpy as np

    from nasx.diagnostics.debugging import Debugging

COLUMNS: Final = 8
SHOWN: Final = 40  # images
SIDE: Final = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
ROW: Final = SIDE + 0.4  # inches: an image and two lines above it
HEAD: Final = 0.62  # inches


def suspects_csv(debugging: Debugging, images: NDArray[np.int64]) -> str:
    """All training images, the most suspect first. `images`, (n_train,): their indices in the dataset's own order."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["rank", "image", "label", "nearest_other", "suspicion", "predicted", "label_probability"])
    names, suspicion, probabilities = debugging.train.class_names, debugging.suspicion, debugging.train_probabilities
    for rank, i in enumerate(suspicion.ranking(), start=1):
        label, predicted = debugging.train.labels[i], probabilities[i].argmax()
        writer.writerow(
            [
                rank,
                images[i],
                names[label],
                names[suspicion.nearest[i]],
                f"{suspicion.values[i]:.6f}",
                names[predicted],
                f"{probabilities[i, label]:.6f}",
            ]
        )
    return out.getvalue()


@styled
def suspects_figure(debugging: Debugging, images: NDArray[np.int64]) -> Figure:
    """The most suspect training images with the label they bear and the class that they lie nearer to."""
    chosen = debugging.suspicion.ranking()[:SHOWN]
    sheet = Sheet(HEAD + -(-len(chosen) // COLUMNS) * ROW + 0.1)
    sheet.top = 0.1
    sheet.text(MARGIN, "Training images whose label to check first", 11.5, weight="bold")
    told = "Its number, the label it bears, and the nearest other class: in orange where that is nearer than its own."
    sheet.text(MARGIN, told, 8, MUTED, drop=0.26)
    names = debugging.train.class_names
    for place, i in enumerate(chosen):
        row, column = divmod(place, COLUMNS)
        x, sheet.top = MARGIN + column * (SIDE + GAP), HEAD + row * ROW
        sheet.text(x, f"{images[i]}: {shorten(names[debugging.train.labels[i]], 13 - len(str(images[i])))}", 7.5)
        is_nearer = debugging.suspicion.values[i] > 0
        nearest = shorten(names[debugging.suspicion.nearest[i]], 12)
        sheet.text(x, f"or {nearest}?", 7.5, VERMILLION if is_nearer else MUTED, drop=0.14)
        show_image(sheet.axes(x, 0.3, SIDE), debugging.train.images[i])
    return sheet.figure
