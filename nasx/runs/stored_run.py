"""Open a run: its journal and its config together, each checked against the other. Every reader of a run starts here.

The journal contains the config with which the search was started. config.yaml is the copy that people read, and in
which places of data may be changed. If it differs in a setting that affects results, nothing is read: figures would be
of another search. A config.yaml that is gone is restored from the journal.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nasx
from nasx.config.identity import (
    CHANGEABLE,
    OLDER_PLACES,
    config_hash,
    deciding,
    differences,
    in_words,
    merged,
)
from nasx.config.plain import MAX_BYTES, Config, get, leaves, parse_plain, to_yaml
from nasx.config.trust import check_targets
from nasx.errors import ConfigError, ResourceError, RunError
from nasx.files import read_bounded, write_atomically
from nasx.runs.columns import shown
from nasx.runs.directory import CONFIG, DATABASE
from nasx.runs.journal import Journal
from nasx.runs.rows import DataRecord, RunInfo

FILE: Final = "file of "  # begins the name of a part of the recorded data: the file of a setting, by its full key
PLACES: Final = "places"  # part of the recorded data: the keys of settings that only name places
_IMAGES: Final = ("classes", "labels", "pixels")  # parts of the data, of images
_TABLE: Final = "table"
_DATA: Final = (*_IMAGES, "corrections", _TABLE)  # parts that do not depend on the seed
VERSIONS: Final = "versions"  # kind of the event of a session with other versions than the one before
Notify = Callable[[str], None]
Watch = Callable[[int, int], None]
_said: set[str] = set()


def print_once(line: str) -> None:
    """Print a notice on stderr, once per process: a command may open a run several times."""
    if line not in _said:
        _said.add(line)
        print(f"nasx: {line}", file=sys.stderr)


def _ignore(finished: int, epochs: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class ReadOptions:
    """How a run is read again: where its data are, and what is accepted."""

    overrides: tuple[str, ...] = ()  # `key=value`: other places of the data
    other_data: bool = False  # read other data than those of the search; False: an error
    trust_code: bool = False  # import any class that the run names; False: only those of nasx and installed packages
    notify: Notify = print_once  # receives messages for the user, one line each
    train: bool = True  # train a network again if its weights are not kept; False: an error
    watch: Watch = _ignore  # called with (finished, all) epochs of a network that is trained again
    watch_features: Watch = _ignore  # called with (finished, all) images whose features by a backbone are computed
    resumes: bool = False  # the search goes on: refuse corrections that have been edited since it was started


DEFAULT: Final = ReadOptions()  # data at their recorded place; other data and code of unknown origin are refused


@dataclass(frozen=True, eq=False)
class StoredRun:
    """Run whose journal is open, and whose config is that of its journal."""

    run_dir: Path
    journal: Journal
    data: Mapping[str, DataRecord]  # content of its data, by part; empty: a run of an older version
    places: tuple[str, ...]  # keys of the settings that only name places of its data
    found: Config | None  # its config with overrides; None: no file, and none in the journal
    is_checked: bool  # the config names no code of unknown origin, or the user trusts it
    named: tuple[str, ...] = ()  # keys and groups that the overrides name, also if they change nothing

    @property
    def info(self) -> RunInfo:
        return self.journal.info

    @property
    def data_digest(self) -> str:
        """Eight digits that differ if the data differ; "": unknown, of a run of an older version."""
        parts = [f"{part} {record.digest}" for part, record in sorted(self.data.items()) if part in _DATA]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8] if parts else ""

    @property
    def config(self) -> Config:
        """The config, plain data. Raises RunError if it is lost."""
        if self.found is None:
            raise RunError(
                f"{self.run_dir / CONFIG} is missing, and the journal of this older run has no copy of it: restore it."
            )
        return self.found


@contextmanager
def open_run(
    run_dir: Path,
    overrides: Sequence[str] = (),
    *,
    may_change: Collection[str] = (),
    trust_code: bool | None = None,
    write: bool = False,
    notify: Notify = print_once,
) -> Iterator[StoredRun]:
    """Open a run in the block, with the overrides on its config.

    Args:
        run_dir: directory of the run.
        overrides: `key=value`, of places of its data or of settings in `may_change`.
        may_change: keys of settings or sections that the overrides may change.
        trust_code: False: raise ConfigError if the config names code of unknown origin. None: no component of the run
            is built, so that it does not matter; not with overrides, which are read by their classes.
        write: open the journal for writing; the caller holds the lock.
        notify: receives messages for the user, one line each.

    Raises:
        RunError: if this is not a run, if its journal or its config is damaged, or if they contradict each other.
        ConfigError: if an override is malformed or of an unknown key.
    """
    with Journal.open(run_dir, read_only=not write) as journal:
        data = journal.data()
        places = _places(run_dir, data)
        config = _read_checked(run_dir, journal.info, places, notify)
        if config is not None:
            _check_row(run_dir, journal.info, data, config)
            if not trust_code and (trust_code is False or overrides):
                check_targets(config, str(run_dir / CONFIG))  # before the overrides, which may name the user's own code
            config = _changed(run_dir, config, overrides, may_change, places)
        named = tuple(override.partition("=")[0].lstrip("+~") for override in overrides)
        yield StoredRun(run_dir, journal, data, places, config, is_checked=trust_code is not None, named=named)


def _read_checked(run_dir: Path, info: RunInfo, places: Collection[str], notify: Notify) -> Config | None:
    """Return the config of a run, compared with its journal. None: an older run that has lost it."""
    file, original = run_dir / CONFIG, dict(info.config)
    if original and config_hash(original) != info.config_hash:
        raise RunError(
            f"{run_dir / DATABASE} is damaged: its config is not the one of its hash. Restore it from a copy."
        )
    try:
        present = _read_config(file)
    except (ConfigError, RunError) as error:
        remedy = "Remove it: it is then restored from the journal." if original else "Restore it from a copy."
        raise RunError(f"{error} {remedy}") from error
    if present is None:
        return _restored(file, original, notify) if original else None
    if original:
        if found := deciding(differences(original, present), (*CHANGEABLE, *places)):
            raise RunError(
                f"{file} has been edited since the run was started: {in_words(found)}. Put it back, or remove the "
                "file: it is then restored from the journal. For other settings start a new run."
            )
        present = merged(original, present)
    elif config_hash(present) != info.config_hash:
        raise RunError(
            f"{file} has been edited since the run was started: a setting that affects results differs. The journal "
            "of this older run has only a hash of its settings, so it cannot be said which. Restore the file from a "
            "copy; name other places of the data on the command line, e.g. dataset.file=FILE."
        )
    _check_variables(file, present)
    return present


def _read_config(file: Path) -> Config | None:
    """Return a config.yaml as plain data; None if there is none. Raises ConfigError or RunError."""
    try:
        return parse_plain(read_bounded(file, MAX_BYTES), str(file))
    except FileNotFoundError:
        return None


def _restored(file: Path, original: Config, notify: Notify) -> Config:
    """Write the journal's copy of a config.yaml that is gone, and return it."""
    try:
        write_atomically(file, to_yaml(original).encode())
        notify(f"{file} was missing: restored from the journal.")
    except (ResourceError, OSError):  # a run that cannot be written can still be read
        notify(f"{file} is missing and cannot be written: the copy in the journal is used.")
    return original


