"""Find configs: a path, ./configs, then the configs that come with nasx."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import nasx
from nasx.errors import ConfigError, did_you_mean

BASE = "base"  # what every experiment starts from; no experiment itself


def packaged_directory() -> Path:
    """The configs that come with nasx: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(nasx.__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def search_path(own: Path | None = None) -> list[Path]:
    """The directories in which configs and choices are looked up, first come first served.

    `own` is the directory of the config that is composed.
    """
    candidates = [own, Path.cwd() / "configs", packaged_directory()]
    found = [directory.resolve() for directory in candidates if directory is not None and directory.is_dir()]
    return list(dict.fromkeys(found))


def find_config(name_or_path: str | Path) -> Path:
    """The file of an experiment, as an absolute path.

    A path is taken as it is; a name, with or without .yaml, is looked up in ./configs, then among the packaged ones.
    Raises ConfigError that lists the known ones.
    """
    given = Path(name_or_path).expanduser()
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
        f"there is no config {str(name_or_path)!r}. {near}Known: {', '.join(known)}; or give the path of a YAML file."
    )


def known_configs() -> dict[str, Path]:
    """Every experiment that a name can mean, by name."""
    return {name: file for name, file in _yaml_files(search_path()).items() if name != BASE}


def known_choices(group: str, own: Path | None = None) -> dict[str, Path]:
    """Every choice of a group, by name. `own` is the directory of the config that is composed."""
    return _yaml_files([directory / group for directory in search_path(own)])


def known_groups(own: Path | None = None) -> list[str]:
    """The groups: folders of the search path that hold at least one choice."""
    names = {folder.name for directory in search_path(own) for folder in directory.iterdir() if folder.is_dir()}
    return sorted(name for name in names if known_choices(name, own))


def description(file: Path) -> str:
    """What a config is: the first line of its leading comment, but for the command that runs it."""
    lines = takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    comment = [line.lstrip("# ").rstrip() for line in lines]
    told = [line for line in comment if not line.startswith("nasx ")]
    return told[0] if told else "".join(comment[:1]).partition(": ")[2]


def _yaml_files(directories: list[Path]) -> dict[str, Path]:
    """The YAML files in the directories by stem; the first directory wins."""
    files = [file for directory in reversed(directories) for file in sorted(directory.glob("*.yaml"))]
    return {file.stem: file for file in files}
