"""Run directories: layout, names, search, locks and stored weights.

::

    runs/latest                        points to the newest run
    runs/<experiment>/<timestamp>/     one run; may be moved and renamed, no file contains its path
        config.yaml                    complete config, resolved
        run.db                         the journal (`nasx.runs`)
        tracker.json                   trials logged by each tracker, if the run has one
        test_touches.json              test-set evaluations (`nasx.runs.training_records`)
        report.html                    by `nasx report`
        archs/<arch_id>/               one network
            weights_<replicate>.safetensors
            finetuned.json             by `finetune_front`, with finetuned.safetensors (`nasx.runs.training_records`)
            explanation/               by `nasx explain`
            diagnostics/               by `nasx debug`
            final/                     by `nasx train`
                final.json                  settings and results of the final trainings (`nasx.runs.training_records`)
                weights_<n>.safetensors     of the training with seed n
                confidence_<n>.json         its confidence calibration
                checkpoint_<n>.safetensors  of an unfinished training
            export/                    by `nasx export` (`nasx.export`)

A running search has further files: locks, and notes of workers that hung or ended, next to their weights.
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
_BEGUN = (
    CONFIG,
    DATABASE,
    f"{DATABASE}-wal",
    f"{DATABASE}-shm",
    f"{DATABASE}-journal",
    _LOCK,
    _HOLDER,
)  # written at the start
_WEIGHTS = re.compile(r"weights_(\d+)\.safetensors")
_NO_SYMLINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})


def default_runs_dir() -> Path:
    """Return the directory of all runs: the environment variable NASX_RUNS, or ./runs."""
    return Path(os.environ.get("NASX_RUNS", "runs"))


def arch_dir(run_dir: Path, arch_id: str) -> Path:
    """Return the directory of one network."""
    return run_dir / ARCHS / arch_id


def weights_file(run_dir: Path, arch_id: str, replicate: int = 0) -> Path:
    """Return the path of the trained weights of a trial. The file exists only if they are kept."""
    return arch_dir(run_dir, arch_id) / f"weights_{replicate}.safetensors"


def is_run(path: Path) -> bool:
    """Return whether `path` is a run directory: whether it has a journal."""
    return (path / DATABASE).is_file()


def new_run_dir(runs_dir: Path, name: str, now: datetime) -> Path:
    """Create runs_dir/name/<timestamp> and return its path.

    Args:
        runs_dir: Directory of all runs.
        name: Name of the experiment.
        now: Time for the timestamp. If its second is taken, the name ends in -2, -3, ...

    Raises:
        SettingError: If `name` cannot be the name of a directory.
    """
    if name == LATEST or not re.fullmatch(r"\w[\w.+-]*", name):
        raise SettingError(
            "name", f"must consist of letters, digits, '.', '_', '+', '-' and not be {LATEST!r}, got {name!r}"
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
    """Raise RunError unless `run_dir` can be the directory of a new run: it does not exist or is empty.

    Files of a search that was killed while it started are ignored; `Journal.check_absent` checks for a journal.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir} is a file: choose a new directory with --run-dir.")
    there = [p.name for p in run_dir.iterdir()] if run_dir.is_dir() else []
    others = sorted(name for name in there if name not in _BEGUN and not _is_temporary(name))
    if others:
        raise RunError(f"{run_dir} is not empty: it contains {others[0]}. Choose a new directory with --run-dir.")


def remove_temporary(run_dir: Path) -> None:
    """Remove temporary files of a killed search. The caller holds the lock, so that no process is writing them."""
    for file in run_dir.iterdir():
        if _is_temporary(file.name):
            file.unlink(missing_ok=True)


def _is_temporary(name: str) -> bool:
    return any(is_temporary(name, of) for of in _BEGUN)


def mark_latest(runs_dir: Path, run_dir: Path) -> None:
    """Point the link runs_dir/latest to `run_dir`: atomically, and by a relative path, so that runs_dir may be moved.

    Does nothing on a file system without symbolic links; `find_run` then compares the timestamps.
    """
    link = runs_dir / LATEST
    temporary = runs_dir / f".{LATEST}.{os.getpid()}"
    target = os.path.relpath(run_dir.resolve(), runs_dir.resolve())
    with translate_disk_errors(str(link)):
        try:
            runs_dir.mkdir(parents=True, exist_ok=True)  # --run-dir may be in another directory
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target, target_is_directory=True)
            temporary.replace(link)
        except OSError as exc:
            if exc.errno not in _NO_SYMLINKS:
                raise


def list_runs(runs_dir: Path) -> list[Path]:
    """Return the run directories one or two levels below `runs_dir`, oldest first by the timestamps in their names."""
    candidates = (p.parent for depth in ("*", "*/*") for p in runs_dir.glob(f"{depth}/{DATABASE}"))
    return sorted((p for p in candidates if not p.is_symlink()), key=lambda p: (p.name, p.parent.name))


def find_run(path: Path | None, runs_dir: Path) -> Path:
    """Return the run directory at `path`; if `path` is None, the newest one of `runs_dir`.

    Raises RunError if there is none.
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
        raise RunError(
            f"{path} is not a run directory, but contains {len(inside)} of them; the newest is {inside[-1]}."
        )
    raise RunError(f"{path} is not a run directory: it has no {DATABASE}. `nasx runs` lists the runs.")


def _newest(runs_dir: Path) -> Path:
    latest = runs_dir / LATEST
    if latest.is_symlink() and is_run(latest):
        return runs_dir / latest.readlink()
    if runs := list_runs(runs_dir):
        return runs[-1]
    raise RunError(f"no runs in {runs_dir} yet. Start one with `nasx search`, or choose a run with --run-dir.")


@contextmanager
def lock(directory: Path, use: str = "search", otherwise: str = "search into another --run-dir") -> Iterator[None]:
    """Lock a directory within the block. The lock of a killed process is released.

    Args:
        directory: Directory to lock.
        use: Name of the activity that needs the lock, for the error message.
        otherwise: Alternative to waiting, for the error message.

    Raises:
        RunError: If another process has the lock, or if the file system has no locks.
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
                f"the file system of {directory} has no file locks: store runs on another one, e.g. a local disk."
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
    except FileNotFoundError:  # the holder has the lock, but has not written the file yet
        return "just started"
    return f"process {holder['pid']} on {holder['host']}"


def kept_weights(run_dir: Path) -> dict[tuple[str, int], Path]:
    """Return the weight files of a run by (arch_id, replicate)."""
    found = {}
    for path in sorted((run_dir / ARCHS).glob("*/weights_*.safetensors")):
        if match := _WEIGHTS.fullmatch(path.name):
            found[path.parent.name, int(match[1])] = path
    return found


def prune_weights(run_dir: Path, keep: Collection[tuple[str, int]]) -> int:
    """Remove the weights of all trials except `keep`, (arch_id, replicate); return the number of files removed.

    May be interrupted and repeated. `keep` must include the running trials: their weights are written before their
    journal entries.
    """
    dropped = [path for trial, path in kept_weights(run_dir).items() if trial not in keep]
    for path in dropped:
        path.unlink(missing_ok=True)
    return len(dropped)
