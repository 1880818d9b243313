"""Settings of components: check values against types and ranges, from a config or from Python.

A component declares its settings once, with their ranges, as fields of a class with `@settings` or as parameters of
a constructor with `@checked`, e.g. `epochs: Annotated[int, Field(ge=1)] = 12`. pydantic checks them. `construct` checks
a mapping from a config against the same declarations, as JSON in strict mode: a list becomes a tuple, text a path and a
mapping a dataclass, but "3" never an integer. Errors name the full key: `dataset.augmentation.cutout`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
# not strict: Python code may pass a list for a tuple
_PYTHON_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field, Field))
def settings(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass with keyword-only arguments, each checked against its type and range.

    Its constructor raises SettingError for a value of another type or out of range.
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
            if name not in kwargs or name not in types:  # missing, unknown, or passed by position
                raise TypeError(f"{type(self).__name__}: {name}: {first['msg']}") from error
            errors = [each for each in error.errors() if each["loc"][:1] == (name,)]
            raise SettingError(name, _problem(types[name], errors, kwargs[name])) from error

    return checked_init


def _problem(annotation: Any, errors: Sequence[Any], value: Any) -> str:
    """Return what is wrong with a value, to follow its name: "must be at least 1, got 0"."""
    for error in errors:
        if error["type"] == "value_error":  # raised by a validator of nasx: already a sentence
            return str(error["ctx"]["error"])
    limits = value_range(annotation) if any(error["type"] in _RANGE_ERRORS for error in errors) else ""
    expected = limits if limits and _is_number(annotation) else ", ".join(filter(None, (describe(annotation), limits)))
    return f"must be {expected}, got {yaml_text(value)}"


_RANGE_ERRORS = (
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "too_short",
    "too_long",
    "finite_number",
)


def _is_number(annotation: Any) -> bool:
    """Return whether an annotation admits numbers of one type only, or null."""
    if get_origin(annotation) is Annotated:
        return _is_number(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        others = [part for part in get_args(annotation) if part is not NoneType]
        return len(others) == 1 and _is_number(others[0])
    return annotation in (int, float)


def value_range(annotation: Any) -> str:
    """Return the range of an annotation in words; "" if it has none.

    >>> value_range(Annotated[float, Field(ge=0, lt=1)]), value_range(Annotated[int, Field(ge=1)] | None)
    ('at least 0 and less than 1', 'at least 1')
    >>> value_range(tuple[Annotated[int, Field(ge=1)], ...])
    'each at least 1'
    """
    arguments, origin = get_args(annotation), get_origin(annotation)
    if origin is Annotated:
        return ", ".join(filter(None, (" and ".join(_bounds(annotation)), value_range(arguments[0]))))
    ranges = dict.fromkeys(found for argument in arguments if (found := value_range(argument)))
    each = "" if not ranges or origin in (Union, UnionType) else "each "
    return each + " or ".join(ranges)


_BOUNDS = (
    (annotated_types.Ge, "ge", "at least"),
    (annotated_types.Gt, "gt", "more than"),
    (annotated_types.Le, "le", "at most"),
    (annotated_types.Lt, "lt", "less than"),
    (annotated_types.MinLen, "min_length", "length at least"),
    (annotated_types.MaxLen, "max_length", "length at most"),
)


def _bounds(annotation: Any) -> Iterator[str]:
    """Yield the bounds in the metadata of an Annotated type, in words."""
    for item in annotation.__metadata__:
        for bound in item.metadata if isinstance(item, FieldInfo) else [item]:
            yield from (f"{text} {_number(getattr(bound, n))}" for kind, n, text in _BOUNDS if type(bound) is kind)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_setting(annotation: Any) -> str:
    """Return the type and the range of an annotation in words.

    >>> describe_setting(Annotated[int, Field(ge=1)]), describe_setting(bool)
    ('an integer, at least 1', 'true or false')
    """
    return ", ".join(filter(None, (describe(annotation), value_range(annotation))))


def construct(
    target: Callable[..., T], settings: Mapping[str, Any], key: str = "", supplied: Mapping[str, Any] | None = None
) -> T:
    """Return `target(**settings, **supplied)`, with `settings` checked against the signature of `target`.

    Args:
        target: a class or function.
        settings: plain values from a config, by name of the parameter.
        key: full key of the settings in the config, "" at the root; every message starts with it.
        supplied: arguments that nasx provides and a config may not set; passed unchecked.

    Raises:
        ConfigError: if a setting is unknown, missing, of another type or out of range.
    """
    supplied = supplied or {}
    parameters = declared_parameters(target, key)
    _check_keys(target, parameters, settings, key, supplied)
    arguments = {
        name: convert(value, _annotation(parameters, name), full_key(key, name)) for name, value in settings.items()
    }
    try:
        return target(**arguments, **supplied)
    except SettingError as error:
        raise ConfigError(_sentence(f"{full_key(key, error.name)} {error.problem}")) from error


def convert(value: Any, annotation: Any, key: str) -> Any:
    """Return a plain value from YAML or JSON as the annotated type.

    Args:
        value: null, number, text, list or mapping.
        annotation: of the parameter, e.g. `tuple[int, ...]`.
        key: full key of the value in the config, for messages.

    Raises:
        ConfigError: if the value is of another type or out of range.

    >>> convert([1, 2], tuple[int, ...], "space.widths")
    (1, 2)
    >>> convert("many", int | None, "algorithm.evaluations")
    Traceback (most recent call last):
    nasx.errors.ConfigError: algorithm.evaluations must be an integer or null, got 'many'.
    """
    if annotation in (Any, inspect.Parameter.empty):
        return value
    record = record_type(annotation)
    if record is not None and isinstance(value, Mapping):
        return construct(record, value, key)
    if is_mapping_of_records(annotation) and isinstance(value, Mapping):
        return {name: convert(item, get_args(annotation)[1], full_key(key, name)) for name, item in value.items()}
    if record is not None and not (value is None and NoneType in get_args(annotation)):
        raise _mismatch(key, describe(annotation), value)
    try:
        converted = TypeAdapter(annotation, config=None if record else _ADAPTER_CONFIG).validate_json(json.dumps(value))
    except ValidationError as error:
        raise ConfigError(_sentence(f"{key} {_problem(annotation, error.errors(), value)}")) from error
    return converted.expanduser() if isinstance(converted, Path) else converted


def check_argument(name: str, value: Any, annotation: Any) -> None:
    """Check an argument of a function, e.g. against `Annotated[int, Field(ge=1)]`.

    Args:
        name: of the argument, for the message.
        value: of the argument.
        annotation: type and range.

    Raises:
        SettingError: if the value is of another type or out of range.

    >>> check_argument("share", 1.5, Annotated[float, Field(gt=0, lt=1)])
    Traceback (most recent call last):
    nasx.errors.SettingError: share must be more than 0 and less than 1, got 1.5
    """
    try:
        TypeAdapter(annotation, config=_PYTHON_CONFIG).validate_python(value)
    except ValidationError as error:
        raise SettingError(name, _problem(annotation, error.errors(), value)) from error


AtLeastOne = Annotated[int, Field(ge=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]  # neither none nor all


def describe(annotation: Any) -> str:
    """Return the type that an annotation requires, in words.

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
        own = [item.description for item in annotation.__metadata__ if isinstance(item, FieldInfo) and item.description]
        return own[0] if own else describe(arguments[0])
    if origin is Literal:
        return _either([yaml_text(a).strip("'") for a in arguments])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _either([str(member.value) for member in annotation])
    if dataclasses.is_dataclass(annotation):
        return f"a mapping with the keys {_field_names(annotation)}"
    kind = origin or annotation
    if isinstance(kind, type) and issubclass(kind, Mapping):
        record = record_type(arguments[1]) if len(arguments) == 2 else None
        return f"a mapping whose values have the keys {_field_names(record)}" if record else "a mapping"
    if isinstance(kind, type) and hasattr(kind, "__iter__"):
        fixed = "" if Ellipsis in arguments or kind is not tuple else f"{len(arguments)} "
        item: Any = arguments[0] if arguments else None
        items = _PLURALS.get(get_args(item)[0] if get_origin(item) is Annotated else item)
        return f"a list of {fixed}{items or 'values'}"
    return f"of type {getattr(annotation, '__name__', annotation)}"


