"""Describe types, ranges and keys of settings in words, for messages and `nasx config show`."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path", NoneType: "null"}
_PLURALS = {int: "integers", float: "numbers", str: "text", Path: "paths"}


def is_number(annotation: Any) -> bool:
    """Return whether an annotation admits numbers of one type only, or null."""
    if get_origin(annotation) is Annotated:
        return is_number(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        others = [part for part in get_args(annotation) if part is not NoneType]
        return len(others) == 1 and is_number(others[0])
    return annotation in (int, float)


def is_path(annotation: Any) -> bool:
    """Return whether an annotation admits paths.

    >>> is_path(Path | None), is_path(str | None)
    (True, False)
    """
    return annotation is Path or any(is_path(part) for part in get_args(annotation) if not isinstance(part, str))


def value_range(annotation: Any) -> str:
    """Return the range of an annotation in words; "" if it has none.

    >>> from pydantic import Field
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

    >>> from pydantic import Field
    >>> describe_setting(Annotated[int, Field(ge=1)]), describe_setting(bool)
    ('an integer, at least 1', 'true or false')
    """
    return ", ".join(filter(None, (describe(annotation), value_range(annotation))))


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
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
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


def _either(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def record_type(annotation: Any) -> type | None:
    """Return the dataclass that an annotation names, possibly with None; else None."""
    candidates = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    found = [c for c in candidates if isinstance(c, type) and dataclasses.is_dataclass(c)]
    return found[0] if len(found) == 1 else None


def is_mapping_of_records(annotation: Any) -> bool:
    """Return whether an annotation is a mapping whose values are dataclasses."""
    kind = get_origin(annotation)
    return isinstance(kind, type) and issubclass(kind, Mapping) and record_type(get_args(annotation)[1]) is not None
