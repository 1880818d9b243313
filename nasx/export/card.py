"""Model card of an export: one README.md for all model files of a network, in Markdown. External names are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nasx.diagnostics.class_report import FEW
from nasx.export.deployed import Description
from nasx.export.formats import WRITERS
from nasx.export.source import Source
from nasx.reports.class_tables import class_row, confusion_lines, error_sentence
from nasx.reports.text import clean

PREPROCESSING: Final = "preprocess.py"  # copy of nasx/data/decoding.py, next to the model
SHOWN_CONFUSIONS: Final = 10
# The crop and the antialiased resize of Pillow cannot be reproduced exactly by the operators of ONNX: `Resize`
# has another antialias filter, and no operator decodes files or reads EXIF. So the code itself is shipped.
CODE: Final = {
    "onnx": """\
import sys
from pathlib import Path

import onnxruntime
from preprocess import decode

classes = {classes}
model = onnxruntime.InferenceSession("model.onnx")
for file in sys.argv[1:]:
    image = decode(Path(file), {settings})
    probabilities, confidence = model.run(None, {{"images": image[None]}})
    best = probabilities[0].argmax()
    print(file, classes[best], probabilities[0][best], confidence[0], sep="\\t")""",
    "torch": """\
import sys
from pathlib import Path

import torch
from preprocess import decode

classes = {classes}
model = torch.export.load("model.pt2").module()
for file in sys.argv[1:]:
    image = decode(Path(file), {settings})
    probabilities, confidence = model(torch.from_numpy(image[None].copy()))
    best = probabilities[0].argmax()
    print(file, classes[best], probabilities[0][best].item(), confidence[0].item(), sep="\\t")""",
    "safetensors": """\
import sys

import nasx

found = nasx.load_model("model.safetensors").predict(sys.argv[1:])
for file, name, probabilities, confidence in zip(sys.argv[1:], found.classes, found.probabilities, found.confidence):
    print(file, name, probabilities.max(), confidence, sep="\\t")""",
}
NEEDS: Final = {
    "onnx": "Needs `pip install onnxruntime pillow`, not nasx.",
    "torch": "Needs `pip install torch pillow`, not nasx. torch unpickles such files: do not load files of unknown "
    "origin.",
    "safetensors": "The file contains only weights, without pickle; nasx builds the network from its header.",
}


def model_card(source: Source, format_names: Sequence[str]) -> str:
    """Return the card of a network's exports as Markdown.

    Args:
        source: The exported network.
        format_names: of the model files in the directory: onnx, torch or safetensors.
    """
    description = source.description
    files = ", ".join(f"`{WRITERS[name][0]}`" for name in format_names)
    sections = [
        f"# {_plain(description.dataset)}: {len(description.class_names)} classes",
        f"Network {description.arch_id} in {files}, written by nasx {description.nasx}. {source.origin}",
        "## Use",
        *(_usage(description, name) for name in format_names),
        _input_and_output(source),
        _data(source),
        _figures(source),
        *_classes(source),
        _recipe(source),
        _limits(source),
    ]
    return "\n\n".join(sections) + "\n"


def _usage(description: Description, format_name: str) -> str:
    channels, height, width = description.shape
    settings = f"size=({height}, {width}), channels={channels}"
    if description.value_range is not None:
        settings += f", value_range={_range(description.value_range)}"
    if description.interpolation != "bicubic":  # the default of `decode`
        settings += f', interpolation="{description.interpolation}"'
    code = CODE[format_name].format(classes=[clean(name) for name in description.class_names], settings=settings)
    return f"""\
Class, its probability and the confidence of each image, from `{WRITERS[format_name][0]}`. Save it next to the model as
`classify.py` and run `python classify.py IMAGE...` there. {NEEDS[format_name]}

```python
{code}
```"""


def _input_and_output(source: Source) -> str:
    description = source.description
    channels, height, width = description.shape
    names = ", ".join(_plain(name) for name in description.class_names)
    return f"""\
