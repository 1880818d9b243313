"""Export a network: the file in one format, its description, and its model card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nasx.export.deployed import Deployed
from nasx.export.formats import WRITERS
from nasx.export.source import Source
from nasx.files import write_atomically
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
    about = json.loads(file.metadata()["nasx"])  # architecture, classes, normalisation, confidence
    weights = {{name: file.get_tensor(name) for name in file.keys()}}""",
}
NOTES = {
    "onnx": "The file takes uint8 pixels and does the normalisation itself; any number of images at a time.",
    "torch": "The file takes uint8 pixels and does the normalisation itself; torch unpickles such files: "
    "load none of unknown origin.",
    "safetensors": "These are weights alone: to classify, `nasx predict` builds the network around them.",
}


def model_card(source: Source, format_name: str, file: str) -> str:
    """The card of an exported file as Markdown. Names from outside are made harmless."""
    described = source.description
    channels, height, width = described.shape
    names = [_plain(name) for name in described.class_names]
    code = LOADING[format_name].format(
        mode="L" if channels == 1 else "RGB",
        width=width,
        height=height,
        to_batch="[None, None]" if channels == 1 else ".transpose(2, 0, 1)[None]",
        classes=[clean(name) for name in described.class_names],
    )
    figures = "\n".join(f"| {name} | {value} |" for name, value in source.facts.items())
    recipe = ", ".join(f"{name} {value}" for name, value in source.recipe.items())
    return f"""\
# {described.arch_id}: {described.dataset} in {len(names)} classes

`{file}`, written by nasx {described.nasx}. {source.origin}

## Use

```python
{code}
```

{NOTES[format_name]}

- Input: uint8 images (n, {channels}, {height}, {width}), 0 to 255: {"grey" if channels == 1 else "red, green, blue"}.
- Output: probabilities (n, {len(names)}), and confidence (n,): the chance that the likeliest class is right.
- Classes, in order: {", ".join(names)}.

## Data

{described.dataset}. Its test images took no part in the search, nor in training.
The confidence was fitted to {source.n_calibration:,} images on which the network was not trained.

## Figures

| | |
|--|--|
{figures}

## Recipe

{recipe}.

Architecture: `{described.architecture}`

## Limits

- It knows {len(names)} classes: a picture of anything else is given one of them, and confidence need not tell.
- Figures hold for images like those of {described.dataset}; other cameras, crops or colours are another task.
- Pictures of other sizes must be resized to {height} x {width} pixels; `nasx predict` cuts what juts out first.
"""


def _plain(name: str) -> str:
    """A class name on one line, without what Markdown or HTML would take for its own."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in clean(name))


CARD = "README.md"
DESCRIPTION = "model.json"


def export(source: Source, format_name: str, directory: Path) -> list[Path]:
    """Write the model (`onnx`, `torch` or `safetensors`), its description and its card; returns the files.

    A model that computes is loaded again and compared with the network. Raises RunError where they differ.
    """
    name, write = WRITERS[format_name]
    model = Deployed(source.network, source.confidence, mean=source.mean, std=source.std).eval()
    description = source.description
    if format_name != "safetensors":  # the others are whole: nothing is rebuilt from them
        description = replace(description, rebuild={})
    files = [directory / name, directory / DESCRIPTION, directory / CARD]
    write(model, description, files[0])
    write_atomically(files[1], (description.to_json() + "\n").encode())
    write_atomically(files[2], model_card(source, format_name, name).encode())
    return files
