"""Page of `nasx explain --image`: prediction, confidence, and the pixels that speak for it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nasx.diagnostics.explain_image import INPUT, OneImage
from nasx.files import write_atomically
from nasx.reports.figures.image_grid import show_image
from nasx.reports.figures.style import DIVERGING, WIDTH, as_png, styled
from nasx.reports.page import Page, Section, as_html, as_markdown
from nasx.reports.text import clean

MAPS: Final = "maps.png"
SHOWN: Final = 3  # classes named at each stage
COLUMNS: Final = 5


def tell_image(found: OneImage, arch_id: str) -> Page:
    """One image in words."""
    names, answer = found.class_names, found.answer
    order = np.argsort(-found.probabilities, kind="stable")
    likely = "; ".join(f"{clean(names[c])} {percent(found.probabilities[c])}" for c in order[:SHOWN])
    facts = [
        ("image", clean(found.name)),
        ("answer", clean(names[answer])),
        ("confidence", f"{percent(found.confidence)}: so many of 100 answers as sure as this one are right"),
        ("likeliest", likely),
    ]
    if found.label is not None:
        verdict = "as answered" if found.label == answer else "the answer is wrong"
        facts.insert(2, ("true class", f"{clean(names[found.label])} ({verdict})"))
    return Page(f"Network {arch_id}: one image", tuple(facts), (_maps(found), _nearest(found)))


def percent(share: float) -> str:
    """A chance, never rounded to certainty.

    >>> percent(0.934), percent(0.9999), percent(0.0001)
    ('93.4 %', 'over 99.9 %', 'under 0.1 %')
    """
    if share > 0.999:
        return "over 99.9 %"
    return "under 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def _maps(found: OneImage) -> Section:
    text = (
        f"What speaks for {clean(found.class_names[found.answer])} (orange) and against it (blue), by SHAP values "
        "measured against training images: pixel by pixel, then place by place as later stages see them."
    )
    return Section("What the answer rests on", (text,), picture=MAPS, alt="SHAP values at the input and at each stage")


def _nearest(found: OneImage) -> Section:
    names = found.class_names
    rows = []
    for stage, distances in found.distances.items():
        nearest = np.argsort(distances, kind="stable")[:SHOWN]
        rows.append((stage, *(f"{clean(names[c])} ({distances[c]:.3f})" for c in nearest)))
    first = next((stage for stage, d in found.distances.items() if int(d.argmin()) == found.answer), None)
    told = f"It first lies nearest to the class answered at {first}." if first else "At no stage is that the answer."
    text = f"Cosine distance of its channels to those of a class's average validation image, the nearest first. {told}"
    places = ("nearest", "second", "third")[: len(rows[0]) - 1]
    return Section("Which classes it resembles, stage by stage", (text,), table=(("stage", *places), *rows))


@styled
def maps_figure(found: OneImage) -> Figure:
    """The image, then the SHAP values of the answer over it: at the input and at each probe layer."""
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
        _draw_values(axes, found.image, values)
        axes.set_title("pixels" if layer == INPUT else layer, fontsize=9.5, fontweight="normal")
    return figure


def _draw_values(axes: Axes, image: NDArray[np.uint8], values: NDArray[np.float64]) -> None:
    """Values over a pale image; each map has a scale of its own, since layers differ in theirs."""
    height, width = image.shape[1:]
    limit = float(np.abs(values).max()) or 1.0
    grey = 255 - (255 - image[:3].mean(axis=0)) * 0.35
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, alpha=0.75, extent=extent, interpolation="nearest")


def write_image(found: OneImage, arch_id: str, directory: Path) -> tuple[Page, list[Path]]:
    """Draw and write everything into `directory`; returns the page and the files. Raises ResourceError."""
    page = tell_image(found, arch_id)
    pictures = {MAPS: as_png(maps_figure(found))}
    contents = {**pictures, "image.md": as_markdown(page).encode(), "image.html": as_html(page, pictures).encode()}
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return page, [directory / name for name in contents]
