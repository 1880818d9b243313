"""Formats of exported networks: writing, loading, and comparison of the loaded model with the network."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as save_tensors

from nasx.errors import ResourceError, RunError
from nasx.export.deployed import METADATA_KEY, Deployed, Description
from nasx.export.untrusted import (
    MAX_BYTES,
    MAX_SECONDS,
    Outputs,
    check_model_file,
    check_program,
    checked_onnx,
    stopped_after,
)
from nasx.extras import install_command
from nasx.files import add_checksum, read_bounded, write_atomically
from nasx.networks.onnx_writer import onnx_bytes, quiet_exporters

TOLERANCE = 1e-4  # largest difference between the outputs of a file and those of the network

Inference = Callable[[NDArray[np.uint8]], Outputs]


def write_onnx(model: Deployed, description: Description, file: Path) -> None:
    """Write the model as one ONNX graph for any number of images.

    Args:
        model: The model.
        description: Stored in the metadata of the file.
        file: Destination.

    Raises:
        ResourceError: If the packages of the extra `onnx` are missing.
        RunError: If the outputs of the file differ from those of the model.
    """
    require_onnx("onnxscript")
    program = _program(model, description)
    content = onnx_bytes(program, ("probabilities", "confidence"), {METADATA_KEY: description.to_json()})
    write_atomically(file, content)
    check_outputs(model, open_onnx(file)[0], description, file)


def write_torch(model: Deployed, description: Description, file: Path) -> None:
    """Write the model as a program of torch.export, which torch loads without the classes of nasx.

    Args:
        model: The model.
        description: Stored in the file.
        file: Destination.

    Raises:
        RunError: If the outputs of the file differ from those of the model.
    """
    buffer = BytesIO()
    with quiet_exporters():
        torch.export.save(_program(model, description), buffer, extra_files={METADATA_KEY: description.to_json()})
    write_atomically(file, buffer.getvalue())
    check_outputs(model, open_torch(file)[0], description, file)


def write_safetensors(model: Deployed, description: Description, file: Path) -> None:
    """Write the weights of the network.

    Args:
        model: The model.
        description: Stored in the header of the file; `rebuild` contains the architecture.
        file: Destination.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.model.network.state_dict().items()}
    write_atomically(file, add_checksum(save_tensors(tensors, {METADATA_KEY: description.to_json()})))


def open_onnx(file: Path) -> tuple[Inference, str | None]:
    """Return the function that an ONNX file computes, and the text of its description.

    Raises ValueError for a graph that needs anything but itself.
    """
    onnxruntime = require_onnx("onnxruntime")
    model = checked_onnx(require_onnx("onnx"), read_bounded(file, MAX_BYTES, follow=True))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as exceptions
    session = onnxruntime.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["ConstantFolding"],  # it runs parts of the graph, which cannot be stopped
    )
    (given,) = session.get_inputs()

    def run(images: NDArray[np.uint8]) -> Any:
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        with stopped_after(MAX_SECONDS, lambda: setattr(options, "terminate", True)):
            return session.run(None, {given.name: images}, options)

    return run, session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)


def open_torch(file: Path) -> tuple[Inference, str | None]:
    """Return the same for a .pt2 file. torch unpickles such files: do not open files of unknown origin."""
    check_model_file(file)
    check_program(file)
    extra = {METADATA_KEY: ""}
    with quiet_exporters():
        program = torch.export.load(BytesIO(file.read_bytes()), extra_files=extra).module()
    return run_module(program), extra[METADATA_KEY]


def run_module(module: torch.nn.Module) -> Inference:
    """Return the function that a module computes, on arrays."""

    def run(images: NDArray[np.uint8]) -> Outputs:
        with torch.no_grad():
            probabilities, confidence = module(torch.from_numpy(images))
        return probabilities.numpy(), confidence.numpy()

    return run


def check_outputs(model: Deployed, run: Inference, description: Description, file: Path) -> None:
    """Raise RunError if outputs of a file and of the model differ by more than `TOLERANCE`, for one or several images.

    Args:
        model: The model.
        run: Function that the file computes.
        description: Contains the shape of an image.
        file: The file, for the error message.
    """
    rng = np.random.default_rng(0)
    for n in (1, 33):
        images = rng.integers(0, 256, size=(n, *description.shape), dtype=np.uint8)
        expected, received = run_module(model)(images), run(images)
        gap = max(float(np.abs(a - b).max()) for a, b in zip(expected, received, strict=True))
        if not gap <= TOLERANCE:  # also if the gap is NaN
            raise RunError(
                f"{file} and the network have different outputs: for {n} images they differ by {gap:.2g}, "
                f"more than {TOLERANCE:g}. Do not use the file; try another --format."
            )


def missing_package() -> str:
    """Return the name of a package that is missing to run ONNX files; "": they can be run."""
    return next((name for name in ("onnx", "onnxruntime") if find_spec(name) is None), "")


def require_onnx(name: str) -> Any:
    """Import a package of the extra `onnx`. Raises ResourceError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        raise ResourceError(
            f"ONNX needs the package {exc.name}: {install_command('onnx')}, or use another format, e.g. safetensors."
        ) from exc


def _program(model: Deployed, description: Description) -> torch.export.ExportedProgram:
    example = torch.zeros(2, *description.shape, dtype=torch.uint8)  # 2 images: with 1, torch fixes the batch size
    shapes = {"images": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(model.cpu().eval(), (example,), dynamic_shapes=shapes)
    for node in program.graph_module.graph.nodes:
        for name in ("stack_trace", "from_node", "source_fn_stack"):  # with paths of this machine
            node.meta.pop(name, None)
    return program


# name of the format -> name of the file, function that writes it
WRITERS: dict[str, tuple[str, Callable[[Deployed, Description, Path], None]]] = {
    "onnx": ("model.onnx", write_onnx),
    "torch": ("model.pt2", write_torch),
    "safetensors": ("model.safetensors", write_safetensors),
}
