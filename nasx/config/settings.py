"""Settings of components: check values against types and ranges, from a config or from Python.

A component declares its settings once, with their ranges, as fields of a class with `@settings` or as parameters of
a constructor with `@checked`, e.g. `epochs: Annotated[int, Field(ge=1)] = 12`. pydantic checks them. `construct` checks
a mapping of a config against the same declarations, as JSON in strict mode: a list becomes a tuple, text a path, a
mapping a dataclass, but "3" never an integer. Errors name the full key: `dataset.augmentation.cutout`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import annotated_types
import pydantic.dataclasses
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, validate_call
from pydantic.fields import FieldInfo

from nasx.errors import ConfigError, SettingError

T = TypeVar("T")
P = ParamSpec("P")
_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path", NoneType: "null"}
_PLURALS = {int: "integers", float: "numbers", str: "text", Path: "paths"}
_ADAPTER_CONFIG = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_PYTHON_CONFIG = ConfigDict(
    extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
)  # not strict: a list may be a tuple


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field, Field))
def settings(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass with keyword-only arguments, each checked against its type and range.

    A value that does not fit raises SettingError.
    """
    made: Any = pydantic.dataclasses.dataclass(cls, frozen=True, kw_only=True, config=_PYTHON_CONFIG)
    types = get_type_hints(made, include_extras=True)
    parameters = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=_default(f), annotation=types[f.name])
        for f in dataclasses.fields(made)
        if f.init
    ]
    made.__signature__ = inspect.Signature(parameters)
    made.__init__ = _raising_setting_errors(made.__init__, {p.name: p.annotation for p in parameters})
    return made  # type: ignore[no-any-return]


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """Check the arguments of a constructor against their types and ranges. Raises SettingError."""
    types = get_type_hints(init, include_extras=True)
    return _raising_setting_errors(validate_call(config=_PYTHON_CONFIG)(init), types)  # type: ignore[no-any-return]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def _raising_setting_errors(init: Callable[..., Any], types: Mapping[str, Any]) -> Any:
    @wraps(init)
    def checked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            init(self, *args, **kwargs)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            if name not in kwargs or name not in types:  # missing, unknown, by position
                raise TypeError(f"{type(self).__name__}: {name}: {first['msg']}") from error
            raise SettingError(name, _problem(types[name], error, kwargs[name])) from error

    return checked_init


def _problem(annotation: Any, error: ValidationError, value: Any) -> str:
    """Return what is wrong with a value, to follow its name: "must be at least 1, got 0"."""
    first = error.errors()[0]
    if first["type"] == "value_error":  # of a validator of ours: a sentence
        return str(first["ctx"]["error"])
    out_of_range = first["type"] in _RANGE_ERRORS and len(first["loc"]) <= 1
    expected = value_range(annotation) if out_of_range else ""
    return f"must be {expected or describe(annotation)}, got {show(value)}"


_RANGE_ERRORS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "too_short", "finite_number")


def value_range(annotation: Any) -> str:
    """Return the range of an annotation in words; "" if it has none.

    >>> value_range(Annotated[float, Field(ge=0, lt=1)]), value_range(Annotated[int, Field(ge=1)] | None)
    ('at least 0 and less than 1', 'at least 1')
    """
    words = []
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is not Annotated:
            continue
        for item in part.__metadata__:
            for bound in item.metadata if isinstance(item, FieldInfo) else [item]:
                words += [text.format(getattr(bound, name)) for kind, name, text in _BOUNDS if isinstance(bound, kind)]
    return " and ".join(words)


_BOUNDS = (
    (annotated_types.Ge, "ge", "at least {:g}"),
    (annotated_types.Gt, "gt", "more than {:g}"),
    (annotated_types.Le, "le", "at most {:g}"),
    (annotated_types.Lt, "lt", "less than {:g}"),
    (annotated_types.MinLen, "min_length", "a list of at least {:g}"),
)


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
        raise ConfigError(f"{key} {_problem(annotation, error, value)}.") from error
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
    text = json.dumps(value, default=repr)
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
