"""Export of a network: the model file in one format, its description, its preprocessing and its model card."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Final

import nasx
from nasx.errors import NasxError, RunError
from nasx.export.card import PREPROCESSING, model_card
from nasx.export.deployed import DESCRIPTION, Deployed, Description
from nasx.export.formats import WRITERS, check_outputs, require_onnx
from nasx.export.load import checked_space, load_model
from nasx.export.source import Source, find_source
from nasx.files import read_record, write_atomically, write_record
from nasx.places import check_output
from nasx.runs.directory import Place, arch_dir, make_output
from nasx.runs.stored_run import DEFAULT, ReadOptions
from nasx.trial import Trial

CARD: Final = "README.md"
DESCRIPTION_FILE: Final = "model.json"


def export_trial(
    run_dir: Path,
    trial: Trial,
    format_name: str,
    *,
    final: Path | None = None,
    out: Path | None = None,
    options: ReadOptions = DEFAULT,
) -> tuple[list[Path], Source]:
    """Export a network of a run: its final training if there is one, else the weights of the search.

    Args:
        run_dir: Directory of the run.
        trial: Trial of the network.
        format_name: onnx, torch or safetensors.
        final: Directory of the final training; None: the one in `run_dir`.
        out: Destination; None: export/ next to the weights.
        options: How the run and its data are read.

    Returns:
        The files written, the model first, and their source.
    """
    place = Place.of(run_dir)
    check_output(out or run_dir)
    if format_name == "onnx":  # before the slow steps
        require_onnx("onnxscript")
        require_onnx("onnxruntime")
    source = find_source(run_dir, trial, final=final, options=options)
    place.check()
    directory = out or arch_dir(run_dir, trial.arch_id, "export")
    make_output(directory)
    return export(source, format_name, directory), source


def export(source: Source, format_name: str, directory: Path) -> list[Path]:
    """Write a model file, its description, its preprocessing and its model card. The model is loaded and checked.

    A directory has the files of one network, in several formats, and one card for all of them.

    Args:
        source: The network to export.
        format_name: onnx, torch or safetensors.
        directory: Destination.

    Returns:
        The files written, the model first.

    Raises:
        RunError: If the outputs of the loaded model differ from those of the network, or if the directory has model
            files of another network.
    """
    name, write = WRITERS[format_name]
    model = Deployed(source.network, source.confidence, mean=source.mean, std=source.std).eval()
    description = replace(source.description, digest=model.digest())
    others = _other_formats(directory, format_name)
    _check_same_network(directory, description, others)
    if format_name == "safetensors":
        space = checked_space(description.rebuild["space"], name)  # without the place of a file on this machine
        description = replace(description, rebuild={**description.rebuild, "space": dict(space)})
    else:  # the other formats contain the architecture
        description = replace(description, rebuild={})
    files = [directory / each for each in (name, DESCRIPTION_FILE, PREPROCESSING, CARD)]
    write(model, description, files[0])
    if format_name == "safetensors":  # the other writers compare the outputs themselves
        check_outputs(model, load_model(files[0]).run, description, files[0])
    write_record(files[1], description, DESCRIPTION, indent=None)
    write_atomically(files[2], preprocessing().encode())
    present = [each for each in WRITERS if each == format_name or each in others]
    write_atomically(files[3], model_card(source, present).encode())
    return files


def preprocessing() -> str:
    """Return the code that reads image files for a model, which needs only numpy and Pillow."""
    header = f"# Preprocessing of the model in this directory, from nasx {nasx.__version__} (Apache License 2.0).\n"
    return header + resources.files("nasx.data").joinpath("decoding.py").read_text(encoding="utf-8")


def _other_formats(directory: Path, format_name: str) -> list[str]:
    """Return the formats, other than `format_name`, of which the directory has a model file."""
    return [each for each, (file, _) in WRITERS.items() if each != format_name and (directory / file).exists()]


def _check_same_network(directory: Path, description: Description, others: list[str]) -> None:
    """Raise RunError if the directory has model files of another network: a card describes one."""
    if not others:
        return
    try:
        before = read_record(directory / DESCRIPTION_FILE, DESCRIPTION, remedy="")
    except NasxError:  # damaged: it describes nothing
        before = None
    if before is None or before.digest != description.digest:
        which = "an unknown network" if before is None else f"other weights (network {before.arch_id})"
        names = " and ".join(WRITERS[each][0] for each in others)
        raise RunError(
            f"{directory} contains {names} of {which}: a directory and its card are of one network. "
            "Remove the file, or choose another directory with --out."
        )
