"""Load exported models safely, without executing code from them, and classify images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load

from nasx.config.components import build, current_name, load_target
from nasx.config.settings import expand_user
from nasx.data.image_files import is_image_file, read_image
from nasx.diagnostics.confidence import Confidence
from nasx.errors import DataError, NasxError
from nasx.export.deployed import METADATA_KEY, Deployed, Description, read_description
from nasx.export.formats import WRITERS, Inference, open_onnx, open_torch, run_module
from nasx.export.untrusted import Outputs, check_model_file, check_normalization, checked_outputs, limited_memory
from nasx.files import find_corruption, read_metadata

BATCH = 64  # images at a time
SUFFIXES = {Path(name).suffix: format_name for format_name, (name, _) in WRITERS.items()}
SPACES_PACKAGE = (
    "nasx.spaces."  # a weights file may only name spaces of this package, so that it cannot import anything else
)


@dataclass(frozen=True, eq=False)
class Model:
    """Exported network, loaded."""

    description: Description
    run: Inference


@dataclass(frozen=True)
class Prediction:
    """Prediction of a model for one image."""

    file: Path
    label: str | None  # name of the predicted class; None: the image cannot be read
    probability: float | None  # of the predicted class
    confidence: float | None  # calibrated probability that the prediction is correct
    problem: str = ""  # why the image cannot be read


def find_model(path: Path) -> Path:
    """Return the model file at `path`, or in the directory `path`. Raises DataError if there is none."""
    if path.is_dir():
        found = [path / name for name, _ in WRITERS.values() if (path / name).is_file()]
        if not found:
            raise DataError(f"{path} contains no exported model: {_either(n for n, _ in WRITERS.values())}.")
        return found[0]
    if not path.exists():
        raise DataError(f"{path} does not exist. Create a model with `nasx export`.")
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} is not an exported model: its name must end in {_either(SUFFIXES)}.")
    return path


def load_model(path: Path, *, trust: bool = False) -> Model:
    """Load the model at `path`, a file or a directory of `nasx export`. Raises DataError if this is impossible.

    No code in the file is executed, except for .pt2: torch unpickles those, so that they need `trust`.
    """
    file = find_model(path)
    if file.suffix == ".pt2" and not trust:
        raise DataError(
            f"{file} is a program of torch, which unpickles it: this can execute any code. "
            "Use --trust if you trust its origin, or export the model as onnx."
        )
    load = {"onnx": _load_onnx, "torch": _load_torch, "safetensors": _load_safetensors}[SUFFIXES[file.suffix]]
    check_model_file(file)
    try:
        with limited_memory():
            model = load(file)
            model.run(np.zeros((1, *model.description.shape), dtype=np.uint8))
    except NasxError:
        raise
    except Exception as exc:  # a damaged file: its library may raise anything
        raise DataError(f"{file} cannot be loaded ({_reason(exc)}). Export the model again.") from exc
    return model


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]


def _checked(run: Inference, description: Description) -> Inference:
    """Return a function that raises ValueError if the outputs of `run` do not fit the description."""

    def run_checked(images: NDArray[np.uint8]) -> Outputs:
        return checked_outputs(run(images), len(images), len(description.class_names))

    return run_checked


def _load_onnx(file: Path) -> Model:
    run, text = open_onnx(file)
    description = read_description(text, str(file))
    return Model(description, _checked(run, description))


def _load_torch(file: Path) -> Model:
    run, text = open_torch(file)
    description = read_description(text, str(file))
    return Model(description, _checked(run, description))


def _load_safetensors(file: Path) -> Model:
    if problem := find_corruption(file, follow=True):
        raise DataError(f"{file} is damaged: {problem}. Export the model again.")
    content = file.read_bytes()  # safetensors itself opens only paths in UTF-8
    description = read_description(read_metadata(content).get(METADATA_KEY), str(file))
    rebuild = description.rebuild
    space: Any = build(_checked_space(rebuild["space"], file), "space")
    network = space.build(
        tuple(rebuild["genotype"]), input_shape=description.shape, n_classes=len(description.class_names)
    )
    network.load_state_dict(load(content))
    confidence = Confidence.from_dict(rebuild["confidence"])
    check_normalization(rebuild, description.shape[0])
    deployed = Deployed(network, confidence, mean=rebuild["mean"], std=rebuild["std"]).eval()
    return Model(description, _checked(run_module(deployed), description))


def _checked_space(node: Mapping[str, Any], file: Path) -> Mapping[str, Any]:
    """Return the space of a weights file if it is a class of nasx.spaces with plain settings. Raises DataError."""
    settings = json.dumps({name: value for name, value in node.items() if name != "_target_"})
    module, _, name = current_name(str(node.get("_target_", ""))).rpartition(".")
    target = load_target({"_target_": f"{module}.{name}"}, "space") if module.startswith(SPACES_PACKAGE) else None
    if "_target_" in settings or not isinstance(target, type) or target.__module__ != module:
        raise DataError(
            f"{file} needs the space {node.get('_target_')}, but a weights file may only name spaces of nasx: "
            "export the model as onnx."
        )
    return node


def predict(model: Model, files: Sequence[Path]) -> Iterator[Prediction]:
    """Yield the prediction for each image in order; for an image that cannot be read, the reason."""
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        images = [_read(file, model.description) for file in batch]
        pixels = [image for image in images if not isinstance(image, str)]
        outputs = zip(*_run(model, np.stack(pixels)), strict=True) if pixels else iter(())
        for file, image in zip(batch, images, strict=True):
            if isinstance(image, str):
                yield Prediction(file, None, None, None, problem=image)
                continue
            probabilities, confidence = next(outputs)
            best = int(probabilities.argmax())
            yield Prediction(file, model.description.class_names[best], float(probabilities[best]), float(confidence))


def _run(model: Model, pixels: NDArray[np.uint8]) -> Outputs:
    """Return the outputs of a model. Raises DataError if it fails, or if they are not probabilities."""
    try:
        with limited_memory():
            return model.run(pixels)
    except Exception as exc:  # of the library that runs it
        raise DataError(f"the model has no valid outputs for these images ({_reason(exc)}).") from exc


def _read(file: Path, description: Description) -> NDArray[np.uint8] | str:
    """Return the pixels of an image in the shape of the model, or why it cannot be read."""
    channels, height, width = description.shape
    try:
        return read_image(file, size=(height, width), channels=channels)
    except DataError as error:
        return str(error)


def list_images(patterns: Sequence[str]) -> list[Path]:
    """Return the images in paths, folders (at any depth) and globs, each once, in order.

    Paths and globs select files of any name, folders only image files. Raises DataError if a pattern matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = expand_user(Path(pattern), "IMAGE")
        if path.is_dir():
            matches = sorted(child for child in path.rglob("*") if is_image_file(child) and child.is_file())
        elif any(c in pattern for c in "*?[") and not path.exists():
            names = glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob rejects absolute patterns
            matches = sorted(match for match in map(Path, names) if match.is_file())
        else:
            matches = [path]
        if not matches:
            raise DataError(f"{pattern} matches no images.")
        found.update(dict.fromkeys(matches))
    return list(found)


def _either(names: Any) -> str:
    return " or ".join(names)
