"""The pictures that `nasx explain` and `nasx debug` have made of a network, small enough for a page to carry."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

WIDEST = 900  # pixels: nearly twice what a panel is wide
QUALITY = 75  # of WebP, in 0..100

# folder of a network -> file -> what it shows; the names are those of `explanation.py` and `debugging.py`
PICTURES = {
    "explanation": {
        "shap.png": "What its decisions rest on: sample images with what speaks for and against each class",
        "maps.png": "Where the classes lie after each stage",
        "tree.png": "Which classes are alike",
        "activity.png": "How active each block is for each class",
    },
    "diagnostics": {
        "reliability.png": "Can its confidence be trusted? Accuracy against confidence",
        "risk_coverage.png": "Does its doubt find the errors? Errors among the images answered",
        "suspects.png": "The training images whose labels look wrong",
    },
}


@dataclass(frozen=True)
class Picture:
    """A picture as a page carries it."""

    caption: str
    source: str  # data URI
    width: int  # pixels
    height: int


def gallery(directory: Path) -> list[Picture]:
    """The pictures that lie below the directory of one network, in the order of `PICTURES`.

    The cell, the distances and the profile are left out: the page draws them itself.
    """
    return [
        shrink(path, caption)
        for folder, files in PICTURES.items()
        for name, caption in files.items()
        if (path := directory / folder / name).is_file()
    ]


def shrink(path: Path, caption: str) -> Picture:
    """A picture file as WebP of at most `WIDEST` pixels across."""
    with Image.open(path) as image:
        flat = image.convert("RGB")
    flat.thumbnail((WIDEST, 4 * WIDEST), Image.Resampling.HAMMING)  # half the time of LANCZOS, and fewer bytes
    buffer = io.BytesIO()
    flat.save(buffer, "WEBP", quality=QUALITY, method=2)  # method 2 of 6: half the time for 5 % more bytes
    source = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(caption, source, *flat.size)
