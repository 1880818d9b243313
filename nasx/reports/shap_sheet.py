"""SHAP images side by side: which pixels speak for a class and which against it, rightly or wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from nasx.diagnostics.explanation import ExplainedSample, Explanation, SampleKind
from nasx.reports.canvas import styled
from nasx.reports.sheet import GAP, MARGIN, Sheet, show_image
from nasx.reports.style import DIVERGING, INK, MUTED, VERMILLION, WIDTH
from nasx.reports.wording import shorten

COLUMNS: Final = 10  # of right samples: one a class
HEADING: Final = 0.42  # inches for a section's heading
RIVALRY: Final = HEADING + 0.42  # inches above and below the pictures of a section of rivals


SIDE: Final = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
RIVAL_SIDE: Final = (WIDTH - 2 * MARGIN - 0.9) / 12  # four samples of three pictures, with room between the samples


@styled
def shap_figure(explanation: Explanation, *, title: str = "") -> Figure:
    """Sample images of each class with their SHAP images, then errors and doubtful successes beside their rivals."""
    right = _by_class(explanation.of_kind(SampleKind.RIGHT))
    bands = [right[i : i + COLUMNS] for i in range(0, len(right), COLUMNS)]
    rivalries = [(kind, explanation.of_kind(kind)) for kind in (SampleKind.WRONG, SampleKind.UNSURE)]
    rivalries = [(kind, samples) for kind, samples in rivalries if samples]
    heights = [0.75, *(_band_height(b) for b in bands), *(RIVALRY + RIVAL_SIDE for _ in rivalries)]
    sheet = Sheet(sum(heights) + 0.1)
    _draw_title(sheet, title or "What the decisions rest on: SHAP images")
    sheet.top = 0.75
    if bands:
        sheet.text(MARGIN, "Classified rightly", 9.5, weight="bold")
        sheet.top += 0.24
    for band in bands:
        _draw_band(sheet, band, explanation.class_names)
        sheet.top += _band_height(band)
    for kind, samples in rivalries:
        _draw_rivalries(sheet, kind, samples, explanation.class_names)
        sheet.top += RIVALRY + RIVAL_SIDE
    return sheet.figure


def _by_class(samples: Sequence[ExplainedSample]) -> list[list[ExplainedSample]]:
    groups: dict[int, list[ExplainedSample]] = {}
    for sample in samples:
        groups.setdefault(sample.label, []).append(sample)
    return list(groups.values())


def _band_height(band: Sequence[Sequence[ExplainedSample]]) -> float:
    return 0.2 + max(map(len, band)) * (2 * SIDE + 2 * GAP) + 0.1


def _draw_title(sheet: Sheet, title: str) -> None:
    sheet.top = 0.1
    sheet.text(MARGIN, title, 11.5, weight="bold")
    sheet.text(MARGIN, "Each image beside what its pixels contribute to the logit of a class.", 8, MUTED, drop=0.26)
    bar = sheet.figure.add_axes((1 - 2.05 / WIDTH, 1 - 0.32 / sheet.height, 1.1 / WIDTH, 0.12 / sheet.height))
    sheet.figure.colorbar(ScalarMappable(Normalize(-1, 1), DIVERGING), cax=bar, orientation="horizontal", ticks=[])
    bar.spines[:].set_visible(False)
    bar.text(-0.05, 0.5, "against", transform=bar.transAxes, ha="right", va="center", fontsize=8)
    bar.text(1.05, 0.5, "for the class", transform=bar.transAxes, ha="left", va="center", fontsize=8)


def _draw_band(sheet: Sheet, band: Sequence[Sequence[ExplainedSample]], names: Sequence[str]) -> None:
    """One column a class, each sample above its SHAP image."""
    for column, samples in enumerate(band):
        x = MARGIN + column * (SIDE + GAP)
        sheet.text(x, shorten(names[samples[0].label], 11), 8)
        for row, sample in enumerate(samples):
            drop = 0.18 + row * (2 * SIDE + 2 * GAP)
            show_image(sheet.axes(x, drop, SIDE), sample.image)
            _show_values(sheet.axes(x, drop + SIDE, SIDE), sample, sample.predicted)


def _draw_rivalries(sheet: Sheet, kind: SampleKind, samples: Sequence[ExplainedSample], names: Sequence[str]) -> None:
    """Each sample with the SHAP images of the class that it was taken for and of its rival."""
    is_wrong = kind is SampleKind.WRONG
    heading = "Classified wrongly, with most confidence" if is_wrong else "Classified rightly, with least confidence"
    sheet.text(MARGIN, heading, 9.5, weight="bold")
    for i, sample in enumerate(samples):
        x = MARGIN + i * (3 * RIVAL_SIDE + 0.3)
        (winner, rival) = sample.attributions
        says = f"says {shorten(names[winner], 10)}, {100 * sample.confidence:.0f} %"
        sheet.text(x, says, 8, VERMILLION if is_wrong else INK, drop=0.24)
        drop = HEADING
        show_image(sheet.axes(x, drop, RIVAL_SIDE), sample.image)
        for place, c in enumerate((winner, rival), start=1):
            axes = sheet.axes(x + place * RIVAL_SIDE, drop, RIVAL_SIDE)
            _show_values(axes, sample, c)
            axes.set_xlabel(f"for {shorten(names[c], 8)}", fontsize=7.5, labelpad=2)
        truth = f"is {shorten(names[sample.label], 10)}" if is_wrong else ""
        sheet.text(x, truth, 8, drop=HEADING + RIVAL_SIDE + 0.04)


def _show_values(axes: Axes, sample: ExplainedSample, label: int) -> None:
    """SHAP values of one class over a faint image; the scale is the sample's own, the same for its classes."""
    limit = max(float(np.abs(v).max()) for v in sample.attributions.values()) or 1.0
    values = sample.attributions[label]
    axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
