"""Texts and paths in a config as the user wrote them: `name=2024` and `dataset.root=/data/a,b` are texts.

Hydra and YAML give a type to each value by its form, before anybody knows which type the setting has. So after the
composition, each setting that is declared as text or as a path gets back what is written behind its `=` or in its YAML
file. Three forms keep their meaning: null, a value in quotes, and `${...}`, unless there is a file of that very name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from nasx.config.components import APPLIED_BY_NASX, RENAMED_SETTINGS, TARGET, load_target
from nasx.config.describe import record_type
from nasx.config.plain import Config, get, put
from nasx.config.schema import ExperimentConfig
from nasx.config.settings import declared_parameters
from nasx.errors import ConfigError

ROOT_TEXTS = ("name", "runs_dir")
WITH_TEXTS = ("dataset", "evaluation", "logger")  # sections whose classes have texts that may look like numbers


def is_text(annotation: Any) -> bool:
    """Return whether an annotation admits nothing but text, paths and null.

    >>> is_text(str | None), is_text(Annotated[Path, "folder"]), is_text(str | int)
    (True, True, False)
    """
    if get_origin(annotation) is Annotated:
        return is_text(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        return bool(parts) and all(map(is_text, parts))
    return annotation in (str, Path)


def split_override(text: str) -> tuple[str, str] | None:
    """Return the key and the value of an override as written; None if it deletes a key or sets none.

    >>> split_override("+dataset.root=a=b"), split_override("~scorer")
    (('dataset.root', 'a=b'), None)
    """
    key, equals, value = text.partition("=")
    if not equals or key.startswith("~"):
        return None
    parent, dot, name = key.lstrip("+").rpartition(".")
    return f"{parent}{dot}{RENAMED_SETTINGS.get(name, name)}", value


def may_be_text(key: str) -> bool:
    """Return whether a key may name a text or a path: a root setting of that kind, or a setting of a component."""
    return key in ROOT_TEXTS or "." in key


def is_literal_path(value: str) -> bool:
    """Return whether a value with `${...}` or quotes is the name of a file as it is."""
    try:
        return any(c in value for c in "$'\"") and os.path.lexists(Path(value).expanduser())
    except (ValueError, OSError, RuntimeError):  # e.g. a null byte, or no home directory
        return False


def with_written_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Return a config in which each override of a text or path is exactly as written.

    Raises ConfigError for a list of values without brackets, which only a text may contain.
    """
    for text in overrides:
        found = split_override(text)
        if found is None or not may_be_text(found[0]):
            continue
        key, value = found
        typed = get(config, key)
        if typed == value and isinstance(typed, str) and not _is_several(text):
            continue
        if is_literal_path(value) or (is_text(annotation_of(config, key)) and not _keeps_meaning(value, typed)):
            config = put(config, key, value)
        elif _is_several(text) and not is_text(annotation_of(config, key)):
            raise several_values(text)
    return config


def quoted(text: str) -> str:
    r"""Return a text in quotes, for Hydra. Not JSON: within quotes Hydra knows only escaped quotes.

    >>> print(quoted(r'C:\x "y"'))
    "C:\x \"y\""
    """
    return '"' + re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), text) + '"'


def several_values(text: str) -> ConfigError:
    """Return the error for an override with several values."""
    return ConfigError(f"the override {text!r} has several values, but one is expected. Write a list as [1, 2].")


def with_written_file(config: Config, file: Path, overridden: Sequence[str]) -> Config:
    """Return a config in which each text of its YAML file that looks like a number or a truth value is as written.

    Args:
        config: composed.
        file: that was composed.
        overridden: overrides on top of the file.
    """
    keys = {found[0] for text in overridden if (found := split_override(text))}
    for key, written in _plain_scalars(file):
        typed = get(config, key)
        is_candidate = key in ROOT_TEXTS or key.partition(".")[0] in WITH_TEXTS
        if is_candidate and isinstance(typed, int | float) and key not in keys and is_text(annotation_of(config, key)):
            config = put(config, key, written)
    return config


def annotation_of(config: Mapping[str, Any], key: str) -> Any:
    """Return the annotation of a setting in the class that declares it; None if it is unknown."""
    names = key.split(".")
    if len(names) == 2 and (applied := APPLIED_BY_NASX.get(names[0], {}).get(names[1])):
        return applied
    try:
        return _declared(config, names, ExperimentConfig, "")
    except ConfigError:  # an unknown class or key: reported when the component is built
        return None


def _declared(node: Any, names: Sequence[str], owner: Any, key: str) -> Any:
    if isinstance(node, Mapping) and TARGET in node:
        owner = load_target(node, key)
    if owner is None:
        children = node if isinstance(node, Mapping) else {}
        return _declared(children.get(names[0]), names[1:], None, names[0]) if len(names) > 1 else None
    declared = declared_parameters(owner, key)
    annotation = declared[names[0]].annotation if names[0] in declared else None
    if len(names) == 1:
        return annotation
    child = node.get(names[0]) if isinstance(node, Mapping) else None
    return _declared(child, names[1:], record_type(annotation), names[0])


def _keeps_meaning(value: str, typed: Any) -> bool:
    """Return whether Hydra's reading of a text stands: null, text in quotes, `${...}`, or an escaped path."""
    if value.lower() == "null" or "${" in value or re.fullmatch(r"'.*'|\".*\"", value, re.DOTALL):
        return True
    return isinstance(typed, str) and "\\" in value and not os.path.lexists(value) and os.path.lexists(typed)


def _is_several(text: str) -> bool:
    try:
        return bool(OverridesParser.create().parse_override(text).is_sweep_override())
    except (HydraException, ValueError):
        return False


def _plain_scalars(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the full key and the text of each scalar without quotes in a YAML file."""
    try:
        root = yaml.compose(file.read_bytes(), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError):  # reported by Hydra
        return
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        prefix, node = waiting.pop()
        for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(value, yaml.ScalarNode) and value.style is None:
                yield f"{prefix}{name.value}", value.value
            waiting.append((f"{prefix}{name.value}.", value))
