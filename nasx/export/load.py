"""Load exported models safely, without executing code from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load

from nasx.config.backbone_names import is_code, library_of
from nasx.config.components import build, current_name, load_target
from nasx.diagnostics.confidence import Confidence
from nasx.errors import DataError, NasxError
from nasx.export.deployed import METADATA_KEY, Deployed, Description, read_description
from nasx.export.formats import WRITERS, Inference, missing_package, open_onnx, open_torch, run_module
from nasx.export.untrusted import Outputs, check_model_file, check_normalization, checked_outputs, limited_memory
from nasx.extras import install_command
from nasx.files import find_corruption, read_metadata
from nasx.protocols import HasBackbone

PREFERRED = ("onnx", "safetensors", "torch")  # formats, the safest and fastest first
UNTRUSTED = "is a program of torch, which unpickles it: this can execute any code."
SUFFIXES = {Path(name).suffix: format_name for format_name, (name, _) in WRITERS.items()}
SPACES_PACKAGE = (
    "nasx.spaces."  # a weights file may only name spaces of this package, so that it cannot import anything else
)


@dataclass(frozen=True, eq=False)
class Model:
    """Exported network, loaded."""

    description: Description
    file: Path
    run: Inference  # uint8 images (n, channels, height, width) to (probabilities (n, n_classes), confidence (n,))


def find_model(path: Path, *, trust: bool = False) -> Path:
    """Return the model file at `path`, or the one in the directory `path` that can be opened safely on this machine.

    Order of preference: onnx if its packages are installed, safetensors, and with `trust` .pt2.

    Args:
        path: file or directory of `nasx export`.
        trust: accept a .pt2 file, which can execute code.

    Raises:
        DataError: there is none, or none that can be opened.
    """
    if path.is_dir():
        return _choose(path, trust)
    if not path.exists():
        raise DataError(f"{path} does not exist. Create a model with `nasx export`.")
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} is not an exported model: its name must end in {_either(SUFFIXES)}.")
    if path.suffix == ".pt2" and not trust:
        raise DataError(f"{path} {UNTRUSTED} Use --trust if you trust its origin, or export the model as onnx.")
    return path


def _choose(directory: Path, trust: bool) -> Path:
    found = {name: directory / WRITERS[name][0] for name in PREFERRED if (directory / WRITERS[name][0]).is_file()}
    if not found:
        raise DataError(f"{directory} contains no exported model: {_either(n for n, _ in WRITERS.values())}.")
    obstacles: list[str] = []
    for name, file in found.items():
        if name == "onnx" and (missing := missing_package()):
            obstacles.append(f"{file.name} needs the package {missing}: {install_command('onnx')}")
        elif name == "torch" and not trust:
            obstacles.append(f"{file.name} {UNTRUSTED.rstrip('.')}: use --trust if you trust its origin")
        else:
            return file
    raise DataError(f"{directory} contains no model that can be opened: {'; '.join(obstacles)}.")


def load_model(path: Path, *, trust: bool = False) -> Model:
    """Load the model at `path`, a file or a directory of `nasx export`. Raises DataError if this is impossible.

    No code in the file is executed, except for .pt2: torch unpickles those, so that they need `trust`.
    """
    file = find_model(path, trust=trust)
    load = {"onnx": _load_onnx, "torch": _load_torch, "safetensors": _load_safetensors}[SUFFIXES[file.suffix]]
    check_model_file(file)
    try:
        with limited_memory():
            model = load(file)
            model.run(np.zeros((1, *model.description.shape), dtype=np.uint8))
    except NasxError:
        raise
    except Exception as exc:  # a damaged file: its library may raise anything
        raise DataError(f"{file} cannot be loaded ({reason_of(exc)}). Export the model again.") from exc
    return model


def reason_of(error: Exception) -> str:
    """Return the message of an exception of another library, shortened to one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:160]


def _checked(run: Inference, description: Description) -> Inference:
    """Return a function that raises ValueError if the outputs of `run` do not fit the description."""

    def run_checked(images: NDArray[np.uint8]) -> Outputs:
        return checked_outputs(run(images), len(images), len(description.class_names))

    return run_checked


def _load_onnx(file: Path) -> Model:
    run, text = open_onnx(file)
    description = read_description(text, str(file))
    return Model(description, file, _checked(run, description))


def _load_torch(file: Path) -> Model:
    run, text = open_torch(file)
    description = read_description(text, str(file))
    return Model(description, file, _checked(run, description))


def _load_safetensors(file: Path) -> Model:
    if problem := find_corruption(file, follow=True):
        raise DataError(f"{file} is damaged: {problem}. Export the model again.")
    content = file.read_bytes()  # safetensors itself opens only paths in UTF-8
    description = read_description(read_metadata(content).get(METADATA_KEY), str(file))
    rebuild = description.rebuild
    space: Any = build(checked_space(rebuild["space"], str(file)), "space")
    if isinstance(space, HasBackbone):
        space = space.untrained()  # all weights are in the file
    network = space.build(
        tuple(rebuild["genotype"]), input_shape=description.shape, n_classes=len(description.class_names)
    )
    network.load_state_dict(load(content))
    confidence = Confidence.from_dict(rebuild["confidence"])
    check_normalization(rebuild, description.shape[0])
    deployed = Deployed(network, confidence, mean=rebuild["mean"], std=rebuild["std"]).eval()
    return Model(description, file, _checked(run_module(deployed), description))


def checked_space(node: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    """Return the space of a weights file if it is a class of nasx.spaces with plain settings. Raises DataError.

    Its backbone must be of nasx, timm or torchvision, and is returned without a file of weights, which is not read.
    """
    settings = json.dumps({name: value for name, value in node.items() if name != "_target_"})
    module, _, name = current_name(str(node.get("_target_", ""))).rpartition(".")
    target = load_target({"_target_": f"{module}.{name}"}, "space") if module.startswith(SPACES_PACKAGE) else None
    if "_target_" in settings or not isinstance(target, type) or target.__module__ != module:
        raise DataError(
            f"{file} needs the space {node.get('_target_')}, but a weights file may only name spaces of nasx: "
            "export the model as onnx."
        )
    backbone = node.get("backbone")
    if backbone is None:
        return node
    if not isinstance(backbone, str) or is_code(backbone) or library_of(backbone)[0] == "transformers":
        raise DataError(
            f"{file} needs the backbone {backbone}, but a weights file may only name backbones of nasx, timm and "
            "torchvision: export the model as onnx or torch."
        )
    return {name: value for name, value in node.items() if name != "weights"}


def _either(names: Any) -> str:
    return " or ".join(names)
