"""Settings of components: check values against types and ranges, from a config or from Python.

A component declares its settings once, with their ranges, as fields of a class with `@settings` or as parameters of
a constructor with `@checked`, e.g. `epochs: Annotated[int, Field(ge=1)] = 12`. pydantic checks them. `construct` checks
a mapping from a config against the same declarations, as JSON in strict mode: a list becomes a tuple, text a path and a
mapping a dataclass, but "3" never an integer. Errors name the full key: `dataset.augmentation.cutout`.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ParamSpec, TypeVar, dataclass_transform, get_args, get_type_hints

import pydantic.dataclasses
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, validate_call

from nasx.config.describe import (
    describe,
    describe_setting,
    full_key,
    is_mapping_of_records,
    is_number,
    record_type,
    suggest,
    value_range,
    yaml_text,
)
from nasx.errors import ConfigError, SettingError

T = TypeVar("T")
P = ParamSpec("P")
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
    expected = limits if limits and is_number(annotation) else ", ".join(filter(None, (describe(annotation), limits)))
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
    for huge in _huge_integers(value, key):
        raise ConfigError(f"{huge} must be at most {LARGEST:,}, the largest integer of 64 bits.")
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
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=None if record else _ADAPTER_CONFIG)
        converted = _restore(adapter.validate_json(_as_json(value)))
    except ValidationError as error:
        raise ConfigError(_sentence(f"{key} {_problem(annotation, error.errors(), value)}")) from error
    return expand_user(converted, key) if isinstance(converted, Path) else converted


# Bytes of file names that are not UTF-8 are lone surrogates in Python, which pydantic's JSON does not admit:
# meanwhile they are characters of a private plane
_BYTES = {code: 0x10FF00 + code - 0xDC00 for code in range(0xDC80, 0xDD00)}
_PRIVATE = {private: code for code, private in _BYTES.items()}


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).translate(_BYTES)


def _restore(value: Any) -> Any:
    """Return a value with the bytes of file names that `_as_json` has replaced."""
    if type(value) is str:  # no enumeration
        return value.translate(_PRIVATE)
    if isinstance(value, Path):
        return Path(str(value).translate(_PRIVATE))
    if isinstance(value, dict):
        return {_restore(key): _restore(item) for key, item in value.items()}
    return type(value)(map(_restore, value)) if type(value) in (list, tuple) else value


LARGEST = 2**63 - 1  # the journal and numpy have no larger integers


def expand_user(path: Path, name: str) -> Path:
    """Return a path with ~ replaced. Raises SettingError, naming `name`, for the ~ of an unknown user."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise SettingError(name, f"begins with ~, but there is no such home directory: {path}.") from error


def _huge_integers(value: Any, key: str) -> Iterator[str]:
    """Yield the full key of each integer that has more than 64 bits."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _huge_integers(item, full_key(key, str(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _huge_integers(item, key)
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield key


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


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _mismatch(key: str, expected: str, value: Any) -> ConfigError:
    return ConfigError(f"{key} must be {expected}, got {yaml_text(value)}.")


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
