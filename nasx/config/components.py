"""Build components from their section of a config, and check the values against the signature of the class.

A component is any class. `_target_` names it; the other keys are keyword arguments of its constructor.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from nasx.config.describe import full_key, is_path, yaml_text
from nasx.config.settings import construct, declared_parameters
from nasx.errors import ConfigError, did_you_mean

TARGET = "_target_"
AUTO = "auto"  # value of settings that a search derives, see `nasx.config.auto`
# Members that a class of each group must have. Checked before the class is called: a config or run directory from
# somebody else can name any importable class, and constructing a subprocess.Popen runs a command.
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
# Former names of modules -> present names: old runs, exports and users' configs contain them.
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

# Settings of a group, with their types, that nasx applies itself to components of every class: `nasx.data.corrected`
APPLIED_BY_NASX: Mapping[str, Mapping[str, Any]] = {"dataset": {"corrections": str | None}}

# Former names of settings -> present names, in configs and overrides.
RENAMED_SETTINGS: Mapping[str, str] = {"regulariser": "regularizer"}


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their present names. A former name takes precedence: packaged configs never contain it.

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
    """Build the component that a section of a config describes.

    Args:
        node: `_target_` and the settings.
        group: full key of the section, e.g. "algorithm" or "also_scored.activations"; every message starts with it.
        **supplied: arguments that the search provides and a config may not set.

    Raises:
        ConfigError: if the class cannot be imported, or does not accept a setting.
    """
    kind = group.partition(".")[0]
    target = load_target(node, group)
    applied = APPLIED_BY_NASX.get(kind, {})
    settings = current_settings({name: value for name, value in node.items() if name not in (TARGET, *applied)})
    if lacking := [name for name in REQUIRED_MEMBERS.get(kind, ()) if not hasattr(target, name)]:
        problem = f"{node[TARGET]} cannot be used as {kind}: it has no {' and no '.join(lacking)}."
        raise ConfigError(f"{full_key(group, TARGET)}: {problem}")
    if kind in REQUIRED_MEMBERS and not isinstance(target, type):
        raise ConfigError(f"{full_key(group, TARGET)}: {node[TARGET]} cannot be used as {kind}: it is not a class.")
    if taken := [name for name in applied if name in declared_parameters(target, group)]:
        key = full_key(group, taken[0])
        raise ConfigError(f"{key} is applied by nasx to every {kind}: rename this setting of {node[TARGET]}.")
    return construct(target, settings, group, supplied)


def file_settings(node: Mapping[str, Any], group: str) -> dict[str, Path]:
    """Return the files that a component reads, by full key: its settings that are annotated as a path and not null.

    Raises ConfigError if the class cannot be imported.
    """
    declared = declared_parameters(load_target(node, group), group)
    settings = current_settings({name: value for name, value in node.items() if name != TARGET})
    return {
        full_key(group, name): Path(value).expanduser()
        for name, value in settings.items()
        if isinstance(value, str) and name in declared and is_path(declared[name].annotation)
    }


def dataset_name(config: Mapping[str, Any]) -> str:
    """Return the name of the dataset of a config; "" if the results come from a table.

    Reads the name from the class if possible, because constructing the dataset may need its files.
    Raises ConfigError if the class cannot be imported or built.
    """
    node = config.get("dataset")
    if node is None or config.get("evaluation"):
        return ""
    name = getattr(load_target(node, "dataset"), "name", None)
    return name if isinstance(name, str) else str(build(node, "dataset").name)


def published_name(config: Mapping[str, Any]) -> str:
    """Return the name of the published dataset of a config; "" if the data are the user's own, whatever their name.

    Only the class of a published dataset has a name of its own: a folder may be called cifar10, too.
    Raises ConfigError if the class cannot be imported.
    """
    node = config.get("dataset")
    name = None if node is None or config.get("evaluation") else getattr(load_target(node, "dataset"), "name", None)
    return name if isinstance(name, str) else ""


def load_target(node: Mapping[str, Any], group: str) -> Callable[..., Any]:
    """Return the class or function that `_target_` names, as "package.module.Name". Raises ConfigError."""
    key = full_key(group, TARGET)
    target = node.get(TARGET)
    if target is None:
        raise ConfigError(f"{key} is missing: name a class, e.g. nasx.introspection.shap.ShapScorer.")
    if target == AUTO:
        raise ConfigError(f"{group}=auto is derived by a search only: name a choice, see `nasx config list`.")
    if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)+", target):
        raise ConfigError(f"{key} must name a class as package.module.Class, got {yaml_text(target)}.")
    module_name, _, name = current_name(target).rpartition(".")
    module = _import(module_name, key)
    found = getattr(module, name, None)
    if found is None:
        public = [n for n, value in vars(module).items() if isinstance(value, type) and not n.startswith("_")]
        raise ConfigError(f"{key}: module {module_name} has no {name}. {did_you_mean(name, public)}".rstrip())
    if not callable(found):
        raise ConfigError(f"{key}: {target} is not a class.")
    return found  # type: ignore[no-any-return]


def _import(module_name: str, key: str) -> ModuleType:
    """Import a module; the current directory is searched last, so that users' modules are found."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{key}: there is no module {error.name!r}. Install its package, or run nasx in its directory."
            ) from error
        raise ConfigError(f"{key}: importing {module_name} failed: {error}.") from error
    except ImportError as error:
        raise ConfigError(f"{key}: importing {module_name} failed: {error}.") from error
    except SyntaxError as error:
        location = f"{error.filename}, line {error.lineno}"
        raise ConfigError(f"{key}: importing {module_name} failed: {error.msg} ({location}).") from error
