"""Page of `nasx explain --sample`: prediction, confidence, and evidence for the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nasx.diagnostics.explain_image import INPUT, ImageExplanation
from nasx.files import write_atomically
from nasx.reports.figures.image_grid import draw_values, show_image, squares_in_words, summed
from nasx.reports.figures.names import fit
from nasx.reports.figures.style import DIVERGING, WIDTH, as_png, styled
from nasx.reports.page import Page, Section, as_html, as_markdown
from nasx.reports.text import clean, format_probability

FIGURE: Final = "maps.png"
SHOWN_CLASSES: Final = 3  # classes named at each stage
COLUMNS: Final = 5
OPACITY: Final = 0.75  # of values over the image


def image_page(found: ImageExplanation, arch_id: str, known: Sequence[tuple[str, str]] = ()) -> Page:
    """Return the texts and tables of the explanation of one image."""
    names, predicted = found.class_names, found.predicted
    order = np.argsort(-found.probabilities, kind="stable")
    likely = "; ".join(f"{clean(names[c])} {format_probability(found.probabilities[c])}" for c in order[:SHOWN_CLASSES])
    facts = [
        ("image", clean(found.name)),
        ("prediction", clean(names[predicted])),
        ("confidence", f"{format_probability(found.confidence)} of such predictions are correct (calibrated)"),
        ("most likely", likely),
    ]
    if found.label is not None:
        verdict = "correct" if found.label == predicted else "the prediction is incorrect"
        facts.insert(2, ("true class", f"{clean(names[found.label])} ({verdict})"))
    return Page(f"Network {arch_id}: one image", (*facts, *known), (_maps(found), _nearest(found)))


def _maps(found: ImageExplanation) -> Section:
    text = (
        f"SHAP values for {clean(found.class_names[found.predicted])}: orange is evidence for it, blue against it, "
        "with training images as the background. First for each pixel, then for each position in the later stages."
        + squares_in_words(*found.image.shape[1:])
    )
    return Section(
        "Evidence for the prediction", (text,), figure=FIGURE, alt="SHAP values at the input and at each stage"
    )


def _nearest(found: ImageExplanation) -> Section:
    names = found.class_names
    rows = []
    for stage, distances in found.distances.items():
        nearest = np.argsort(distances, kind="stable")[:SHOWN_CLASSES]
        rows.append((stage, *(f"{clean(names[c])} ({distances[c]:.3f})" for c in nearest)))
    first = next((stage for stage, d in found.distances.items() if int(d.argmin()) == found.predicted), None)
    place = f"is first the nearest at {first}" if first else "is the nearest at no stage"
    text = (
        "Cosine distance of its channel means to those of the mean validation image of each class. "
        f"The predicted class {place}."
    )
    places = ("nearest", "second", "third")[: len(rows[0]) - 1]
    return Section("Most similar classes at each stage", (text,), table=(("stage", *places), *rows))


@styled
def maps_figure(found: ImageExplanation) -> Figure:
    """Draw the image, then the SHAP values of the prediction over it: at the input and at each probe layer."""
    n = 1 + len(found.maps)
    rows = -(-n // COLUMNS)
    columns = min(n, COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.15 + rows * (WIDTH / columns + 0.25)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    show_image(panels[0], found.image)
    panels[0].set_title("the image", fontsize=9.5, fontweight="normal")
    for axes, (layer, values) in zip(panels[1:], found.maps.items(), strict=False):
        _show_pale(axes, found.image)
        if layer == INPUT:
            draw_values(axes, values, float(np.abs(summed(values)).max()) or 1.0, alpha=OPACITY)
        else:
            _draw_map(axes, found.image, values)
        name = "pixels" if layer == INPUT else fit(layer, WIDTH / columns - 0.3, 9.5)
        axes.set_title(name, fontsize=9.5, fontweight="normal")
    return figure


def _show_pale(axes: Axes, image: NDArray[np.uint8]) -> None:
    """Draw an image in pale gray, as the background of values."""
    gray = 255 - (255 - image[:3].mean(axis=0)) * 0.35
    axes.imshow(gray, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def _draw_map(axes: Axes, image: NDArray[np.uint8], values: NDArray[np.float64]) -> None:
    """Draw the values of the positions of a stage over the image; each map has its own scale, as stages differ."""
    height, width = image.shape[1:]
    limit = float(np.abs(values).max()) or 1.0
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, alpha=OPACITY, extent=extent, interpolation="nearest")


def write_image(
    found: ImageExplanation, arch_id: str, directory: Path, *, known: Sequence[tuple[str, str]] = ()
) -> tuple[Page, list[Path]]:
    """Write the page and its figure into `directory`; return the page and the files.

    Args:
        found: the explanation of one image.
        arch_id: of the network.
        directory: created if it does not exist.
        known: further facts, e.g. about the data.

    Raises:
        ResourceError: the disk is full.
    """
    page = image_page(found, arch_id, known)
    figures = {FIGURE: as_png(maps_figure(found))}
    contents = {**figures, "image.md": as_markdown(page).encode(), "image.html": as_html(page, figures).encode()}
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return page, [directory / name for name in contents]
