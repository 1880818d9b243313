"""Build components from their part of a config, each value checked against the signature of the class.

A component is any class. The config names it by `_target_`; the other keys are its constructor's keyword arguments.
Types are checked by pydantic as JSON in strict mode: a list becomes a tuple, text a path, a mapping a dataclass, but
"3" never an integer. Errors name the full key: `dataset.augmentation.cutout`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from nasx.errors import ConfigError, SettingError, did_you_mean

T = TypeVar("T")
_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path", NoneType: "null"}
_PLURALS = {int: "integers", float: "numbers", str: "text", Path: "paths"}
_ADAPTER_CONFIG = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def construct(
    target: Callable[..., T], settings: Mapping[str, Any], key: str = "", supplied: Mapping[str, Any] | None = None
) -> T:
    """`target(**settings, **supplied)`, with `settings` checked against its signature.

    `key` is where the settings stand in the config ("" at the root) and begins every message. `supplied` are the
    arguments that a config may not give; they are passed as they are. Raises ConfigError.
    """
    supplied = supplied or {}
    parameters = _parameters(target, key)
    _check_keys(target, parameters, settings, key, supplied)
    arguments = {
        name: convert(value, _annotation(parameters, name), join(key, name)) for name, value in settings.items()
    }
    try:
        return target(**arguments, **supplied)
    except SettingError as error:
        end = "" if error.problem.endswith((".", "?")) else "."
        raise ConfigError(f"{join(key, error.name)} {error.problem}{end}") from error


def convert(value: Any, annotation: Any, key: str) -> Any:
    """A plain value (of YAML or JSON) as the annotated type. Raises ConfigError naming `key`.

    >>> convert([1, 2], tuple[int, ...], "space.widths")
    (1, 2)
    >>> convert("many", int | None, "algorithm.evaluations")
    Traceback (most recent call last):
    nasx.errors.ConfigError: algorithm.evaluations must be an integer or null, got 'many'.
    """
    if annotation in (Any, inspect.Parameter.empty):
        return value
    record = _dataclass_in(annotation)
    if record is not None and isinstance(value, Mapping):
        return construct(record, value, key)
    if _is_mapping_of_dataclasses(annotation) and isinstance(value, Mapping):
        return {name: convert(item, get_args(annotation)[1], join(key, name)) for name, item in value.items()}
    if record is not None and not (value is None and NoneType in get_args(annotation)):
        raise _mismatch(key, describe(annotation), value)
    try:
        converted = TypeAdapter(annotation, config=None if record else _ADAPTER_CONFIG).validate_json(json.dumps(value))
    except ValidationError as error:
        if any(get_origin(a) is Annotated for a in (annotation, *get_args(annotation))):
            raise ConfigError(f"{key}: {error.errors()[0]['msg']}, got {show(value)}.") from error
        raise _mismatch(key, describe(annotation), value) from error
    return converted.expanduser() if isinstance(converted, Path) else converted


def describe(annotation: Any) -> str:
    """What an annotation asks for, in words.

    >>> describe(float | None), describe(tuple[str, ...]), describe(Literal["best", "last"])
    ('a number or null', 'a list of text', 'best or last')
    """
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin in (Union, UnionType):
        return _either([describe(a) for a in arguments])
    if origin is Annotated:
        return describe(arguments[0])
    if origin is Literal:
        return _either([show(a).strip("'") for a in arguments])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _either([str(member.value) for member in annotation])
    if dataclasses.is_dataclass(annotation):
        return f"a mapping with the keys {', '.join(f.name for f in dataclasses.fields(annotation))}"
    kind = origin or annotation
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping"
    if isinstance(kind, type) and hasattr(kind, "__iter__"):
        fixed = "" if Ellipsis in arguments or kind is not tuple else f"{len(arguments)} "
        items = _PLURALS.get(arguments[0]) if arguments else None
        return f"a list of {fixed}{items or 'values'}"
    return f"of type {getattr(annotation, '__name__', annotation)}"


def show(value: Any) -> str:
    """A value as one writes it in YAML: null, true, 'text', [1, 2]."""
    if isinstance(value, str):
        return repr(value)
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def join(key: str, name: str) -> str:
    """The full key of `name` under `key`; `key` is empty at the root."""
    return f"{key}.{name}" if key else name


def suggest(key: str, known: Iterable[str]) -> str:
    """A sentence with the key that was probably meant: like it beside it, or of its name elsewhere; or those beside it.

    >>> suggest("dataset.rot", ["seed", "dataset.root", "algorithm.rot13"])
    'Did you mean dataset.root?'
    >>> suggest("augmentation.flip", ["augmentation.horizontal_flip"])
    'Did you mean augmentation.horizontal_flip?'
    >>> suggest("evaluations", ["seed", "algorithm.evaluations"])
    'Did you mean algorithm.evaluations?'
    """
    parent, _, name = key.rpartition(".")
    candidates = [k for k in known if not k.endswith("_target_")]
    siblings = {k.rpartition(".")[2]: k for k in candidates if k.rpartition(".")[0] == parent}
    near = difflib.get_close_matches(name, siblings, n=1) or [s for s in siblings if name in s]
    namesakes = [siblings[n] for n in near] or [k for k in candidates if k.rpartition(".")[2] == name]
    if namesakes:
        return f"Did you mean {namesakes[0]}?"
    return f"Known: {', '.join(sorted(siblings.values()))}." if siblings else f"{parent} has no settings."


def _either(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _mismatch(key: str, expected: str, value: Any) -> ConfigError:
    return ConfigError(f"{key} must be {expected}, got {show(value)}.")


def _dataclass_in(annotation: Any) -> type | None:
    """The dataclass that an annotation names, alone or with None."""
    candidates = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    found = [c for c in candidates if isinstance(c, type) and dataclasses.is_dataclass(c)]
    return found[0] if len(found) == 1 else None


def _is_mapping_of_dataclasses(annotation: Any) -> bool:
    kind = get_origin(annotation)
    return isinstance(kind, type) and issubclass(kind, Mapping) and _dataclass_in(get_args(annotation)[1]) is not None


def _name(target: Callable[..., Any]) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def _parameters(target: Callable[..., Any], key: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target, eval_str=True).parameters
    except (NameError, AttributeError) as error:
        raise ConfigError(
            f"{key}: the annotations of {_name(target)} cannot be read: {error}. "
            "What they name must be imported when the program runs, not under TYPE_CHECKING alone."
        ) from error


def _annotation(parameters: Mapping[str, inspect.Parameter], name: str) -> Any:
    return parameters[name].annotation if name in parameters else Any


def _check_keys(
    target: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    settings: Mapping[str, Any],
    key: str,
    supplied: Mapping[str, Any],
) -> None:
    """Every setting is a parameter, every parameter without default is given, and nothing is given twice."""
    kinds = {p.kind for p in parameters.values()}
    named = {p.name: p for p in parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    for name in settings:
        if name in supplied:
            raise ConfigError(f"{join(key, name)} is given by the search itself: remove it from the config.")
        if name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            full = join(key, str(name))
            known = [join(key, n) for n in named if n not in supplied]
            raise ConfigError(f"unknown key {full}. {suggest(full, known)}".rstrip())
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in settings and name not in supplied:
            raise ConfigError(f"{join(key, name)} is missing: {_name(target)} needs {describe(parameter.annotation)}.")
    for name in supplied:
        if name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ConfigError(f"{_name(target)} does not take {name!r}, which the search gives to every {key}.")


TARGET = "_target_"
# What a class of each group must have to be one. Looked up before anything is called: a config, or a run directory from
# somebody else, may name any class that can be imported, and constructing a subprocess.Popen runs a command.
MEMBERS: Mapping[str, tuple[str, ...]] = {
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
MOVED: Mapping[str, str] = {
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


def current_name(target: str) -> str:
    """Return the present name of a class that a config names.

    >>> current_name("nasx.data.idx.MNIST"), current_name("nasx.data.cifar.CIFAR10")
    ('nasx.data.mnist.MNIST', 'nasx.data.cifar.CIFAR10')
    """
    module, _, name = target.rpartition(".")
    return f"{MOVED.get(module, module)}.{name}"


def build(node: Mapping[str, Any], group: str, **supplied: Any) -> Any:
    """The component that `node` describes.

    `group` is the node's full key, e.g. "algorithm" or "also_scored.activations", and begins every message. `supplied`
    are the arguments that the search gives and a config may not. Raises ConfigError where the class cannot be imported,
    or a key or a value is not what its constructor asks for.
    """
    settings = {name: value for name, value in node.items() if name != TARGET}
    target = load_target(node, group)
    kind = group.partition(".")[0]
    if lacking := [name for name in MEMBERS.get(kind, ()) if not hasattr(target, name)]:
        raise ConfigError(f"{join(group, TARGET)}: {node[TARGET]} is no {kind}: it lacks {' and '.join(lacking)}.")
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
    key = join(group, TARGET)
    target = node.get(TARGET)
    if target is None:
        raise ConfigError(f"{key} is missing: it names a class, e.g. nasx.introspection.shap.ShapScorer.")
    if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)+", target):
        raise ConfigError(f"{key} must name a class as package.module.Class, got {show(target)}.")
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
