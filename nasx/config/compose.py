"""Compose a config from its defaults list and overrides, as plain data with a checked root.

Hydra is initialized only during composition, and its global state is restored afterwards. Its errors become
ConfigErrors of one line (`nasx.config.hydra_errors`).
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import hydra
import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

import nasx
from nasx.config.find import find_config, known_choices, known_groups, packaged_directory, search_path
from nasx.config.hydra_errors import parse_overrides, resolve, translate
from nasx.config.schema import read_config
from nasx.errors import ConfigError

Config = dict[str, Any]  # plain data, everything resolved

MAX_BYTES: Final = 1_000_000
MAX_VALUES: Final = 100_000


def compose(name_or_path: str | Path, overrides: Sequence[str] = (), *, allow_missing: bool = False) -> Config:
    """Return a config with overrides, as plain data with every `${...}` resolved, its root checked.

    Args:
        name_or_path: see `find_config`.
        overrides: `key=value` texts.
        allow_missing: whether values that the user still has to set may stay "???".

    Raises:
        ConfigError: if the config or a choice is unknown, an override is malformed or has an unknown key, a file is not
            valid YAML, a value is missing, or the root does not match `nasx.config.schema`.
    """
    config = compose_unchecked(name_or_path, overrides, allow_missing=allow_missing)
    read_config(config)
    return config


def compose_unchecked(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, allow_missing: bool = False
) -> Config:
    """Return a config as `compose` does, for callers that check its root themselves: `nasx.experiment.Experiment`."""
    file = find_config(name_or_path)
    _check_extent(file)
    parsed = parse_overrides(overrides)
    composed = _compose(file, parsed)
    unresolved: Config = OmegaConf.to_container(composed)  # type: ignore[assignment]
    if unresolved.get("name") is None:
        OmegaConf.update(composed, "name", file.stem, force_add=True)
    return resolve(composed, allow_missing=allow_missing)


def load_resolved(file: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the config of a run directory, which `compose` wrote when the run started, with overrides."""
    return compose(file, overrides)


def compose_choice(group: str, name: str, overrides: Sequence[str] = ()) -> Config:
    """Return the settings of one choice of a group, with overrides.

    Args:
        group: e.g. "training".
        name: of the choice, e.g. "final".
        overrides: `group.key=value` texts.
    """
    # composed within a packaged experiment, so that errors are reported as for any config
    composed: Config = compose(packaged_directory() / "lines.yaml", [f"{group}={name}", *overrides])[group]
    return composed


def to_yaml(config: Mapping[str, Any]) -> str:
    """Return a config as YAML that `compose` reads again."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(config)))


def provenance(name_or_path: str | Path, overrides: Sequence[str]) -> Config:
    """Return the section provenance of a run's config.yaml: config, overrides and versions."""
    return {
        "config": str(name_or_path),
        "overrides": list(overrides),
        "nasx": nasx.__version__,
        "torch": version("torch"),
        "python": platform.python_version(),
    }


def _check_extent(file: Path) -> None:
    """Raise ConfigError for a file that is too large, also after its aliases are expanded.

    Neither yaml nor Hydra limits the expansion: "a: &a [x, x]", "b: &b [*a, *a]" doubles with every line. Without this
    check Hydra takes 13 seconds for 100,000 values, and hours for 28 such lines. Other errors are left to Hydra.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{file} is not a config: it is larger than {MAX_BYTES:,} bytes.")
        node = yaml.compose(file.read_bytes(), Loader=yaml.SafeLoader)
        n_values = _count(node, {})
    except RecursionError as error:
        raise ConfigError(f"{file} is not a config: an alias contains itself.") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return
    if n_values > MAX_VALUES:
        raise ConfigError(f"{file} is not a config: its aliases expand to more than {MAX_VALUES:,} values.")


def _count(node: Any, known: dict[int, int]) -> int:
    """Count the values below a node, with expanded aliases. Recurses endlessly if an alias contains itself."""
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]


def _compose(file: Path, overrides: Sequence[Override]) -> DictConfig:
    """Compose a file; remove settings of a group that were meant for a replaced choice."""
    own = file.parent
    try:
        composed = _hydra_compose(file, own, overrides)
    except Exception as error:
        raise translate(error, file, overrides, lambda some: _hydra_compose(file, own, some)) from error
    for group, (choice, meant) in _replaced_choices(file, overrides).items():
        # set() lists all keys; iterating over items would skip those with the value "???"
        listed = set(_hydra_compose(known_choices(group, own)[choice], own, ())[group])
        with open_dict(composed):
            for name in [n for n in composed[group] if n not in listed and n not in meant]:
                del composed[group][name]
    return composed


def _replaced_choices(file: Path, overrides: Sequence[Override]) -> dict[str, tuple[str, set[str]]]:
    """Return group -> (choice that replaces the one of the file, names of the settings meant for it).

    digits.yaml sets algorithm.population_size of NSGA-II; with `algorithm=random` that line has no meaning. A replacing
    choice keeps only the settings that its own file lists, and those set together with it.
    """
    replaced: dict[str, tuple[Any, set[str]]] = {}
    own: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[assignment]
    for entry in own.get("defaults", ()):
        for words, choice in entry.items() if isinstance(entry, dict) else ():
            if words.startswith("override "):
                group = words.removeprefix("override ").lstrip("/")
                replaced[group] = (choice, set(own.get(group) or ()))
    for override in overrides:
        if override.package is None and not override.is_delete():
            below = f"{override.key_or_group}."
            names = {o.key_or_group.split(".")[1] for o in overrides if o.key_or_group.startswith(below)}
            replaced[override.key_or_group] = (override.value(), names)
    groups = known_groups(file.parent)
    return {group: found for group, found in replaced.items() if group in groups and isinstance(found[0], str)}


def _hydra_compose(file: Path, own: Path, overrides: Sequence[Override]) -> DictConfig:
    """Compose a file by Hydra, and restore Hydra's global state."""
    root = own if own in file.parents else next(d for d in search_path(own) if d in file.parents)
    path = [f"file://{directory}" for directory in search_path(own)]
    lines = [f"hydra.searchpath={json.dumps(path)}", *(str(override.input_line) for override in overrides)]
    with hydra.initialize_config_dir(str(root), version_base="1.3"):
        return hydra.compose(file.relative_to(root).as_posix(), lines)
