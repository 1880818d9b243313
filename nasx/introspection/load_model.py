"""Load a user's own model: a named function builds it, a file holds its weights; nothing in that file is run."""

from __future__ import annotations

import importlib
import pickle
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nasx.errors import ConfigError, DataError, did_you_mean
from nasx.files import find_corruption

if TYPE_CHECKING:
    pass

_FACTORY_FORMAT = "module:factory, e.g. my_models:resnet"
_STATE_DICT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
)  # under which training loops keep the weights among other things


def load_model(factory: str, weights: Path | None = None) -> nn.Module:
    """The model that `factory`, "module:function", gives when called without arguments, with `weights` loaded.

    The module is looked for as an import statement would, last in the current directory. `weights`: a safetensors file,
    or a state_dict written by torch.save, whose parameters must be the model's, all of them and none besides.
    Raises ConfigError where there is no such model, DataError where the file is no such weights.
    """
    model = _call(_import(factory), factory)
    if weights is not None:
        load_state(model, weights)
    return model.eval()


def load_state(model: nn.Module, weights: Path) -> None:
    """Load a file of weights strictly. Raises DataError naming the first parameter that does not fit."""
    state, expected = read_state(weights), model.state_dict()
    for name, found in state.items():
        if name not in expected:
            raise DataError(f"{weights}: the model has no {name!r}. {did_you_mean(name, expected)}".rstrip())
        if found.shape != expected[name].shape:
            shapes = f"{tuple(found.shape)} in the file, {tuple(expected[name].shape)} in the model"
            raise DataError(f"{weights}: {name} is {shapes}")
    if missing := [name for name in expected if name not in state]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{weights} lacks {missing[0]!r}{more} of the model's parameters")
    model.load_state_dict(state)


def read_state(weights: Path) -> dict[str, Tensor]:
    """The tensors in a file of weights, by name. Raises DataError; whatever the file holds, nothing of it is run."""
    if not weights.is_file():
        raise DataError(f"{weights} does not exist: --weights takes a .safetensors file, or one by torch.save")
    if weights.suffix == ".safetensors":
        from safetensors.torch import load_file

        if problem := find_corruption(weights):
            raise DataError(f"{weights} cannot be used: {problem}")
        return load_file(weights)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's remarks on the pickle that it refuses below
            state: Any = torch.load(weights, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise DataError(
            f"{weights} holds Python objects, which loading would run, or is no file of torch.save: "
            "write the weights alone, torch.save(model.state_dict(), FILE)"
        ) from exc
    except (RuntimeError, EOFError, ValueError, LookupError) as exc:
        raise DataError(f"{weights} is no whole file of torch.save: {' '.join(str(exc).split())}") from exc
    if isinstance(state, Mapping):
        state = next((state[key] for key in _STATE_DICT_KEYS if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{weights} holds no state_dict: write one with torch.save(model.state_dict(), FILE)")
    return dict(state)


def _import(factory: str) -> Any:
    module_name, _, name = factory.partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", factory):
        raise ConfigError(f"a model is named as {_FACTORY_FORMAT}; got {factory!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as exc:  # whatever the user's module raises
        if isinstance(exc, ModuleNotFoundError) and exc.name and f"{module_name}.".startswith(f"{exc.name}."):
            raise ConfigError(f"there is no module {exc.name!r}: install it, or run nasx where it lies") from exc
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
    except Exception as exc:  # whatever the user's factory raises
        raise ConfigError(f"{factory} failed when called without arguments: {_on_one_line(exc)}") from exc
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{factory} must give a torch.nn.Module, got a {type(model).__name__}")
    return model


def _on_one_line(exc: Exception) -> str:
    """An exception on one line."""
    return f"{type(exc).__name__}: {' '.join(str(exc).split())}".rstrip(": ")
