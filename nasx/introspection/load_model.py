"""Load a user's model: a named function builds it, and a file contains its weights. Code in that file is never run."""

from __future__ import annotations

import importlib
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasx.errors import ConfigError, DataError, did_you_mean
from nasx.files import check_archive, find_corruption

_FACTORY_FORMAT = "module:factory, e.g. my_models:resnet"
_STATE_DICT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
)  # common keys of the weights in checkpoints


def load_model(factory: str, weights: Path | None = None) -> nn.Module:
    """Return the model that `factory` builds, in evaluation mode, with `weights` loaded.

    Args:
        factory: "module:function"; the function is called without arguments. The module is imported as usual, with the
            current directory searched last.
        weights: a .safetensors file, or a state_dict written by torch.save, with exactly the model's parameters.

    Raises:
        ConfigError: if the model cannot be built.
        DataError: if the file cannot be read or does not fit the model.
    """
    model = _call(find_factory(factory), factory)
    if weights is not None:
        load_state(model, weights)
    return model.eval()


def load_state(model: nn.Module, weights: Path, *, unused: tuple[str, ...] = ()) -> None:
    """Load a file of weights.

    Args:
        model: network.
        weights: a .safetensors file, or a state_dict written by torch.save.
        unused: names of modules whose parameters are not needed, e.g. a classifier for other classes.

    Raises:
        DataError: for the first parameter that is unknown, missing or of another shape, or if the file is damaged.
    """
    prefixes = tuple(f"{name}." for name in unused)
    state = {name: found for name, found in read_state(weights).items() if not name.startswith(prefixes)}
    expected = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(prefixes)}
    for name, found in state.items():
        if name not in expected:
            raise DataError(f"{weights}: the model has no {name!r}. {did_you_mean(name, expected)}".rstrip())
        if found.shape != expected[name].shape:
            shapes = f"{tuple(found.shape)} in the file, {tuple(expected[name].shape)} in the model"
            raise DataError(f"{weights}: {name} is {shapes}")
    if missing := [name for name in expected if name not in state]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"{weights}: parameter {missing[0]!r}{more} of the model is missing")
    try:
        model.load_state_dict(state, strict=not unused)
    except (RuntimeError, TypeError, NotImplementedError) as exc:  # e.g. sparse or quantized tensors
        raise DataError(f"{weights} cannot be copied into the model: {_on_one_line(exc)}") from exc


def read_state(weights: Path) -> dict[str, Tensor]:
    """Return the tensors in a file of weights, by name, without running any code in it. Raises DataError."""
    if not weights.is_file():
        state_of_it = "is not a file" if weights.exists() else "does not exist"
        raise DataError(f"{weights} {state_of_it}: weights must be a .safetensors file or a file of torch.save")
    if weights.suffix == ".safetensors":
        from safetensors.torch import load  # not needed for other files

        if problem := find_corruption(weights, follow=True):
            raise DataError(f"{weights} cannot be used: {problem}")
        return load(weights.read_bytes())  # safetensors itself opens only paths in UTF-8
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns about the pickles that it rejects below
            if zipfile.is_zipfile(weights):  # older files of torch are none
                check_archive(weights)
            state: Any = torch.load(weights, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise DataError(
            f"{weights} contains Python objects, which could run code, or is not a file of torch.save: "
            "save only the weights, torch.save(model.state_dict(), FILE)"
        ) from exc
    except Exception as exc:  # a damaged file: torch may raise anything
        raise DataError(f"{weights} is damaged or not a file of torch.save: {_on_one_line(exc)}") from exc
    if isinstance(state, Mapping):
        state = next((state[key] for key in _STATE_DICT_KEYS if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{weights} contains no state_dict: save one with torch.save(model.state_dict(), FILE)")
    return dict(state)


def find_factory(factory: str) -> Any:
    """Import a module and return its object named by "module:function". Raises ConfigError."""
    module_name, _, name = factory.partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", factory):
        raise ConfigError(f"a model must be given as {_FACTORY_FORMAT}; got {factory!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as exc:  # the user's module may raise anything
        if isinstance(exc, ModuleNotFoundError) and exc.name and f"{module_name}.".startswith(f"{exc.name}."):
            raise ConfigError(f"there is no module {exc.name!r}: install it, or run nasx in its directory") from exc
        raise ConfigError(f"importing {module_name} failed: {_on_one_line(exc)}") from exc
    for part in name.split("."):
        if not hasattr(found, part):
            public = [known for known, value in vars(found).items() if callable(value) and not known.startswith("_")]
            raise ConfigError(f"{module_name} has no {name!r}. {did_you_mean(part, public)}".rstrip())
        found = getattr(found, part)
    return found


def _call(found: Any, factory: str) -> nn.Module:
    try:
        model = found if isinstance(found, nn.Module) else found()
    except Exception as exc:  # the user's factory may raise anything
        raise ConfigError(f"{factory} failed when called without arguments: {_on_one_line(exc)}") from exc
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{factory} must return a torch.nn.Module, got a {type(model).__name__}")
    return model


def _on_one_line(exc: Exception) -> str:
    """Return the class and the message of an exception on one line."""
    return f"{type(exc).__name__}: {' '.join(str(exc).split())}".rstrip(": ")
