"""Page on which a person reviews suspect labels with the keyboard, and saves a file of corrections.

One HTML file that needs no server. It saves the format of `nasx.data.corrections`: names are cells of `csv_cell`.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from nasx.escaping import csv_cell
from nasx.reports.html.run_page import json_in_html
from nasx.reports.page import render
from nasx.reports.text import clean, format_probability

if TYPE_CHECKING:
    from nasx.diagnostics.suspects import Suspects

MAX_BYTES: Final = 5_500_000  # of all images together: 7.3 MB in base64
SIDES: Final = (256, 192, 128, 96, 64, 32)  # pixels, the first at which all images fit
SMALL: Final = 64  # pixels: smaller images are shown as squares
OTHERS: Final = 9  # other classes per image, one per digit
JPEG_QUALITY: Final = 85
Picture = Callable[[int, int], NDArray[np.uint8]]  # index of a suspect and side in pixels -> (channels, height, width)


def review_page(
    suspects: Suspects,
    *,
    title: str,
    key: str,
    command: str,
    limit: int,
    reviewed: Collection[int] = (),
    earlier: Sequence[tuple[str, str, str]] = (),
    picture: Picture | None = None,
) -> str:
    """Return the page of the first suspects as HTML.

    Args:
        suspects: all images, ranked.
        title: of the page.
        key: of this run and network: the browser keeps the review under it.
        command: that uses the corrections.
        limit: number of images on the page.
        reviewed: positions of images in the dataset that are not shown again.
        earlier: (image, action, label) of corrections in use: the saved file has them, too.
        picture: returns an image of a given size; None: the images of the dataset.
    """
    chosen = [i for i in suspects.ranking().tolist() if suspects.position(i) not in reviewed][:limit]
    package = files("nasx.reports") / "html" / "templates" / "review"
    script = (package / "review.js").read_text("utf-8")
    names = [clean(name) for name in suspects.class_names]
    data = {
        "key": key,
        "classes": names,
        "cells": [str(csv_cell(name)) for name in suspects.class_names],
        "items": _items(suspects, chosen, picture),
        "earlier": [[str(csv_cell(cell)) for cell in row] + [""] for row in earlier],
    }
    return render(
        "review.html.jinja",
        title=title,
        command=command,
        style=Markup((package / "review.css").read_text("utf-8")),
        json=Markup(json_in_html(data)),
        script=Markup(script),
        digest=Markup(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
    )


def _items(suspects: Suspects, chosen: Sequence[int], picture: Picture | None) -> list[Mapping[str, Any]]:
    sources = _sources(suspects, chosen, picture)
    return [{**_facts(suspects, i), **source} for i, source in zip(chosen, sources, strict=True)]


def _facts(suspects: Suspects, i: int) -> dict[str, Any]:
    label, predicted, shares = int(suspects.labels[i]), int(suspects.predicted[i]), suspects.probabilities[i]
    return {
        "name": clean(suspects.name(i)),
        "cell": str(csv_cell(suspects.name(i))),
        "label": label,
        "predicted": predicted,
        "labelShare": format_probability(shares[label]),
        "predictedShare": format_probability(shares[predicted]),
        "others": [c for c in np.argsort(-shares, kind="stable").tolist() if c != label][:OTHERS],
    }


def _sources(suspects: Suspects, chosen: Sequence[int], picture: Picture | None) -> list[dict[str, Any]]:
    """Return source and size of each image, in the largest size at which they all fit."""
    for side in SIDES:
        found: list[bytes] = []
        total = 0
        small = []
        for i in chosen:
            pixels = suspects.image(i) if picture is None else picture(i, side)
            small.append(max(pixels.shape[1:]) < SMALL)
            found.append(_encode(pixels, side))
            total += len(found[-1])
            if total > MAX_BYTES and side != SIDES[-1]:
                break
        else:
            return [{"source": _source(content), "small": s} for content, s in zip(found, small, strict=True)]
    raise AssertionError("the smallest size always returns")


def _encode(pixels: NDArray[np.uint8], side: int) -> bytes:
    """Return an image as PNG if it is small, else as JPEG of at most `side` pixels."""
    shown = pixels[0] if len(pixels) < 3 else np.moveaxis(pixels[:3], 0, -1)
    image = Image.fromarray(np.ascontiguousarray(shown))
    image.thumbnail((side, side))
    out = io.BytesIO()
    if max(image.size) < SMALL:
        image.save(out, "PNG")
    else:
        image.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _source(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
