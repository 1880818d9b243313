"""Find and load exported files without running anything in them, and predict pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nasx.config.components import build, current_name, load_target
from nasx.data.image_files import is_picture, read_picture
from nasx.errors import DataError, NasxError
from nasx.export.deployed import KEY, Description, read_description
from nasx.export.formats import WRITERS, Run, open_onnx, open_torch, run_module

if TYPE_CHECKING:
    pass

BATCH = 64  # pictures at a time
SUFFIXES = {Path(name).suffix: format_name for format_name, (name, _) in WRITERS.items()}
OURS = "nasx.spaces."  # spaces that a file of weights may name: a file must not choose what is imported


@dataclass(frozen=True, eq=False)
class Model:
    """An exported network, loaded."""

    description: Description
    run: Run


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture."""

    file: Path
    label: str | None  # name of the class; None: the picture cannot be read
    probability: float | None  # of that class
    confidence: float | None  # the chance that it is right
    problem: str = ""  # why it cannot be read


def find_model(path: Path) -> Path:
    """The model file at `path`: itself, or the one in a directory that `nasx export` wrote. Raises DataError."""
    if path.is_dir():
        found = [path / name for name, _ in WRITERS.values() if (path / name).is_file()]
        if not found:
            raise DataError(f"{path} holds no exported model, which is {_either(n for n, _ in WRITERS.values())}.")
        return found[0]
    if not path.exists():
        raise DataError(f"{path} does not exist. `nasx export` makes a model.")
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} is no exported model: its name must end in {_either(SUFFIXES)}.")
    return path


def load_model(path: Path, *, trust: bool = False) -> Model:
    """The model at `path`, a file or a directory of `nasx export`. Raises DataError where it is none, or damaged.

    Nothing in the file is run, but for .pt2: torch unpickles those, so that they need `trust`.
    """
    file = find_model(path)
    if file.suffix == ".pt2" and not trust:
        raise DataError(
            f"{file} is a program of torch, which unpickles it: that can run anything. "
            "Give --trust if you know where it comes from, or export the model as onnx."
        )
    load = {"onnx": _load_onnx, "torch": _load_torch, "safetensors": _load_safetensors}[SUFFIXES[file.suffix]]
    try:
        model = load(file)
        _check_answers(model)
        return model
    except NasxError:
        raise
    except Exception as exc:  # a damaged file: its library may raise anything
        reason = (" ".join(str(exc).split()) or type(exc).__name__)[:160]
        raise DataError(f"{file} cannot be loaded ({reason}). Export the model again.") from exc


def _check_answers(model: Model) -> None:
    """Raise ValueError unless a blank image is answered in the form that the description promises."""
    answers = model.run(np.zeros((1, *model.description.shape), dtype=np.uint8))
    expected = ((1, len(model.description.class_names)), (1,))
    if (got := tuple(answer.shape for answer in answers)) != expected:
        raise ValueError(f"answers of shape {got}, {expected} expected")


def _load_onnx(file: Path) -> Model:
    run, description = open_onnx(file)
    return Model(read_description(description, str(file)), run)


def _load_torch(file: Path) -> Model:
    run, description = open_torch(file)
    return Model(read_description(description, str(file)), run)


def _load_safetensors(file: Path) -> Model:
    from safetensors import safe_open
    from safetensors.torch import load_file

    from nasx.diagnostics.confidence import Confidence
    from nasx.export.deployed import Deployed
    from nasx.files import damage

    if problem := damage(file):
        raise DataError(f"{file} is damaged: {problem}. Export the model again.")
    with safe_open(file, "pt") as opened:
        description = read_description((opened.metadata() or {}).get(KEY), str(file))
    rebuild = description.rebuild
    space: Any = build(_our_space(rebuild["space"], file), "space")
    network = space.build(
        tuple(rebuild["genotype"]), input_shape=description.shape, n_classes=len(description.class_names)
    )
    network.load_state_dict(load_file(file))
    confidence = Confidence.from_dict(rebuild["confidence"])
    return Model(
        description, run_module(Deployed(network, confidence, mean=rebuild["mean"], std=rebuild["std"]).eval())
    )


def _our_space(node: Mapping[str, Any], file: Path) -> Mapping[str, Any]:
    """The space of a file of weights, if it is one of ours with plain settings: nothing else is imported."""
    settings = json.dumps({name: value for name, value in node.items() if name != "_target_"})
    module, _, name = current_name(str(node.get("_target_", ""))).rpartition(".")
    target = load_target({"_target_": f"{module}.{name}"}, "space") if module.startswith(OURS) else None
    if "_target_" in settings or not isinstance(target, type) or target.__module__ != module:
        raise DataError(
            f"{file} is of the space {node.get('_target_')}, which a file of weights may not bring along: "
            "export the model as onnx."
        )
    return node


def predict(model: Model, files: Sequence[Path]) -> Iterator[Answer]:
    """What the model says of each picture, in their order; a picture that cannot be read has its line too."""
    for start in range(0, len(files), BATCH):
        some = files[start : start + BATCH]
        read = [_read(file, model.description) for file in some]
        pixels = [picture for picture in read if not isinstance(picture, str)]
        answers = zip(*model.run(np.stack(pixels)), strict=True) if pixels else iter(())
        for file, picture in zip(some, read, strict=True):
            if isinstance(picture, str):
                yield Answer(file, None, None, None, picture)
                continue
            probabilities, confidence = next(answers)
            best = int(probabilities.argmax())
            yield Answer(file, model.description.class_names[best], float(probabilities[best]), float(confidence))


def _read(file: Path, description: Description) -> NDArray[np.uint8] | str:
    """The picture as the model takes it, or what is wrong with it."""
    channels, height, width = description.shape
    try:
        return read_picture(file, size=(height, width), channels=channels)
    except DataError as error:
        return str(error)


def list_pictures(patterns: Sequence[str]) -> list[Path]:
    """The pictures that paths, folders (at any depth) and globs name, each once, in order.

    A file that is named is taken whatever its name. Raises DataError where a name means nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            some = sorted(child for child in path.rglob("*") if is_picture(child) and child.is_file())
        elif any(c in pattern for c in "*?[") and not path.exists():
            matches = glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
            some = sorted(match for match in map(Path, matches) if match.is_file())
        else:
            some = [path]
        if not some:
            raise DataError(f"{pattern} names no pictures.")
        found.update(dict.fromkeys(some))
    return list(found)


def _either(names: Any) -> str:
    return " or ".join(names)
