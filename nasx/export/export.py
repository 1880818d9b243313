"""Export of a network: the model file in one format, its description and its model card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nasx.export.deployed import DESCRIPTION, Deployed
from nasx.export.formats import WRITERS
from nasx.export.source import Source
from nasx.files import write_atomically, write_record
from nasx.reports.text import clean

LOADING = {
    "onnx": """\
import numpy as np, onnxruntime
from PIL import Image
image = np.asarray(Image.open("image.png").convert("{mode}").resize(({width}, {height}))){to_batch}
probabilities, confidence = onnxruntime.InferenceSession("model.onnx").run(None, {{"images": image}})
print({classes}[probabilities[0].argmax()], probabilities[0].max(), confidence[0])""",
    "torch": """\
import numpy as np, torch
from PIL import Image
image = np.asarray(Image.open("image.png").convert("{mode}").resize(({width}, {height}))){to_batch}.copy()
probabilities, confidence = torch.export.load("model.pt2").module()(torch.from_numpy(image))
print({classes}[probabilities[0].argmax()], probabilities[0].max().item(), confidence[0].item())""",
    "safetensors": """\
import json
from safetensors import safe_open
with safe_open("model.safetensors", "pt") as file:
    about = json.loads(file.metadata()["nasx"])  # architecture, classes, normalization, confidence
    weights = {{name: file.get_tensor(name) for name in file.keys()}}""",
}
NOTES = {
    "onnx": "The model takes any number of images as uint8 pixels, and normalizes them itself.",
    "torch": "The model takes uint8 pixels and normalizes them itself. torch unpickles such files: "
    "do not load files of unknown origin.",
    "safetensors": "The file contains only weights: `nasx predict` builds the network from its header.",
}


def model_card(source: Source, format_name: str, file: str) -> str:
    """Return the model card of an exported file as Markdown. External names are escaped.

    Args:
        source: The exported network.
        format_name: onnx, torch or safetensors.
        file: Name of the model file.
    """
    description = source.description
    channels, height, width = description.shape
    names = [_plain(name) for name in description.class_names]
    code = LOADING[format_name].format(
        mode="L" if channels == 1 else "RGB",
        width=width,
        height=height,
        to_batch="[None, None]" if channels == 1 else ".transpose(2, 0, 1)[None]",
        classes=[clean(name) for name in description.class_names],
    )
    figures = "\n".join(f"| {name} | {value} |" for name, value in source.facts.items())
    recipe = ", ".join(f"{name} {value}" for name, value in source.recipe.items())
    return f"""\
# {description.arch_id}: {_plain(description.dataset)} in {len(names)} classes

`{file}`, written by nasx {description.nasx}. {source.origin}

## Use

```python
{code}
```

{NOTES[format_name]}

- Input: uint8 images (n, {channels}, {height}, {width}), 0 to 255: {"gray" if channels == 1 else "red, green, blue"}.
- Output: probabilities (n, {len(names)}), and confidence (n,): the probability that the likeliest class is correct.
- Classes, in order: {", ".join(names)}.

## Data

{_plain(description.dataset)}. Its test images were used neither in the search nor for training.
The confidence was calibrated on {source.n_calibration:,} images that were not used for training.

## Figures

| | |
|--|--|
{figures}

## Recipe

{recipe}.

Architecture: `{_code(description.architecture)}`

## Limits

- Images of anything else are assigned to one of the {len(names)} classes, possibly with high confidence.
- The figures apply to images like those of {_plain(description.dataset)}, not to other cameras, crops or colors.
- Images of other sizes must be resized to {height} x {width} pixels; `nasx predict` crops to this aspect ratio first.
"""


def _plain(name: str) -> str:
    """Return text on one line, with the characters escaped that are markup in Markdown or HTML."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in clean(name))


def _code(text: str) -> str:
    """Return text on one line, for a code span."""
    return clean(text).replace("`", "'")


CARD = "README.md"
DESCRIPTION_FILE = "model.json"


def export(source: Source, format_name: str, directory: Path) -> list[Path]:
    """Write a model file, its description and its model card. Models other than safetensors are loaded and checked.

    Args:
        source: The network to export.
        format_name: onnx, torch or safetensors.
        directory: Destination.

    Returns:
        The files written, the model first.

    Raises:
        RunError: If the outputs of the loaded model differ from those of the network.
    """
    name, write = WRITERS[format_name]
    model = Deployed(source.network, source.confidence, mean=source.mean, std=source.std).eval()
    description = source.description
    if format_name != "safetensors":  # the other formats contain the architecture
        description = replace(description, rebuild={})
    files = [directory / name, directory / DESCRIPTION_FILE, directory / CARD]
    write(model, description, files[0])
    write_record(files[1], description, DESCRIPTION, indent=None)
    write_atomically(files[2], model_card(source, format_name, name).encode())
    return files
