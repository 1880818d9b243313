"""The formats of exported networks: each written, then loaded again and compared with the network that it came from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as save_tensors

from nasx.errors import ResourceError, RunError
from nasx.export.deployed import KEY, Deployed, Description
from nasx.files import seal, write_atomically

TOLERANCE = 1e-4  # between the answers of a file and those of the network, at most
EXTRA = "pip install 'nasx[onnx]'"

Answers = tuple[NDArray[np.float32], NDArray[np.float32]]  # probabilities (n, n_classes), confidence (n,)
Run = Callable[[NDArray[np.uint8]], Answers]


def write_onnx(model: Deployed, description: Description, file: Path) -> None:
    """The model as one ONNX graph with a free number of images. Raises ResourceError where its packages are missing."""
    require_onnx("onnxscript")
    program = _program(model, description)
    with _quiet():
        graph: Any = torch.onnx.export(
            program, dynamo=True, output_names=["probabilities", "confidence"], verbose=False
        )
    graph.model.metadata_props[KEY] = description.to_json()
    write_atomically(file, graph.model_proto.SerializeToString())
    compare(model, open_onnx(file)[0], description, file)


def write_torch(model: Deployed, description: Description, file: Path) -> None:
    """The model as a program of torch.export: torch alone loads it, without the classes that it was made of."""
    buffer = BytesIO()
    with _quiet():
        torch.export.save(_program(model, description), buffer, extra_files={KEY: description.to_json()})
    write_atomically(file, buffer.getvalue())
    compare(model, open_torch(file)[0], description, file)


def write_safetensors(model: Deployed, description: Description, file: Path) -> None:
    """The network's weights alone; `description.rebuild` says of which architecture."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.model.network.state_dict().items()}
    write_atomically(file, seal(save_tensors(tensors, {KEY: description.to_json()})))


def open_onnx(file: Path) -> tuple[Run, str | None]:
    """The function that an ONNX file computes, and what it says of itself."""
    onnxruntime = require_onnx("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    # from memory: a graph that keeps its weights in other files must not have them read
    session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: NDArray[np.uint8]) -> Answers:
        probabilities, confidence = session.run(None, {name: images})
        return probabilities, confidence

    return run, session.get_modelmeta().custom_metadata_map.get(KEY)


def open_torch(file: Path) -> tuple[Run, str | None]:
    """The same of a .pt2 file. torch unpickles such files: never call it on one of unknown origin."""
    extra = {KEY: ""}
    with _quiet():
        program = torch.export.load(file, extra_files=extra).module()
    return run_module(program), extra[KEY]


def run_module(module: torch.nn.Module) -> Run:
    """What a module computes, on arrays."""

    def run(images: NDArray[np.uint8]) -> Answers:
        with torch.no_grad():
            probabilities, confidence = module(torch.from_numpy(images))
        return probabilities.numpy(), confidence.numpy()

    return run


def compare(model: Deployed, run: Run, description: Description, file: Path) -> None:
    """Raise RunError unless the file answers as the model does, to `TOLERANCE`, for one image and for several."""
    rng = np.random.default_rng(0)
    for n in (1, 33):
        images = rng.integers(0, 256, size=(n, *description.shape), dtype=np.uint8)
        expected, got = run_module(model)(images), run(images)
        gap = max(float(np.abs(a - b).max()) for a, b in zip(expected, got, strict=True))
        if not gap <= TOLERANCE:  # NaN is no agreement
            raise RunError(
                f"{file} does not compute what the network computes: its answers to {n} images differ by {gap:.2g}, "
                f"more than {TOLERANCE:g}. Do not use it; try another --format."
            )


def require_onnx(name: str) -> Any:
    """A package of the extra `onnx`. Raises ResourceError naming the command that installs it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        raise ResourceError(f"ONNX needs the package {exc.name}: {EXTRA}, or choose --format torch.") from exc


def _program(model: Deployed, description: Description) -> torch.export.ExportedProgram:
    example = torch.zeros(2, *description.shape, dtype=torch.uint8)  # 2: one image would fix their number
    return torch.export.export(model.cpu().eval(), (example,), dynamic_shapes={"images": {0: torch.export.Dim.DYNAMIC}})


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters without their remarks on packages that are not used and on their own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


WRITERS: dict[str, tuple[str, Callable[[Deployed, Description, Path], None]]] = {
    "onnx": ("model.onnx", write_onnx),
    "torch": ("model.pt2", write_torch),
    "safetensors": ("model.safetensors", write_safetensors),
}
