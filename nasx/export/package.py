"""Exporting: a network in one format, its description and its card in one directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nasx.export.card import model_card
from nasx.export.formats import WRITERS
from nasx.export.model import Deployed
from nasx.export.source import Source
from nasx.files import write_atomically

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
