"""Find configs: by path, in ./configs, or among the configs packaged with nasx."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import nasx
from nasx.config.settings import expand_user
from nasx.errors import ConfigError, did_you_mean

BASE = "base"  # defaults of all experiments; not an experiment itself


def packaged_directory() -> Path:
    """Return the directory of the packaged configs: in the package if installed from a wheel, else next to it."""
    package = Path(nasx.__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def search_path(own: Path | None = None) -> list[Path]:
    """Return the directories of configs and choices, highest precedence first.

    `own` is the directory of the config that is composed.
    """
    candidates = [own, Path.cwd() / "configs", packaged_directory()]
    found = [directory.resolve() for directory in candidates if directory is not None and directory.is_dir()]
    return list(dict.fromkeys(found))


def find_config(name_or_path: str | Path) -> Path:
    """Return the absolute path of an experiment's file.

    A path is used as it is. A name, with or without .yaml, is searched in ./configs, then among the packaged configs.
    Raises ConfigError, with the known names, if there is none.
    """
    if not str(name_or_path):
        raise ConfigError("there is no config of an empty name. `nasx config list` shows the configs.")
    given = expand_user(Path(name_or_path), "--config")
    if given.is_file() and given.suffix != ".yaml":
        raise ConfigError(f"{given} is not a config: the name of a config ends in .yaml.")
    file = given if given.suffix == ".yaml" else Path(f"{given}.yaml")
    for directory in (Path.cwd(), *search_path()):
        if (directory / file).is_file():
            return (directory / file).resolve()
    if given.is_dir():
        raise ConfigError(f"{given} is a directory, not a config. Name a YAML file, e.g. {given / 'config.yaml'}.")
    known = sorted(known_configs())
    hint = did_you_mean(given.stem, known)
    near = "" if hint.startswith("Known") else f"{hint} "
    raise ConfigError(
        f"there is no config {str(name_or_path)!r}. {near}Known: {', '.join(known)}; or use the path of a YAML file."
    )


def known_configs() -> dict[str, Path]:
    """Return all experiments that can be given by name, name -> file."""
    return {name: file for name, file in _yaml_files(search_path()).items() if name != BASE}


def known_choices(group: str, own: Path | None = None) -> dict[str, Path]:
    """Return all choices of a group, name -> file. `own` is the directory of the config that is composed."""
    return _yaml_files([directory / group for directory in search_path(own)])


def known_groups(own: Path | None = None) -> list[str]:
    """Return the groups: folders of the search path with at least one choice."""
    names = {folder.name for directory in search_path(own) for folder in directory.iterdir() if folder.is_dir()}
    return sorted(name for name in names if known_choices(name, own))


def description(file: Path) -> str:
    """Return the first line of a config's leading comment that is not a command."""
    lines = takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    comment = [line.lstrip("# ").rstrip() for line in lines]
    described = [line for line in comment if not line.startswith("nasx ")]
    return described[0] if described else "".join(comment[:1]).partition(": ")[2]


def _yaml_files(directories: list[Path]) -> dict[str, Path]:
    """Return the YAML files in the directories by stem; the first directory takes precedence."""
    files = [file for directory in reversed(directories) for file in sorted(directory.glob("*.yaml"))]
    return {file.stem: file for file in files}
