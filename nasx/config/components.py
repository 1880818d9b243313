"""Build components from their part of a config, each value checked against the signature of the class.

A component is any class. The config names it by `_target_`; the other keys are its constructor's keyword arguments.
Types are checked by pydantic as JSON in strict mode: a list becomes a tuple, text a path, a mapping a dataclass, but
"3" never an integer. Errors name the full key: `dataset.augmentation.cutout`.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from nasx.config.settings import construct, full_key, yaml_text
from nasx.errors import ConfigError, did_you_mean

TARGET = "_target_"
# What a class of each group must have to be one. Looked up before anything is called: a config, or a run directory from
# somebody else, may name any class that can be imported, and constructing a subprocess.Popen runs a command.
REQUIRED_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("train", "test"),
    "space": ("canonical", "build"),
    "training": ("epochs",),
    "scorer": ("score",),
    "also_scored": ("score",),
    "algorithm": ("ask", "tell"),
    "execution": ("run", "plan"),
    "evaluation": ("read",),
    "logger": ("begin", "log", "end"),
}
# Former names of modules whose classes a config may name: old runs, exports and configs of users still contain them.
RENAMED_MODULES: Mapping[str, str] = {
    "nasx.data.arrays": "nasx.data.npz",
    "nasx.data.digits": "nasx.data.synthetic",
    "nasx.data.idx": "nasx.data.mnist",
    "nasx.data.imagenet16": "nasx.data.cifar",
    "nasx.data.lines": "nasx.data.synthetic",
    "nasx.execution.ray_tune": "nasx.execution.ray",
    "nasx.introspection.attributions": "nasx.introspection.shap",
    "nasx.spaces.nb201_xnas": "nasx.spaces.nb201",
    "nasx.tabular": "nasx.evaluation.tabular",
    "nasx.training": "nasx.training.recipe",
}

RENAMED_SETTINGS: Mapping[str, str] = {
    "regulariser": "regularizer"
}  # former names of settings, in configs and overrides


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their present names. A former name wins: only a user's file or an old run can contain it.

    >>> current_settings({"regularizer": 0.0, "regulariser": 0.5})
    {'regularizer': 0.5}
    """
    former = {RENAMED_SETTINGS[name]: value for name, value in settings.items() if name in RENAMED_SETTINGS}
    return {**{name: value for name, value in settings.items() if name not in RENAMED_SETTINGS}, **former}


def current_name(target: str) -> str:
    """Return the present name of a class that a config names.

    >>> current_name("nasx.data.idx.MNIST"), current_name("nasx.data.cifar.CIFAR10")
    ('nasx.data.mnist.MNIST', 'nasx.data.cifar.CIFAR10')
    """
    module, _, name = target.rpartition(".")
    return f"{RENAMED_MODULES.get(module, module)}.{name}"


def build(node: Mapping[str, Any], group: str, **supplied: Any) -> Any:
    """The component that `node` describes.

    `group` is the node's full key, e.g. "algorithm" or "also_scored.activations", and begins every message. `supplied`
    are the arguments that the search gives and a config may not. Raises ConfigError where the class cannot be imported,
    or a key or a value is not what its constructor asks for.
    """
    settings = current_settings({name: value for name, value in node.items() if name != TARGET})
    target = load_target(node, group)
    kind = group.partition(".")[0]
    if lacking := [name for name in REQUIRED_MEMBERS.get(kind, ()) if not hasattr(target, name)]:
        raise ConfigError(f"{full_key(group, TARGET)}: {node[TARGET]} is no {kind}: it lacks {' and '.join(lacking)}.")
    return construct(target, settings, group, supplied)


def dataset_name(config: Mapping[str, Any]) -> str:
    """Return the name that the dataset of a config goes by; "" if the config reads none, as with results of a table.

    A class that names itself is not constructed: the dataset's files may be gone. Raises ConfigError.
    """
    node = config.get("dataset")
    if node is None or config.get("evaluation"):
        return ""
    name = getattr(load_target(node, "dataset"), "name", None)
    return name if isinstance(name, str) else str(build(node, "dataset").name)


def load_target(node: Mapping[str, Any], group: str) -> Callable[..., Any]:
    """The class, or function, that the node's `_target_` names: "package.module.Name". Raises ConfigError."""
    key = full_key(group, TARGET)
    target = node.get(TARGET)
    if target is None:
        raise ConfigError(f"{key} is missing: it names a class, e.g. nasx.introspection.shap.ShapScorer.")
    if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)+", target):
        raise ConfigError(f"{key} must name a class as package.module.Class, got {yaml_text(target)}.")
    module_name, _, name = current_name(target).rpartition(".")
    module = _import(module_name, key)
    found = getattr(module, name, None)
    if found is None:
        public = [n for n, value in vars(module).items() if isinstance(value, type) and not n.startswith("_")]
        raise ConfigError(f"{key}: module {module_name} has no {name}. {did_you_mean(name, public)}".rstrip())
    if not callable(found):
        raise ConfigError(f"{key}: {target} is no class.")
    return found  # type: ignore[no-any-return]


def _import(module_name: str, key: str) -> ModuleType:
    """The module; the current directory is looked in last, as `python -m` does: a user's own scorer may lie there."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{key}: there is no module {error.name!r}. Install its package, or run nasx where it lies."
            ) from error
        raise ConfigError(f"{key}: importing {module_name} failed: {error}.") from error
    except ImportError as error:
        raise ConfigError(f"{key}: importing {module_name} failed: {error}.") from error
    except SyntaxError as error:
        where = f"{error.filename}, line {error.lineno}"
        raise ConfigError(f"{key}: importing {module_name} failed: {error.msg} ({where}).") from error
