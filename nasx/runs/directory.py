"""Run directories: what is in one, naming, finding and locking them, and which weights are kept.

::

    runs/latest                        points to the newest run
    runs/<experiment>/<timestamp>/     one run; may be moved and renamed, nothing inside names its place
        config.yaml                    everything resolved
        run.db                         the journal (`nasx.runs`)
        tracker.json                   which trials each tracker has, if the run is tracked
        test_touches.json              when the test images were looked at (`nasx.workflows`)
        report.html                    by `nasx report`
        archs/<arch_id>/               one network
            weights_<replicate>.safetensors
            finetuned.json             by `finetune_front`, with finetuned.safetensors (`nasx.runs.training_records`)
            explanation/               by `nasx explain`
            diagnostics/               by `nasx debug`
            final/                     by `nasx train` (`nasx.workflows`)
            export/                    by `nasx export` (`nasx.export`)

A running search has more: locks, and notes of workers that hung or ended beside their weights.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from nasx.errors import RunError, SettingError
from nasx.files import is_temporary, translate_disk_errors, write_atomically

CONFIG = "config.yaml"
DATABASE = "run.db"
ARCHS = "archs"
LATEST = "latest"
_LOCK = ".lock"
_HOLDER = ".lock.holder"
_BEGUN = (CONFIG, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", _LOCK, _HOLDER)  # by a search
_WEIGHTS = re.compile(r"weights_(\d+)\.safetensors")
_NO_SYMLINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})


def runs_home() -> Path:
    """Where runs are looked for when no run directory is named: NASX_RUNS, or ./runs."""
    return Path(os.environ.get("NASX_RUNS", "runs"))


def arch_dir(run_dir: Path, arch_id: str) -> Path:
    """Where everything about one network lies."""
    return run_dir / ARCHS / arch_id


def weights_file(run_dir: Path, arch_id: str, replicate: int = 0) -> Path:
    """Where the trained weights of one trial lie, if they are kept."""
    return arch_dir(run_dir, arch_id) / f"weights_{replicate}.safetensors"


def is_run(path: Path) -> bool:
    """Whether `path` is a run directory: one that has a journal."""
    return (path / DATABASE).is_file()


def new_run_dir(runs_dir: Path, name: str, now: datetime) -> Path:
    """Make runs_dir/name/<timestamp>, with -2, -3, ... where that second is taken, and return it.

    Raises SettingError where `name` cannot be a directory's name.
    """
    if name == LATEST or not re.fullmatch(r"\w[\w.+-]*", name):
        raise SettingError(
            "name", f"must be of letters, digits, '.', '_', '+', '-' and not be {LATEST!r}, got {name!r}"
        )
    stamp = f"{now:%Y-%m-%d_%H-%M-%S}"
    with translate_disk_errors(str(runs_dir)):
        for attempt in count(1):
            run_dir = runs_dir / name / (stamp if attempt == 1 else f"{stamp}-{attempt}")
            with suppress(FileExistsError):
                run_dir.mkdir(parents=True)
                return run_dir
    raise AssertionError("count() never ends")


def check_free(run_dir: Path) -> None:
    """Raise RunError unless a new run may be begun at `run_dir`: nothing is there, or an empty directory.

    What a search leaves that was killed as it began does not count; a journal is `RunStore.check_unbegun`'s.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir} is a file: name a new directory by --run-dir.")
    there = [p.name for p in run_dir.iterdir()] if run_dir.is_dir() else []
    others = sorted(name for name in there if name not in _BEGUN and not _is_temporary(name))
    if others:
        raise RunError(f"{run_dir} is not empty: it holds {others[0]}. Name a new directory by --run-dir.")


def remove_temporary(run_dir: Path) -> None:
    """Remove half-written files that a killed search has left. The lock must be held: nobody writes them now."""
    for file in run_dir.iterdir():
        if _is_temporary(file.name):
            file.unlink(missing_ok=True)


def _is_temporary(name: str) -> bool:
    return any(is_temporary(name, of) for of in _BEGUN)


