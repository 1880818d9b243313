"""Rule of trust: code that a run directory names is used only if it is part of nasx or of an installed package.

Trusted is what the user writes: a config named by --config, with the classes of its `_target_`s, and everything in the
user's own `configs/`. Never trusted are run directories, tables, datasets, model files and pictures: they may be from
somebody else. A run's config names classes, and importing a module executes it. So before anything is imported, each
`_target_` of a run's config must name a class of nasx, or of a package in the site-packages of this Python (or in
development mode by `pip install -e`): never a module of the current directory or of PYTHONPATH, never one of the
standard library, never a `__main__`. Its members are checked by `nasx.config.components.build` before it is called.
A function that builds a backbone (`space.backbone: module:factory`) cannot be checked before it is called, and some
functions of installed packages run code of the current directory (`pytest:main`), so it is never trusted.
`--trust-code` (in Python `trust_code=True`) switches the check off for one command.
"""

from __future__ import annotations

import importlib.util
import json
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from nasx.config.backbone_names import is_code
from nasx.config.components import TARGET, current_name
from nasx.config.describe import full_key, yaml_text
from nasx.errors import ConfigError

OWN = "nasx"
REMEDY = "If you trust the origin of the run, add --trust-code (in Python: trust_code=True)."


def check_targets(config: Mapping[str, Any], origin: str) -> None:
    """Raise ConfigError for the first class or function of a run's config of unknown origin. Imports nothing.

    Args:
        config: plain data.
        origin: of the config, for the message.
    """
    components = [(key, node) for key, node in _mappings(config) if TARGET in node]
    for key, node in components:
        target, name = node[TARGET], full_key(key, TARGET)
        if not isinstance(target, str):
            raise ConfigError(f"{name} must name a class as package.module.Class, got {yaml_text(target)}.")
        if problem := find_problem(target):
            raise ConfigError(f"{origin}: {name} names {target}, {problem}. {REMEDY}")
    for key, node in components:
        factory, name = node.get("backbone"), full_key(key, "backbone")
        if isinstance(factory, str) and is_code(factory):
            raise ConfigError(f"{origin}: {name} names the function {factory}, which would be called. {REMEDY}")


def find_problem(target: str) -> str:
    """Return why the module of a class must not be imported for a run of unknown origin; "" if it may be.

    >>> find_problem("nasx.spaces.nb201.NASBench201"), find_problem("numpy.ndarray")
    ('', '')
    >>> find_problem("nasx.__main__.main"), find_problem("subprocess.Popen")[:42]
    ('a program', 'which is not part of nasx or of an install')
    """
    names = current_name(target).split(".")
    if "__main__" in names:
        return "a program"
    if names[0] == OWN:
        return ""
    found = _locations(names[0])
    if found is None:
        return f"but there is no module {names[0]!r}: install its package"
    folders = [*_installed_folders(), *_editable_folders(names[0])]
    if found and all(any(place.is_relative_to(folder) for folder in folders) for place in found):
        return ""
    where = f" ({found[0]})" if found else ""
    return f"which is not part of nasx or of an installed package{where}"


def _mappings(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the full key and the value of every mapping at any depth, the outer ones first."""
    children: list[tuple[str, Any]] = []  # keys may be equal as text, e.g. 1 and "1"
    if isinstance(node, Mapping):
        yield key, node
        children = [(full_key(key, str(name)), value) for name, value in node.items()]
    elif isinstance(node, list | tuple):
        children = [(f"{key}[{number}]", value) for number, value in enumerate(node)]
    for child, value in children:
        yield from _mappings(value, child)


def _locations(package: str) -> list[Path] | None:
    """Return where Python would import a top-level module from, without importing it.

    None: there is no such module. []: it is in no file.
    """
    path = list(sys.path)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # as `nasx.config.components` does
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return []
    finally:
        sys.path[:] = path
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())
    if spec.has_location and spec.origin:
        places.append(spec.origin)
    return [Path(place).resolve() for place in places]


@cache
def _installed_folders() -> tuple[Path, ...]:
    """Return the directories into which pip installs packages for this Python."""
    named = sysconfig.get_paths()
    folders = [*site.getsitepackages(), named["purelib"], named["platlib"]]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return tuple(dict.fromkeys(Path(folder).resolve() for folder in folders))


@cache
def _editable_folders(package: str) -> tuple[Path, ...]:
    """Return the projects installed in development mode that provide a top-level module."""
    found = distributions(path=[str(folder) for folder in _installed_folders()])
    return tuple(folder for each in found if (folder := _project(each)) and package in _provided(each))


def _project(distribution: Distribution) -> Path | None:
    """Return the directory of a distribution installed in development mode; None for any other."""
    try:
        url = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    is_editable = isinstance(url, dict) and isinstance(url.get("dir_info"), dict) and url["dir_info"].get("editable")
    return Path(unquote(urlparse(str(url["url"])).path)).resolve() if is_editable else None


def _provided(distribution: Distribution) -> set[str]:
    """Return the top-level modules of a distribution installed in development mode."""
    declared = (distribution.read_text("top_level.txt") or "").split()
    return set(declared) or {distribution.metadata["Name"].replace("-", "_")}
