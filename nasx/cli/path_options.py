"""Options whose value is a path: `~` is the home directory, and an empty value is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nasx.errors import SettingError

PATH_OPTIONS = frozenset(
    {
        "--cache",
        "--config",
        "-c",
        "--final",
        "--out",
        "--plot",
        "--root",
        "--run-dir",
        "--runs-dir",
        "--sheet",
        "--similarity",
        "--synsets",
        "--warm-start",
        "--weights",
        "--wordnet",
    }
)


def checked_paths(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command line, with ~ replaced in the values of path options.

    Raises SettingError for an empty path, e.g. of a shell variable that is not set, and for an unknown home directory.
    """
    words: list[str] = []
    for word in arguments:
        option, equals, value = word.partition("=")
        if equals and option in PATH_OPTIONS:
            word = f"{option}={_path(option, value)}"
        elif words and words[-1] in PATH_OPTIONS:
            word = _path(words[-1], word)
        words.append(word)
    return words


def _path(option: str, value: str) -> str:
    if not value:
        raise SettingError(option, "must be a path, got an empty text.")
    path = os.path.expanduser(value)  # noqa: PTH111 - Path would remove a trailing slash
    if path.startswith("~") and not os.path.lexists(path):
        raise SettingError(option, f"begins with ~, but there is no such home directory: {value}. Write it in full.")
    return path
