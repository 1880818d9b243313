"""Grids of small images: dataset overview, SHAP images, suspect labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nasx.diagnostics.explanation import ExplainedSample, Explanation, SampleKind
from nasx.reports.figures.names import class_labels, drawable, drawable_names, fit, text_width
from nasx.reports.figures.style import DIVERGING, WIDTH, styled
from nasx.reports.palette import FAINT, INK, MUTED, VERMILLION
from nasx.reports.text import clean

if TYPE_CHECKING:
    from nasx.data.check import DataReport
    from nasx.diagnostics.suspects import Suspects

MARGIN: Final = 0.12  # inches
GAP: Final = 0.06  # inches between images
FINE: Final = 64  # pixels per side of images of which SHAP values are drawn pixel by pixel
CELLS: Final = 32  # squares per side of larger images, over which they are summed


class Sheet:
    """Figure that is filled from the top, in inches, so that all images have the same size, whatever their number."""

    def __init__(self, height: float) -> None:
        self.figure = Figure(figsize=(WIDTH, height))
        self.height = height
        self.top = 0.0  # inches from the upper edge

    def text(
        self, x: float, text: str, size: float, color: str = INK, weight: str = "normal", drop: float = 0.0
    ) -> None:
        """Add a line of text.

        Args:
            x: from the left edge, in inches.
            text: plain.
            size: in points.
            color: of the text.
            weight: "normal" or "bold".
            drop: below `top`, in inches.
        """
        y = 1 - (self.top + drop) / self.height
        self.figure.text(x / WIDTH, y, text, fontsize=size, color=color, fontweight=weight, va="top")

    def axes(self, x: float, drop: float, side: float) -> Axes:
        """Add square axes without ticks.

        Args:
            x: from the left edge, in inches.
            drop: below `top`, in inches.
            side: length, in inches.
        """
        bottom = self.height - self.top - drop - side
        axes = self.figure.add_axes((x / WIDTH, bottom / self.height, side / WIDTH, side / self.height))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(FAINT)
        return axes


def show_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    """Show an image of (channels, height, width): in gray if it has one channel, else the first three as colors."""
    shown = image[0] if len(image) < 3 else np.moveaxis(image[:3], 0, -1)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


CONTACT_COLUMNS: Final = 10  # images per class
MOST_CLASSES: Final = 40  # rows; further classes are only counted
CONTACT_NAMES: Final = 1.45  # inches, for the names
CONTACT_SIDE: Final = (WIDTH - 2 * MARGIN - CONTACT_NAMES - (CONTACT_COLUMNS - 1) * GAP) / CONTACT_COLUMNS
CONTACT_ROW: Final = CONTACT_SIDE + GAP  # inches
CONTACT_HEAD: Final = 0.62  # inches


@styled
def contact_sheet(report: DataReport) -> Figure:
    """Draw the sample images of each class in a data report."""
    part = report.train
    shown = min(len(part.class_names), MOST_CLASSES)
    sheet = Sheet(CONTACT_HEAD + max(shown, 1) * CONTACT_ROW + 0.1)
    sheet.top = 0.1
    heading = fit(f"{report.name}: training images", WIDTH - 2 * MARGIN, 11.5, "bold")
    sheet.text(MARGIN, heading, 11.5, weight="bold")
    labels = class_labels(part.class_names, CONTACT_NAMES - 0.08, 8)
    hidden = len(part.class_names) - shown
    more = f"; {hidden} more classes are not shown" if hidden else ""
    size = f", {part.shape[1]} × {part.shape[2]} pixels" if part.shape else ""
    sheet.text(MARGIN, f"{part.n_images:,} images of {len(part.class_names)} classes{size}{more}", 8, MUTED, drop=0.26)
    for row in range(shown):
        sheet.top = CONTACT_HEAD + row * CONTACT_ROW
        sheet.text(MARGIN, labels[row], 8, drop=CONTACT_SIDE / 2 - 0.13)
        sheet.text(MARGIN, f"{part.counts[row]:,}", 7.5, MUTED, drop=CONTACT_SIDE / 2 + 0.02)
        for column, image in enumerate(part.samples[row][:CONTACT_COLUMNS]):
            show_image(sheet.axes(MARGIN + CONTACT_NAMES + column * (CONTACT_SIDE + GAP), 0, CONTACT_SIDE), image)
    return sheet.figure


SHAP_COLUMNS: Final = 10  # of correct predictions: one class each
SHAP_HEADING: Final = 0.42  # inches for a section's heading
RIVALRY: Final = SHAP_HEADING + 0.42  # inches above and below the images of a section of comparisons
SHAP_SIDE: Final = (WIDTH - 2 * MARGIN - (SHAP_COLUMNS - 1) * GAP) / SHAP_COLUMNS
RIVAL_SIDE: Final = (WIDTH - 2 * MARGIN - 0.9) / 12  # four samples of three images, with space between the samples


@styled
def shap_figure(explanation: Explanation, *, title: str = "") -> Figure:
    """Draw sample images of each class with their SHAP values, then errors and uncertain predictions.

    For the latter, SHAP values are shown for the predicted class and for its rival: the true class or the runner-up.
    """
    labels = class_labels(explanation.class_names, SHAP_SIDE, 7.5)
    right = _by_class(explanation.of_kind(SampleKind.CORRECT))
    bands = [right[i : i + SHAP_COLUMNS] for i in range(0, len(right), SHAP_COLUMNS)]
    rivalries = [(kind, explanation.of_kind(kind)) for kind in (SampleKind.INCORRECT, SampleKind.UNCERTAIN)]
    rivalries = [(kind, samples) for kind, samples in rivalries if samples]
    heights = [0.75, *(_band_height(b) for b in bands), *(RIVALRY + RIVAL_SIDE for _ in rivalries)]
    sheet = Sheet(sum(heights) + 0.1)
    _draw_title(sheet, title or "Evidence for the decisions: SHAP values")
    sheet.top = 0.75
    if bands:
        sheet.text(MARGIN, "Correct predictions", 9.5, weight="bold")
        sheet.top += 0.24
    for band in bands:
        _draw_band(sheet, band, labels)
        sheet.top += _band_height(band)
    for kind, samples in rivalries:
        _draw_rivalries(sheet, kind, samples, drawable_names(explanation.class_names))
        sheet.top += RIVALRY + RIVAL_SIDE
    return sheet.figure


def _by_class(samples: Sequence[ExplainedSample]) -> list[list[ExplainedSample]]:
    groups: dict[int, list[ExplainedSample]] = {}
    for sample in samples:
        groups.setdefault(sample.label, []).append(sample)
    return list(groups.values())


def _band_height(band: Sequence[Sequence[ExplainedSample]]) -> float:
    return 0.2 + max(map(len, band)) * (2 * SHAP_SIDE + 2 * GAP) + 0.1


def _draw_title(sheet: Sheet, title: str) -> None:
    sheet.top = 0.1
    sheet.text(MARGIN, fit(title, WIDTH - 2.9, 11.5, "bold"), 11.5, weight="bold")
    sheet.text(MARGIN, "Each image with the contributions of its pixels to the logit of a class.", 8, MUTED, drop=0.26)
    bar = sheet.figure.add_axes((1 - 2.05 / WIDTH, 1 - 0.32 / sheet.height, 1.1 / WIDTH, 0.12 / sheet.height))
    sheet.figure.colorbar(ScalarMappable(Normalize(-1, 1), DIVERGING), cax=bar, orientation="horizontal", ticks=[])
    bar.spines[:].set_visible(False)
    bar.text(-0.05, 0.5, "against", transform=bar.transAxes, ha="right", va="center", fontsize=8)
    bar.text(1.05, 0.5, "for the class", transform=bar.transAxes, ha="left", va="center", fontsize=8)


def _draw_band(sheet: Sheet, band: Sequence[Sequence[ExplainedSample]], names: Sequence[str]) -> None:
    """Draw one column per class, each sample above its SHAP values."""
    for column, samples in enumerate(band):
        x = MARGIN + column * (SHAP_SIDE + GAP)
        sheet.text(x, names[samples[0].label], 7.5)
        for row, sample in enumerate(samples):
            drop = 0.18 + row * (2 * SHAP_SIDE + 2 * GAP)
            show_image(sheet.axes(x, drop, SHAP_SIDE), sample.image)
            _show_values(sheet.axes(x, drop + SHAP_SIDE, SHAP_SIDE), sample, sample.predicted)


def _draw_rivalries(sheet: Sheet, kind: SampleKind, samples: Sequence[ExplainedSample], names: Sequence[str]) -> None:
    """Draw each sample with the SHAP values of its predicted class and of its rival."""
    is_wrong = kind is SampleKind.INCORRECT
    heading = "Most confident errors" if is_wrong else "Least confident correct predictions"
    sheet.text(MARGIN, heading, 9.5, weight="bold")
    for i, sample in enumerate(samples):
        x = MARGIN + i * (3 * RIVAL_SIDE + 0.3)
        (winner, rival) = sample.attributions
        width = 3 * RIVAL_SIDE + 0.05
        prediction = _with_name("predicted ", names[winner], f", {100 * sample.confidence:.0f} %", width)
        sheet.text(x, prediction, 8, VERMILLION if is_wrong else INK, drop=0.24)
        drop = SHAP_HEADING
        show_image(sheet.axes(x, drop, RIVAL_SIDE), sample.image)
        for place, c in enumerate((winner, rival), start=1):
            axes = sheet.axes(x + place * RIVAL_SIDE, drop, RIVAL_SIDE)
            _show_values(axes, sample, c)
            axes.set_xlabel(fit(f"for {names[c]}", RIVAL_SIDE - 0.03, 7), fontsize=7, labelpad=2)
        truth = _with_name("true class ", names[sample.label], "", width) if is_wrong else ""
        sheet.text(x, truth, 8, drop=SHAP_HEADING + RIVAL_SIDE + 0.19)


def _with_name(before: str, name: str, after: str, inches: float, size: float = 8) -> str:
    """Return a line of text in which the name is shortened, so that the line is at most `inches` wide."""
    return f"{before}{fit(name, inches - text_width(before + after, size), size)}{after}"


def _show_values(axes: Axes, sample: ExplainedSample, label: int) -> None:
    """Draw the SHAP values of one class; each sample has its own scale, the same for all of its classes."""
    limit = max(float(np.abs(summed(v)).max()) for v in sample.attributions.values()) or 1.0
    draw_values(axes, sample.attributions[label], limit)


def draw_values(axes: Axes, values: NDArray[np.float64], limit: float, *, alpha: float = 1.0) -> None:
    """Draw the SHAP values of an image's pixels, summed over squares.

    Args:
        axes: in pixels of the image.
        values: (height, width).
        limit: absolute value of the darkest colors.
        alpha: opacity.
    """
    height, width = values.shape
    step = square_side(height, width)
    right, bottom = (step * -(-n // step) - 0.5 for n in (width, height))  # the last squares may leave the image
    axes.imshow(
        summed(values),
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        alpha=alpha,
        extent=(-0.5, right, bottom, -0.5),
        interpolation="nearest",
    )
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def square_side(height: int, width: int) -> int:
    """Return the side of the squares over which SHAP values of an image are summed: single pixels could not be seen.

    >>> square_side(32, 32), square_side(128, 128), square_side(224, 200)
    (1, 4, 7)
    """
    side = max(height, width)
    return 1 if side <= FINE else -(-side // CELLS)


def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return SHAP values, (height, width), summed over squares; those of small images as they are.

    >>> summed(np.ones((96, 65)))[[0, -1], -1].tolist()  # squares of 3 x 3; the last ones are 3 x 2
    [6.0, 6.0]
    """
    step = square_side(*values.shape)
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], step), axis=0)
    found: NDArray[np.float64] = np.add.reduceat(rows, np.arange(0, values.shape[1], step), axis=1)
    return found