def _check_variables(file: Path, config: Config) -> None:
    """Raise RunError if a place of data contains an environment variable: readers would replace it by its value."""
    for key, value in leaves(config):
        if (
            key.startswith("dataset.")
            and isinstance(value, str)
            and os.path.expandvars(value) != value
            and not Path(value).exists()
        ):
            raise RunError(
                f"{file}: {key} contains a variable of the environment. The config of a run is plain text, in which "
                f"nothing is replaced: name the place on the command line, {key}=PLACE."
            )


def _check_row(run_dir: Path, info: RunInfo, data: Mapping[str, DataRecord], config: Config) -> None:
    """Raise RunError if the identity in the journal contradicts the config or the recorded data."""
    expected: dict[str, Any] = {"name": config.get("name"), "seed": config.get("seed")}
    expected["objectives"] = config.get("objectives")
    if (n_classes := get(config, "evaluation.n_classes")) is not None:
        expected["n_classes"] = n_classes
    if "labels" in data:
        expected["n_classes"] = len(_fact(run_dir, data, "labels", "counts"))
        expected["class_names"] = _fact(run_dir, data, "classes", "names")
    for name, value in expected.items():
        own = getattr(info, name)
        if (list(own) if isinstance(own, tuple) else own) != value:
            raise RunError(
                f"{run_dir / DATABASE} is damaged: its {name.replace('_', ' ')} is {own!r}, but {value!r} by its "
                "config and data. Restore it from a copy."
            )