def yaml_text(value: Any) -> str:
    """Return a value as it is written in YAML, cut to 80 characters: null, true, 'text', [1, 2]."""
    if isinstance(value, str):
        return repr(value)
    text = json.dumps(value, default=repr)
    return text if len(text) <= 80 else f"{text[:77]}..."


def full_key(key: str, name: str) -> str:
    """Return the full key of `name` under `key`; `key` is "" at the root."""
    return f"{key}.{name}" if key else name


def suggest(key: str, known: Iterable[str]) -> str:
    """Return a sentence with the key that was probably meant, or with the known keys next to it.

    A similar name in the same section is preferred to the same name in another section.

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


def _field_names(record: Any) -> str:
    return ", ".join(field.name for field in dataclasses.fields(record))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _either(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _mismatch(key: str, expected: str, value: Any) -> ConfigError:
    return ConfigError(f"{key} must be {expected}, got {yaml_text(value)}.")


def record_type(annotation: Any) -> type | None:
    """Return the dataclass that an annotation names, possibly with None; else None."""
    candidates = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    found = [c for c in candidates if isinstance(c, type) and dataclasses.is_dataclass(c)]
    return found[0] if len(found) == 1 else None


def is_mapping_of_records(annotation: Any) -> bool:
    """Return whether an annotation is a mapping whose values are dataclasses."""
    kind = get_origin(annotation)
    return isinstance(kind, type) and issubclass(kind, Mapping) and record_type(get_args(annotation)[1]) is not None


def _name(target: Callable[..., Any]) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def declared_parameters(target: Callable[..., Any], key: str) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a component by name. Raises ConfigError, naming `key`, if an annotation is undefined."""
    try:
        return inspect.signature(target, eval_str=True).parameters
    except (NameError, AttributeError) as error:
        raise ConfigError(
            f"{key}: the annotations of {_name(target)} cannot be read: {error}. "
            "Import the types that they name at run time, not only under TYPE_CHECKING."
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
    """Raise ConfigError for a setting that is unknown or set by nasx, and for one that is missing."""
    kinds = {p.kind for p in parameters.values()}
    named = {p.name: p for p in parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    for name in settings:
        if name in supplied:
            raise ConfigError(f"{full_key(key, name)} is set by the search itself: remove it from the config.")
        if name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            full = full_key(key, str(name))
            known = [full_key(key, n) for n in named if n not in supplied]
            raise ConfigError(f"unknown key {full}. {suggest(full, known)}".rstrip())
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in settings and name not in supplied:
            raise ConfigError(
                f"{full_key(key, name)} is missing: {_name(target)} needs {describe_setting(parameter.annotation)}."
            )
    for name in supplied:
        if name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ConfigError(f"{_name(target)} does not take {name!r}, which the search passes to every {key}.")
