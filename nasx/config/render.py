"""Render a config as YAML, with the type and range of each setting as a trailing comment.

The comments come from the declarations that also check the values: the root in `nasx.config.schema`, and the
constructors of the components.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

import yaml

from nasx.config.auto import CLASSES, DERIVABLE
from nasx.config.components import APPLIED_BY_NASX, AUTO, RENAMED_SETTINGS, TARGET, load_target
from nasx.config.describe import describe_setting, full_key, is_mapping_of_records, record_type
from nasx.config.find import known_choices
from nasx.config.plain import get, to_yaml
from nasx.config.schema import GROUPS, OF_THE_SEARCH, ExperimentConfig
from nasx.config.settings import declared_parameters
from nasx.errors import ConfigError

COLUMN: Final = 28  # of the comments; longer lines have them two spaces after their end
COMPONENTS: Final = (*GROUPS, "evaluation", "logger")


def to_commented_yaml(config: Mapping[str, Any]) -> str:
    """Return a config as YAML with a comment next to each declared setting; `compose` reads it like plain YAML."""
    text = to_yaml(config)
    return insert_comments(text, dict(setting_comments(config)))


def setting_comments(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the full key and the type and range of each declared setting of a composed config.

    A component that cannot be imported has a single comment, at its `_target_`: the reason.
    """
    declared = declared_parameters(ExperimentConfig, "")
    for name, value in config.items():
        if name in COMPONENTS:
            yield from _component(value, name)
        elif name == "also_scored" and value:
            for scorer, node in value.items():
                yield from _component(node, full_key(name, scorer))
        elif name in declared:
            yield from _setting(value, declared[name].annotation, name)
    for name in OF_THE_SEARCH:
        value = get(config, f"algorithm.{name}")
        yield from _setting(value, declared[name].annotation, full_key("algorithm", name))


def _component(node: Mapping[str, Any] | None, key: str) -> Iterator[tuple[str, str]]:
    if node is None:
        yield key, " or ".join([", ".join(known_choices(key)), "null"])
        return
    if node.get(TARGET) == AUTO and key in CLASSES:
        yield from _chosen_later(node, key)
        return
    try:
        declared = declared_parameters(load_target(node, key), key)
    except ConfigError as error:
        yield full_key(key, TARGET), str(error)
        return
    applied = APPLIED_BY_NASX.get(key, {})
    for name, value in node.items():
        present = RENAMED_SETTINGS.get(name, name)
        if name in applied:
            yield full_key(key, name), describe_setting(applied[name])
        elif present in declared:
            yield from _setting(value, declared[present].annotation, full_key(key, name))


def _chosen_later(node: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    """Yield the comments of a group of which a search chooses the file."""
    yield full_key(key, TARGET), "auto: derived from the images and the installed packages"
    declared: dict[str, inspect.Parameter] = {}
    for name in CLASSES[key]:
        declared |= declared_parameters(load_target({TARGET: name}, key), key)
    for name, value in node.items():
        if name in declared:
            setting = full_key(key, name)
            words = "; auto: as in the chosen file" * (value == AUTO and setting not in DERIVABLE)
            yield from ((own, text + words) for own, text in _setting(value, declared[name].annotation, setting))


def _setting(value: Any, annotation: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the comment of a setting, or those of its fields if the value is a record with its own settings."""
    record = record_type(annotation)
    if record is not None and isinstance(value, Mapping):
        declared = declared_parameters(record, key)
        for name, item in value.items():
            if name in declared:
                yield from _setting(item, declared[name].annotation, full_key(key, name))
    elif is_mapping_of_records(annotation) and value:
        for name, item in value.items():
            yield from _setting(item, get_args(annotation)[1], full_key(key, name))
    elif annotation not in (Any, inspect.Parameter.empty):
        is_derived = value == AUTO and key in DERIVABLE
        yield key, describe_setting(annotation) + "; auto: derived from the images and the budget" * is_derived


def insert_comments(text: str, comments: Mapping[str, str]) -> str:
    """Return YAML with a comment next to each key in `comments`.

    >>> print(insert_comments("training:\\n  epochs: 12\\n", {"training.epochs": "an integer, at least 1"}), end="")
    training:
      epochs: 12                # an integer, at least 1
    """
    lines = text.splitlines()
    above: dict[int, str] = {}
    for key, name, value in _entries(yaml.compose(text, Loader=yaml.SafeLoader)):
        if (comment := comments.get(key)) is None:
            continue
        number = name.start_mark.line
        if value.start_mark.line == number < value.end_mark.line:  # a comment would end, or be part of, the text
            above[number] = f"{' ' * name.start_mark.column}# {comment}"
        else:
            lines[number] = f"{lines[number]:<{COLUMN - 2}}  # {comment}"
    return "".join(f"{above[i]}\n{line}\n" if i in above else f"{line}\n" for i, line in enumerate(lines))


def _entries(node: Any, parent: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the full key, the node of the key and the node of the value of each entry of nested mappings."""
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        key = full_key(parent, name.value)
        yield key, name, value
        yield from _entries(value, key)