def require_data(run: StoredRun) -> None:
    """Raise RunError if the journal does not describe all data that the search has read. Older journals need not."""
    if not run.info.config:
        return
    parts = (_TABLE,) if run.config.get("evaluation") else (*_IMAGES, "split")
    if missing := [part for part in (*parts, PLACES) if part not in run.data]:
        raise RunError(
            f"{run.run_dir / DATABASE} is damaged: it does not describe the {missing[0]} of the data that its search "
            "has read. Restore it from a copy."
        )


def _places(run_dir: Path, data: Mapping[str, DataRecord]) -> tuple[str, ...]:
    """Return the keys of the settings that only name places of the data, and may change. Raises RunError for others."""
    if PLACES not in data:
        return OLDER_PLACES
    for key in (keys := _fact(run_dir, data, PLACES, "keys")):
        if not (isinstance(key, str) and (key.startswith(("dataset.", "evaluation.")) or f"{FILE}{key}" in data)):
            raise RunError(
                f"{run_dir / DATABASE} is damaged: {shown(key)} is no place of its data. Restore it from a copy."
            )
    return tuple(keys)


def _fact(run_dir: Path, data: Mapping[str, DataRecord], part: str, name: str) -> list[Any]:
    """Return a list among the recorded facts of a part of the data. Raises RunError if it has none."""
    found = data[part].facts.get(name) if part in data else None
    if not isinstance(found, list):
        raise RunError(f"{run_dir / DATABASE} is damaged: it has no list of {part} {name}. Restore it from a copy.")
    return found


def _changed(
    run_dir: Path, config: Config, overrides: Sequence[str], may_change: Collection[str], places: Collection[str]
) -> Config:
    """Return the config with overrides. Raises RunError if they change a setting that must stay as it was."""
    if not overrides:
        return config
    from nasx.config.compose import with_overrides  # Hydra takes 0.3 s to load

    changed = with_overrides(config, overrides)
    if found := deciding(differences(config, changed), (*may_change, *places)):
        own = (key for key in may_change if key != "provenance")  # nasx writes it itself
        allowed = ", ".join((*own, *(place for place in places if not place.startswith(tuple(may_change)))))
        raise RunError(
            f"{run_dir} was started with other settings: {in_words(found)}. Here only {allowed or 'nothing'} may "
            "change; for other changes start a new run."
        )
    return changed


def version_notice(run: StoredRun, torch: str, python: str) -> str:
    """Return a line if nasx, torch or Python are of other versions than in the last session of a run; else "".

    Args:
        run: an open run.
        torch: version here.
        python: version here.
    """
    info, now = run.info, versions(nasx.__version__, torch, python)
    recorded = [event.message for event in run.journal.events() if event.kind == VERSIONS]
    then = recorded[-1] if recorded else versions(info.nasx_version, info.torch_version, info.python_version)
    return "" if then == now else f"the run was made with {then}; here are {now}: new figures may differ slightly."


def versions(own: str, torch: str, python: str) -> str:
    """Return the three versions in words, as the journal records them when a search resumes with others."""
    return f"nasx {own}, torch {torch} and Python {python}"
