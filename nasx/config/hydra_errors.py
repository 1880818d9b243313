"""Translate errors of Hydra and OmegaConf into ConfigErrors of one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml.error import MarkedYAMLError, YAMLError

from nasx.config.components import RENAMED_SETTINGS
from nasx.config.describe import suggest
from nasx.config.find import known_choices, known_groups
from nasx.config.plain import leaves
from nasx.config.written import is_literal_path, may_be_text, quoted, several_values
from nasx.errors import ConfigError, did_you_mean

OPEN_KEYS = ("constraints.",)  # users choose the names below these: adding one needs no +


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parse `key=value` texts. A value outside of Hydra's grammar, such as ~/data, is text.

    Texts and paths are completed by `nasx.config.written`.

    Raises ConfigError naming the first malformed override.
    """
    return [_parse_override(text) for text in overrides]


def _parse_override(text: str) -> Override:
    key, equals, value = text.partition("=")
    if not key or not (equals or key.startswith("~")):
        raise ConfigError(f"the override {text!r} is not of the form key=value.")
    parent, dot, name = key.rpartition(".")
    key = f"{parent}{dot}{RENAMED_SETTINGS.get(name, name)}"
    parser = OverridesParser.create()
    if key.startswith(OPEN_KEYS):
        key = f"++{key}"
    as_text = f"{key}={quoted(value.replace('${', '{'))}"
    try:
        override = parser.parse_override(as_text if is_literal_path(value) else f"{key}{equals}{value}")
        if override.is_sweep_override():
            if not may_be_text(key.lstrip("+")):
                raise several_values(text)
            override = parser.parse_override(as_text)  # `with_written_overrides` refuses it if it is not a text
    except (HydraException, ValueError, RecursionError):
        try:
            override = parser.parse_override(as_text)
        except HydraException as error:
            raise ConfigError(f"the override {text!r} is not of the form key=value.") from error
    if override.key_or_group.partition(".")[0] == "hydra":
        raise ConfigError(f"the override {text!r} is not a setting of nasx: settings of Hydra are not supported.")
    return override


def translate(
    error: Exception, file: Path, overrides: Sequence[Override], compose: Callable[[Sequence[Override]], DictConfig]
) -> Exception:
    """Return the exception to raise for an error of composition: a ConfigError, or the error itself if it is a bug.

    Args:
        error: raised by Hydra, OmegaConf or yaml.
        file: the config that is composed.
        overrides: all overrides of it.
        compose: composes the file with some of the overrides, to find the known keys.
    """
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigError(f"{mark.name}, line {mark.line + 1}: {error.problem or error.context}.")
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error, file, overrides)
    if isinstance(error, HydraException):
        if "must be a DictConfig" in str(error):
            return ConfigError(f"{file} is not a config: it must be a mapping of keys to values.")
        if "No match in the defaults list" in str(error):
            text = _one_line(error).partition(". ")[0]
            return ConfigError(f"{file}: {text}: no defaults list contains that group.")
        return _unknown_key(file, overrides, compose) or ConfigError(f"{file}: {_one_line(error)}")
    if isinstance(error, RecursionError):
        return ConfigError(f"{file} cannot be composed: its defaults list includes the file itself.")
    if isinstance(error, ValueError):  # raised by Hydra for overrides and defaults of a wrong type
        return ConfigError(f"{file} cannot be composed: {_one_line(error)}")
    if isinstance(error, (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError)):
        return ConfigError(f"{file} cannot be read: {_one_line(error)}")
    return error


def resolve(composed: DictConfig, *, allow_missing: bool) -> dict[str, Any]:
    """Return plain data with every `${...}` resolved. Raises ConfigError if a value is missing or unresolvable."""
    try:
        missing = sorted(OmegaConf.missing_keys(composed))
        if missing and not allow_missing:
            raise ConfigError(f"{missing[0]} has no value. Set it: {missing[0]}=VALUE.")
        resolved: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_one_line(error)}") from error
    for key, value in leaves(resolved):
        try:
            json.dumps(value)
        except TypeError as error:  # bytes, which OmegaConf accepts and the config of a run cannot contain
            raise ConfigError(f"{key} must be plain data without tags such as !!binary, got {value!r}.") from error
    return resolved


def flat_keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the full key of every section and value."""
    for name in config:
        key = f"{prefix}{name!s}"
        yield key
        child = config._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from flat_keys(child, f"{key}.")


def _unknown_choice(error: MissingConfigException, file: Path, overrides: Sequence[Override]) -> ConfigError:
    """Return the error for a choice that a group does not have."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    choices = known_choices(group, file.parent) if group else {}
    named = [o.input_line for o in overrides if o.key_or_group == group and o.value() == choice]
    origin = f"the override {named[0]!r}" if named else str(file)
    if not choices:
        groups = f" {did_you_mean(group, known_groups(file.parent))}" if group else ""
        return ConfigError(f"{origin} names {error.missing_cfg_file!r}, which does not exist.{groups}")
    hint = did_you_mean(choice, choices)
    near = "" if hint.startswith("Known") else f"{hint} "
    return ConfigError(f"there is no {group} {choice!r}, in {origin}. {near}Known: {', '.join(sorted(choices))}.")


def _unknown_key(
    file: Path, overrides: Sequence[Override], compose: Callable[[Sequence[Override]], DictConfig]
) -> ConfigError | None:
    """Return the error for the first override of an unknown key; None if there is none."""
    groups = known_groups(file.parent)
    settings = [o for o in overrides if o.key_or_group not in groups and not o.is_add() and not o.is_force_add()]
    try:
        known = list(flat_keys(compose([o for o in overrides if o not in settings])))
    except HydraException:
        return None
    for override in settings:
        key = override.key_or_group
        if key not in known:
            hint = suggest(key, known)
            if key.partition(".")[0] in groups and not hint.startswith("Did you mean"):
                hint += f" If its class accepts it, write +{override.input_line}."
            return ConfigError(f"unknown key {key} in the override {override.input_line!r}. {hint}")
    return None


def _one_line(error: BaseException) -> str:
    """Return the first nonempty line of an error, or of its cause."""
    text = str(error).strip()
    if not text and error.__cause__ is not None:
        return _one_line(error.__cause__)
    return f"{text.splitlines()[0].rstrip('.')}." if text else f"{type(error).__name__}."