def squares_in_words(height: int, width: int) -> str:
    """Return a sentence on the squares over which values are summed; "" if each pixel is drawn."""
    step = square_side(height, width)
    return f" Each dot is the sum over {step} x {step} pixels." if step > 1 else ""


SUSPECT_COLUMNS: Final = 6
SUSPECT_SHOWN: Final = 36  # images
SUSPECT_SIDE: Final = (WIDTH - 2 * MARGIN - (SUSPECT_COLUMNS - 1) * GAP) / SUSPECT_COLUMNS
CAPTION_WIDTH: Final = 0.93 * SUSPECT_SIDE  # glyphs drawn into a PNG are a little wider than measured
SUSPECT_LINE: Final = 0.135  # inches
SUSPECT_ROW: Final = SUSPECT_SIDE + 4 * SUSPECT_LINE + 0.16  # inches: two lines for the file, and one per class
SUSPECT_HEAD: Final = 0.62  # inches


@styled
def suspects_figure(suspects: Suspects) -> Figure:
    """Draw the images with the most suspect labels: file, label, predicted class."""
    chosen = suspects.ranking()[:SUSPECT_SHOWN].tolist()
    sheet = Sheet(SUSPECT_HEAD + -(-len(chosen) // SUSPECT_COLUMNS) * SUSPECT_ROW + 0.1)
    sheet.top = 0.1
    sheet.text(MARGIN, "Images with the most suspect labels", 11.5, weight="bold")
    note = "File or position, label, and predicted class; in orange if the label is probably wrong."
    sheet.text(MARGIN, note, 8, MUTED, drop=0.26)
    for place, i in enumerate(chosen):
        row, column = divmod(place, SUSPECT_COLUMNS)
        x, sheet.top = MARGIN + column * (SUSPECT_SIDE + GAP), SUSPECT_HEAD + row * SUSPECT_ROW
        show_image(sheet.axes(x, 0, SUSPECT_SIDE), suspects.image(i))
        _caption(sheet, x, suspects, i, VERMILLION if place < suspects.estimate.number else MUTED)
    return sheet.figure


def _caption(sheet: Sheet, x: float, suspects: Suspects, i: int, color: str) -> None:
    """Write the name of a suspect in up to two lines below its image, then its label and the predicted class."""
    names = drawable_names(suspects.class_names)
    lines = fold_name(suspects.name(i), CAPTION_WIDTH, 7)
    below = SUSPECT_SIDE + 0.04
    for number, line in enumerate(lines):
        sheet.text(x, line, 7, MUTED, drop=below + number * SUSPECT_LINE)
    below += len(lines) * SUSPECT_LINE
    sheet.text(x, fit(names[suspects.labels[i]], CAPTION_WIDTH, 7.5), 7.5, drop=below)
    predicted = _with_name("→ ", names[suspects.predicted[i]], "", CAPTION_WIDTH, 7.5)
    sheet.text(x, predicted, 7.5, color, drop=below + SUSPECT_LINE)


def fold_name(name: str, inches: float, size: float) -> tuple[str, ...]:
    """Return a name in one or two lines, the middle of the second one cut if it is too long.

    Args:
        name: from outside.
        inches: width of the lines.
        size: of the text, in points.

    >>> fold_name("cat/1.jpg", 1.0, 7), len(fold_name("cat/" + "x" * 99, 1.0, 7))
    (('cat/1.jpg',), 2)
    """
    text = drawable(clean(name))
    first = next(n for n in range(len(text), -1, -1) if n <= 1 or text_width(text[:n], size) <= inches)
    return (text,) if first == len(text) else (text[:first], fit(text[first:], inches, size))