def mark_latest(runs_dir: Path, run_dir: Path) -> None:
    """Let runs_dir/latest point to `run_dir`: in one step, and relatively, so that runs_dir may be moved.

    Does nothing on a disk that knows no symbolic links; `find_run` then goes by the timestamps.
    """
    link = runs_dir / LATEST
    temporary = runs_dir / f".{LATEST}.{os.getpid()}"
    target = os.path.relpath(run_dir.resolve(), runs_dir.resolve())
    with translate_disk_errors(str(link)):
        try:
            runs_dir.mkdir(parents=True, exist_ok=True)  # a run may lie elsewhere
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target, target_is_directory=True)
            temporary.replace(link)
        except OSError as exc:
            if exc.errno not in _NO_SYMLINKS:
                raise


def list_runs(runs_dir: Path) -> list[Path]:
    """The run directories below `runs_dir`, one or two levels deep, oldest first by their names' timestamps."""
    candidates = (p.parent for depth in ("*", "*/*") for p in runs_dir.glob(f"{depth}/{DATABASE}"))
    return sorted((p for p in candidates if not p.is_symlink()), key=lambda p: (p.name, p.parent.name))


def find_run(path: Path | None, runs_dir: Path) -> Path:
    """The run directory at `path`; with None the newest one of `runs_dir`.

    Raises RunError where there is none, saying what is there instead and what to do.
    """
    if path is None:
        return _newest(runs_dir)
    if path.name == DATABASE and path.is_file():
        return path.parent
    if is_run(path):
        return path.resolve() if path.is_symlink() else path
    if not path.exists():
        raise RunError(f"{path} does not exist. `nasx runs` lists the runs.")
    if path.is_dir() and (inside := list_runs(path)):
        raise RunError(f"{path} is not a run directory, but holds {len(inside)}; the newest is {inside[-1]}.")
    raise RunError(f"{path} is not a run directory: it has no {DATABASE}. `nasx runs` lists the runs.")


def _newest(runs_dir: Path) -> Path:
    latest = runs_dir / LATEST
    if latest.is_symlink() and is_run(latest):
        return runs_dir / latest.readlink()
    if runs := list_runs(runs_dir):
        return runs[-1]
    raise RunError(f"no runs in {runs_dir} yet. Make one with `nasx search`, or name one with --run-dir.")


@contextmanager
def lock(directory: Path, use: str = "search", otherwise: str = "search into another --run-dir") -> Iterator[None]:
    """Hold a directory for one use, by default a run for a search. The lock of a process that has died is free.

    Raises RunError where another process has it, naming the holder and what to do `otherwise`, or where the file system
    has no locks.
    """
    held = FileLock(directory / _LOCK)
    with translate_disk_errors(str(directory)):
        try:
            held.acquire(timeout=0)
        except Timeout as exc:
            raise RunError(
                f"{directory} is in use by another {use} ({_holder(directory)}). "
                f"Wait until it ends, or stop it, or {otherwise}."
            ) from exc
        except NotImplementedError as exc:  # e.g. Lustre mounted without flock; the journal needs locks as well
            raise RunError(
                f"the file system of {directory} has no file locks: keep runs on another, e.g. a local disk."
            ) from exc
    try:
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        write_atomically(directory / _HOLDER, json.dumps(holder).encode())
        yield
    finally:
        (directory / _HOLDER).unlink(missing_ok=True)
        held.release()


def _holder(directory: Path) -> str:
    try:
        holder = json.loads((directory / _HOLDER).read_bytes())
    except FileNotFoundError:  # between taking the lock and signing it
        return "just started"
    return f"process {holder['pid']} on {holder['host']}"


def kept_weights(run_dir: Path) -> dict[tuple[str, int], Path]:
    """The weight files of a run, by (arch_id, replicate)."""
    found = {}
    for path in sorted((run_dir / ARCHS).glob("*/weights_*.safetensors")):
        if match := _WEIGHTS.fullmatch(path.name):
            found[path.parent.name, int(match[1])] = path
    return found


def prune_weights(run_dir: Path, keep: Collection[tuple[str, int]]) -> int:
    """Remove the weights of all trials but those in `keep`, (arch_id, replicate); returns how many were removed.

    May be interrupted and repeated. `keep` must name the trials that are still running as well: their weights may
    be on disk before the journal knows them.
    """
    dropped = [path for trial, path in kept_weights(run_dir).items() if trial not in keep]
    for path in dropped:
        path.unlink(missing_ok=True)
    return len(dropped)
