"""Compose a config from its defaults list and overrides, as plain data with a checked root.

Hydra is initialized only during composition, and its global state is restored afterwards. Its errors become
ConfigErrors of one line (`nasx.config.hydra_errors`).
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import hydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

import nasx
from nasx.config.auto import with_checkable_root
from nasx.config.components import APPLIED_BY_NASX
from nasx.config.describe import suggest
from nasx.config.find import find_config, known_choices, known_groups, packaged_directory, search_path
from nasx.config.hydra_errors import parse_overrides, resolve, translate
from nasx.config.naming import own_data_name
from nasx.config.plain import MAX_BYTES, Config, check_extent, drop, get, leaves, put
from nasx.config.schema import read_config
from nasx.config.written import quoted, with_written_file, with_written_overrides
from nasx.errors import ConfigError
from nasx.escaping import valid_name


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
    read_config(with_checkable_root(config))
    return config


def compose_unchecked(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, allow_missing: bool = False
) -> Config:
    """Return a config as `compose` does, for callers that check its root themselves: `nasx.experiment.Experiment`."""
    file = find_config(name_or_path)
    _check_extent(file)
    parsed = parse_overrides([_added(override) for override in overrides])
    composed = _compose(file, parsed)
    unresolved: Config = OmegaConf.to_container(composed)  # type: ignore[assignment]

    def finished(name: str | None) -> Config:
        if name is not None:
            OmegaConf.update(composed, "name", name, force_add=True)
        config = resolve(composed, allow_missing=allow_missing)
        return with_written_overrides(with_written_file(config, file, overrides), overrides)

    if unresolved.get("name") is not None:
        return finished(None)
    config = finished(valid_name(file.stem))
    # a config of the user's own has the name that the user chose; a packaged one says nothing about the user's data
    is_packaged = packaged_directory() in file.parents
    return finished(own) if is_packaged and (own := own_data_name(config)) else config


def _added(override: str) -> str:
    """Return an override, with ++ if nasx applies its setting itself: the config of a user's class need not list it.

    >>> _added("dataset.corrections=fixes.csv"), _added("dataset.root=photos")
    ('++dataset.corrections=fixes.csv', 'dataset.root=photos')
    """
    group, _, name = override.partition("=")[0].partition(".")
    return f"++{override}" if name in APPLIED_BY_NASX.get(group, {}) else override


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Return the config of a run, plain data, with overrides on top.

    A group's name selects another choice of it, as in `execution=serial`, among the packaged and the user's configs.
    Interpolations are resolved only in the overrides, which the user has typed, never in the config.

    Raises ConfigError if an override is malformed, its key or choice unknown.
    """
    parsed = parse_overrides(overrides)
    groups = known_groups()
    chosen = {o.key_or_group: o for o in parsed if o.key_or_group in groups and isinstance(o.value(), str)}
    for group, override in chosen.items():
        pairs = zip(overrides, parsed, strict=True)
        own = [text for text, o in pairs if o.key_or_group.startswith(f"{group}.")]
        config = {**config, group: compose_choice(group, str(override.value()), own)}
    for override in parsed:
        key = override.key_or_group
        if override in chosen.values() or key.partition(".")[0] in chosen:
            continue
        if override.package is not None:
            raise ConfigError(f"the override {override.input_line!r} cannot be used on a run: it adds a component.")
        _check_known(config, override)
        config = drop(config, key) if override.is_delete() else put(config, key, _value(override))
    return with_written_overrides(config, overrides)


CHECKED_LATER: Final = ("search", "execution", "logger", "dataset", "evaluation")  # by the constructors of components


def _check_known(config: Config, override: Override) -> None:
    """Raise ConfigError for an override of a key that the run does not have, unless it is added by `+`."""
    key, absent = override.key_or_group, object()
    is_added = override.is_add() or override.is_force_add() or key.partition(".")[0] in CHECKED_LATER
    if get(config, key, absent) is absent and not is_added:
        known = [name for name, _ in leaves(config)]
        raise ConfigError(f"unknown key {key} in the override {override.input_line!r}. {suggest(key, known)}".rstrip())


def _value(override: Override) -> Any:
    """Return the value of an override as plain data. It may contain `${oc.env:NAME}`, but refer to no other key."""
    try:
        return resolve(OmegaConf.create({"value": override.value()}), allow_missing=False)["value"]
    except ConfigError as error:
        problem = str(error).removeprefix("value: ")
        raise ConfigError(f"the override {override.input_line!r} of a run cannot be resolved: {problem}") from error


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
    """Raise ConfigError for a file that is too large. Hydra reports a file that cannot be read."""
    with suppress(OSError), file.open("rb") as opened:
        check_extent(opened.read(MAX_BYTES + 1), str(file))


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
    places = ",".join(quoted(place.replace("${", "\\${")) for place in path)
    lines = [f"hydra.searchpath=[{places}]", *(str(override.input_line) for override in overrides)]
    with hydra.initialize_config_dir(str(root), version_base="1.3"):
        return hydra.compose(file.relative_to(root).as_posix(), lines)