`nasx predict DIRECTORY IMAGE...` has the same results as this code, as a table, CSV or JSON.

## Input and output

- Input: uint8 images (n, {channels}, {height}, {width}), any n: image, channel, row, column;
  {"gray" if channels == 1 else "red, green, blue"}, 0 to 255. The model normalizes them itself.
- Pictures become such an input by `{PREPROCESSING}`, the code with which the training images were read: turned upright
  by EXIF, transparent pixels on white, cropped to the central {_crop(height, width)}, resized to
  {height} x {width} pixels by {description.interpolation} interpolation. Resizing in another way changes predictions.
- {_values(description)}
- Output: `probabilities` (n, {len(description.class_names)}), and `confidence` (n,).
- Confidence is the probability that the likeliest class is correct, calibrated on {source.n_calibration:,} images that
  were not used for training: of 100 predictions with confidence 0.9, about 90 are correct, on images like those.
- Classes, in order: {names}."""


def _crop(height: int, width: int) -> str:
    return "square" if height == width else f"part of the shape {width}:{height}"


def _values(description: Description) -> str:
    if description.value_range is None:
        return (
            "Pixels of 8 bits are taken as they are. Pixels of 16 bits are scaled by the range that the file declares, "
            "or else by 0 to 65535."
        )
    low, high = description.value_range
    return f"Pixels of more than 8 bits are scaled: {low:g} becomes 0, {high:g} 255. Pixels of 8 bits stay as they are."


def _range(value_range: tuple[float, float]) -> str:
    return f"({value_range[0]:g}, {value_range[1]:g})" if _is_short(value_range) else str(value_range)


def _is_short(value_range: tuple[float, float]) -> bool:
    return all(float(f"{value:g}") == value for value in value_range)


def _data(source: Source) -> str:
    corrections = f"\nCorrected labels: {_plain(source.corrections)}." if source.corrections else ""
    return f"""\
## Data

{_plain(source.description.dataset)}. Its test images were used neither in the search nor for training.{corrections}"""


def _figures(source: Source) -> str:
    rows = "\n".join(f"| {name} | {_plain(value)} |" for name, value in source.facts.items())
    return f"## Figures\n\n| | |\n|--|--|\n{rows}"


def _classes(source: Source) -> list[str]:
    """Return the sections on recall, precision and confusions."""
    report = source.report
    if report is None:
        return [f"## Class by class\n\nUnknown: {source.no_report}"]
    rows = [[_plain(cell) for cell in class_row(report, c)] for c in report.worst_first()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    confusions = "\n".join(f"- {_plain(line)}." for line in confusion_lines(report, SHOWN_CONFUSIONS))
    few = f"\n\n†: of fewer than {FEW} images, so hardly known." if (report.support < FEW).any() else ""
    return [
        f"""\
## Class by class

{error_sentence(report, source.report_image)} Lowest recall first.

| class | images | recall | 95 % interval | precision | most often taken for |
|--|--:|--:|--:|--:|--|
{table}{few}""",
        f"## Known confusions\n\n{confusions or 'None of these images was misclassified.'}",
    ]


def _recipe(source: Source) -> str:
    settings = ", ".join(f"{name} {_plain(str(value))}" for name, value in source.recipe.items())
    return f"## Recipe\n\n{settings}.\n\nArchitecture: `{_code(source.description.architecture)}`"


def _limits(source: Source) -> str:
    description = source.description
    return f"""\
## Limits

- Images of anything else are assigned to one of the {len(description.class_names)} classes, possibly with high
  confidence.
- The figures apply to images like those of {_plain(description.dataset)}, not to other cameras, crops or colors.
- The model sees only the central {_crop(*description.shape[1:])} of a picture, at
  {description.shape[1]} x {description.shape[2]} pixels."""


def _plain(name: str) -> str:
    """Return text on one line, with the characters escaped that are markup in Markdown or HTML."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in clean(name))


def _code(text: str) -> str:
    """Return text on one line, for a code span."""
    return clean(text).replace("`", "'")
