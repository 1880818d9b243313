"""Configs as plain data: YAML without interpolation, tags or defaults list. Every run directory's config is read here.

A run may be from somebody else. Its config.yaml is data, not a program: `${oc.env:SECRET}` stays the text that it is,
and nothing is imported or composed. Only a config that the user names by --config is composed (`nasx.config.compose`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from nasx.errors import ConfigError

Config = dict[str, Any]

MAX_BYTES: Final = 1_000_000
MAX_VALUES: Final = 100_000
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_FLOAT: Final = "tag:yaml.org,2002:float"
# 1e3 is a number, as in JSON and in overrides; YAML 1.1 reads it as text
_NUMBER: Final = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


def _resolvers(base: Any) -> dict[str, list[tuple[str, Any]]]:
    """Return the rules that give a plain scalar its type: numbers as in JSON, no dates."""
    kept = {
        first: [(tag, rule) for tag, rule in rules if tag not in (_TIMESTAMP, _FLOAT)]
        for first, rules in base.yaml_implicit_resolvers.items()
    }
    for first in "-+0123456789.":
        kept.setdefault(first, []).append((_FLOAT, _NUMBER))
    return kept


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Safe loader that refuses keys that occur twice."""

    yaml_implicit_resolvers = _resolvers(yaml.SafeLoader)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} occurs twice", key.start_mark
                )
            seen.add(key.value)
        made: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return made


for _name in ("binary", "timestamp", "set"):  # values that JSON does not have
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _Loader.construct_undefined)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Safe dumper for this loader: quotes texts that the loader would read as numbers."""

    yaml_implicit_resolvers = _resolvers(yaml.SafeDumper)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(config: Mapping[str, Any]) -> str:
    """Return a config as YAML that `parse_plain` and `compose` read again."""
    text = _dump(config, allow_unicode=True)
    # yaml loses some line separators, and UTF-8 has no code for bytes of a path that are not UTF-8: escape them
    return text if text.replace("\n", "").isprintable() else _dump(config, allow_unicode=False)


def _dump(config: Mapping[str, Any], *, allow_unicode: bool) -> str:
    text: str = yaml.dump(as_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=allow_unicode)
    return text


def as_plain(value: Any) -> Any:
    """Return a config with text as keys, dicts and lists, as JSON has them.

    >>> as_plain({1: (2, 3)})
    {'1': [2, 3]}
    """
    if isinstance(value, Mapping):
        return {str(name): as_plain(item) for name, item in value.items()}
    return [as_plain(item) for item in value] if isinstance(value, list | tuple) else value


def parse_plain(content: bytes, name: str) -> Config:
    """Return the config in a YAML file as plain data, exactly as written.

    Args:
        content: of the file.
        name: of the file, for messages.

    Raises:
        ConfigError: if the content is not UTF-8, not YAML, not a mapping, too large, or contains a tag or a key twice.
    """
    if len(content) > MAX_BYTES:
        raise _too_large(name)
    try:
        loader = _Loader(content.decode())
        node = loader.get_single_node()
        if node is not None and _count(node, {}) > MAX_VALUES:
            raise _too_many(name)
        found = None if node is None else loader.construct_document(node)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not a config: it is not UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(
            f"{name}{line}: {' '.join((error.problem or error.context or 'not YAML').split())}."
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{name} is not a config: it is nested too deeply, or an alias contains itself.") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{name} is not a config: {reason[:160].rstrip('.')}.") from error
    if found is None:
        raise ConfigError(f"{name} is not a config: it is empty.")
    if not isinstance(found, dict):
        raise ConfigError(f"{name} is not a config: it must be a mapping of keys to values.")
    plain: Config = as_plain(found)
    return plain


def check_extent(content: bytes, name: str) -> None:
    """Raise ConfigError for a file that is too large, also after its aliases are expanded.

    Neither yaml nor Hydra limits the expansion: "a: &a [x, x]", "b: &b [*a, *a]" doubles with every line. Without this
    check Hydra takes 13 seconds for 100,000 values, and hours for 28 such lines. Other errors are left to the reader.
    """
    if len(content) > MAX_BYTES:
        raise _too_large(name)
    try:
        n_values = _count(yaml.compose(content, Loader=yaml.SafeLoader), {})
    except RecursionError as error:
        raise ConfigError(f"{name} is not a config: an alias contains itself.") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        return
    if n_values > MAX_VALUES:
        raise _too_many(name)


def _too_large(name: str) -> ConfigError:
    return ConfigError(f"{name} is not a config: it is larger than {MAX_BYTES:,} bytes.")


def _too_many(name: str) -> ConfigError:
    return ConfigError(f"{name} is not a config: its aliases expand to more than {MAX_VALUES:,} values.")


def _count(node: Any, known: dict[int, int]) -> int:
    """Count the values below a node, with expanded aliases. Recurses endlessly if an alias contains itself."""
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is not a mapping with its full key; an empty mapping is a value.

    >>> dict(leaves({"training": {"epochs": 5}, "seed": 0, "constraints": {}}))
    {'training.epochs': 5, 'seed': 0, 'constraints': {}}
    """
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def replace_leaves(config: Config, change: Callable[[str, Any], Any], prefix: str = "") -> Config:
    """Return a config with each value replaced by `change(full key, value)`."""
    return {
        name: replace_leaves(value, change, f"{prefix}{name}.")
        if isinstance(value, dict) and value
        else change(f"{prefix}{name}", value)
        for name, value in config.items()
    }


def get(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return the value of a full key, or `default`.

    >>> get({"training": {"epochs": 5}}, "training.epochs"), get({}, "training.epochs")
    (5, None)
    """
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return default
        node = node[name]
    return node


def put(config: Config, key: str, value: Any) -> Config:
    """Return a copy of a config with the value of a full key set.

    >>> put({"training": {"epochs": 5}}, "training.batch_size", 8)
    {'training': {'epochs': 5, 'batch_size': 8}}
    """
    name, _, rest = key.partition(".")
    if not rest:
        return {**config, name: value}
    child = config.get(name)
    return {**config, name: put(child if isinstance(child, dict) else {}, rest, value)}


def drop(config: Config, key: str) -> Config:
    """Return a copy of a config without a full key."""
    name, _, rest = key.partition(".")
    if not rest:
        return {own: value for own, value in config.items() if own != name}
    child = config.get(name)
    return {**config, name: drop(child, rest)} if isinstance(child, dict) else dict(config)


def read_plain(file: Path) -> Config:
    """Return the config in a file as plain data. Raises ConfigError; OSError if it cannot be opened."""
    with file.open("rb") as opened:
        return parse_plain(opened.read(MAX_BYTES + 1), str(file))
