"""Run directories: layout, names, search, locks and stored weights.

::

    runs/latest                        points to the newest run
    runs/<experiment>/<timestamp>/     one run; may be moved and renamed, no file contains its path
        config.yaml                    complete config, resolved
        run.db                         the journal (`nasx.runs`)
        corrections.csv                copy of dataset.corrections, if the run has any (`nasx.data.corrections`)
        tracker.json                   trials logged by each tracker, if the run has one
        test_touches.json              test-set evaluations (`nasx.runs.training_records`)
        report.html                    by `nasx report`
        archs/<arch_id>/               one network
            weights_<replicate>.safetensors     of a trial, kept by the search for the front and its rivals
            retrained_<replicate>.safetensors   of a trial, trained again afterwards (`nasx.runs.weights`)
            finetuned.json             by `finetune_front`, with finetuned.safetensors (`nasx.runs.training_records`)
            explanation/               by `nasx explain`
            diagnostics/               by `nasx debug`
            final/                     by `nasx train`
                final.json                  settings and results of the final trainings (`nasx.runs.training_records`)
                weights_<n>.safetensors     of the training with seed n
                confidence_<n>.json         its confidence calibration
                checkpoint_<n>.safetensors  of an unfinished training
            export/                    by `nasx export` (`nasx.export`)

A running search has further files: locks, and notes of workers that hung or ended, next to their weights. The directory
of a network is created with its first file and removed with its last one.

A run may come from a stranger. No link inside of it is followed: every path below a run directory is made by `file_in`
or `directory_in`, and names of networks that were read are checked before they become a part of one.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import socket
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count, pairwise
from pathlib import Path

from filelock import FileLock, Timeout

from nasx.errors import RunError, SettingError
from nasx.files import is_temporary, kind_of, read_bounded, translate_disk_errors, write_atomically
from nasx.runs.columns import is_arch_id, shown
from nasx.trial import Job

CONFIG = "config.yaml"
DATABASE = "run.db"
CORRECTIONS_COPY = "corrections.csv"
ARCHS = "archs"
LATEST = "latest"
JOURNAL_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal")  # of SQLite
ATTEMPTS = 3  # to write into a directory that a search may remove because it is empty
MAX_HOLDER = 10_000  # bytes of the file about the holder of a lock
_LOCK = ".lock"
_HOLDER = ".lock.holder"
_BEGUN = (CONFIG, CORRECTIONS_COPY, *JOURNAL_FILES, _LOCK, _HOLDER)  # written at the start
_WEIGHTS = re.compile(r"weights_(\d{1,7})\.safetensors")
_NO_SYMLINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})


def default_runs_dir() -> Path:
    """Return the directory of all runs: the environment variable NASX_RUNS, or ./runs."""
    return Path(os.environ.get("NASX_RUNS", "runs"))


def file_in(run_dir: Path, *parts: str) -> Path:
    """Return the path of a file in a run directory, which may be missing.

    Raises RunError if there is something else: a link, a directory, a pipe, a device; or a link on the way to it. The
    run directory itself may be a link.
    """
    return _checked(run_dir, parts, stat.S_ISREG, "file")


def directory_in(run_dir: Path, *parts: str) -> Path:
    """Return the path of a directory in a run directory, which may be missing. Raises RunError as `file_in` does."""
    return _checked(run_dir, parts, stat.S_ISDIR, "directory")


def _checked(run_dir: Path, parts: Sequence[str], is_expected: Callable[[int], bool], expected: str) -> Path:
    path = str(run_dir)
    for position, part in enumerate(parts, 1):
        path = f"{path}{os.sep}{part}"
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            break
        except OSError as exc:
            raise RunError(f"{path} cannot be read: {exc.strerror}. Check the permissions of its directory.") from exc
        is_last = position == len(parts)
        if not (is_expected(mode) if is_last else stat.S_ISDIR(mode)):
            raise RunError(
                f"{path} is {kind_of(mode)}, expected a {expected if is_last else 'directory'}: nothing else is used "
                "in a run directory. Remove it, or restore the run from a copy."
            )
    return run_dir.joinpath(*parts)


def make_directory(run_dir: Path, *parts: str) -> Path:
    """Create a directory in a run directory, and return its path. Raises RunError if there is no run directory."""
    directory = directory_in(run_dir, *parts)
    with translate_disk_errors(str(directory)):
        for attempt in range(ATTEMPTS):
            try:
                for length in range(1, len(parts) + 1):
                    run_dir.joinpath(*parts[:length]).mkdir(exist_ok=True)
                break
            except FileNotFoundError as exc:  # or a search has just removed a directory that was empty
                if attempt == ATTEMPTS - 1 or not run_dir.is_dir():
                    raise gone(run_dir) from exc
    return directory


def remove_file(file: Path) -> None:
    """Remove the file of a network, which may be missing, and its directory if it is empty then."""
    file.unlink(missing_ok=True)
    with suppress(OSError):  # the directory has other files
        file.parent.rmdir()


def arch_dir(run_dir: Path, arch_id: str, *parts: str) -> Path:
    """Return the directory of one network, or a directory in it. Raises RunError for an id of another form."""
    if not is_arch_id(arch_id):
        raise RunError(f"{shown(arch_id)} is no id of a network: expected 10 hexadecimal digits.")
    return directory_in(run_dir, ARCHS, arch_id, *parts)


def weights_file(run_dir: Path, arch_id: str, replicate: int = 0) -> Path:
    """Return the path of the trained weights of a trial. The file exists only if they are kept."""
    arch_dir(run_dir, arch_id)
    return file_in(run_dir, ARCHS, arch_id, f"weights_{replicate}.safetensors")


def make_output(directory: Path) -> None:
    """Create a directory for results and its parents, but no run directory: it may have been removed meanwhile.

    Raises RunError if it is in a run directory that does not exist, or if links lead to it there.
    """
    for child, parent in pairwise((directory, *directory.parents)):
        if parent.name == ARCHS and is_arch_id(child.name):
            make_directory(parent.parent, *directory.relative_to(parent.parent).parts)
            return
    with translate_disk_errors(str(directory)):
        directory.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class Place:
    """A run directory as it was when a command began, to detect that it was removed, moved or replaced since."""

    run_dir: Path
    inode: int  # of the directory; the number of its device may differ between the nodes of a cluster

    @classmethod
    def of(cls, run_dir: Path) -> Place:
        """Return the place of an existing run directory."""
        return cls(run_dir, run_dir.stat().st_ino)

    def check(self) -> None:
        """Raise RunError if the directory is no longer there. Takes some microseconds."""
        try:
            inode = os.stat(self.run_dir).st_ino  # noqa: PTH116 - twice as fast as Path.stat
        except OSError:
            inode = -1
        if inode != self.inode:
            raise gone(self.run_dir)


def prepare_directory(job: Job, file: Path) -> None:
    """Create the directory of a file of a job, in the process of a worker, but not its run directory.

    Raises RunError if the run directory was removed, moved or replaced.
    """
    if job.run_inode is None:  # no job of a run
        file.parent.mkdir(parents=True, exist_ok=True)
        return
    run_dir = job.weights_file.parents[2]
    Place(run_dir, job.run_inode).check()
    make_directory(run_dir, *file.parent.relative_to(run_dir).parts)


def gone(run_dir: Path) -> RunError:
    """Return the error for a run directory that was moved, removed or replaced."""
    return RunError(
        f"{run_dir} was removed, moved or replaced while nasx was using it: stopped, and nothing more is written. "
        "If it was moved, all that is finished is there: continue with --run-dir and its new path."
    )


def is_run(path: Path) -> bool:
    """Return whether `path` is a run directory: whether it has a journal, sound or not."""
    try:
        (path / DATABASE).lstat()
    except (OSError, ValueError):  # ValueError: a path with a NUL character
        return False
    return True


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


def resume_line(run_dir: Path) -> str:
    """Return the sentence that says how to resume a run."""
    return f"Resume with: nasx search --resume --run-dir {shlex.quote(str(run_dir))}"


def list_runs(runs_dir: Path) -> list[Path]:
    """Return the run directories one or two levels below `runs_dir`, oldest first by the timestamps in their names.

    Directories that cannot be read are listed too: they may be runs.
    """
    found: dict[tuple[int, int], Path] = {}  # by identity: links may lead to a directory a second time
    for directory in _directories(runs_dir):
        for path in (directory, *_directories(directory)):
            if not path.is_symlink() and (is_run(path) or not _is_readable(path)):
                with suppress(OSError):
                    status = path.stat()
                    found.setdefault((status.st_dev, status.st_ino), path)
    return sorted(found.values(), key=lambda p: (p.name, p.parent.name))


def _is_readable(directory: Path) -> bool:
    """Return whether this process may list a directory and open its files; `os.access` asks for another user."""
    try:
        os.scandir(directory).close()
        (directory / DATABASE).lstat()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def _directories(directory: Path) -> list[Path]:
    """Return the directories in a directory, sorted; empty if it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            return sorted(directory / entry.name for entry in entries if _is_directory(entry))
    except OSError:
        return []


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # e.g. a loop of links
        return False


def find_run(path: Path | None, runs_dir: Path) -> Path:
    """Return the run directory at `path`; if `path` is None, the newest one of `runs_dir`.

    Raises RunError if there is none.
    """
    if path is None:
        return _newest(runs_dir)
    if path.name == DATABASE and not path.is_dir() and is_run(path.parent):
        return path.parent
    if is_run(path):
        return path.resolve() if path.is_symlink() else path
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as exc:
        raise RunError(f"{path} does not exist. `nasx runs` lists the runs.") from exc
    except OSError as exc:
        raise RunError(f"{path} cannot be read: {exc.strerror}. `nasx runs` lists the runs.") from exc
    if path.is_dir() and not _is_readable(path):
        raise RunError(f"{path} cannot be read: permission denied. Check its permissions.")
    if path.is_dir() and (inside := list_runs(path)):
        raise RunError(
            f"{path} is not a run directory, but contains {len(inside)} of them; the newest is {inside[-1]}."
        )
    raise RunError(f"{path} is not a run directory: it has no {DATABASE}. `nasx runs` lists the runs.")


def _newest(runs_dir: Path) -> Path:
    latest = runs_dir / LATEST
    with suppress(OSError):
        if latest.is_symlink() and is_run(latest):
            return runs_dir / latest.readlink()
    if runs := [run for run in list_runs(runs_dir) if is_run(run)]:
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
    held = FileLock(file_in(directory, _LOCK))
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
    place = Place.of(directory)
    try:
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        write_atomically(file_in(directory, _HOLDER), json.dumps(holder).encode())
        yield
    finally:
        with suppress(RunError):  # another directory is there now: its files are not ours
            place.check()
            file_in(directory, _HOLDER).unlink(missing_ok=True)
        held.release()


def _holder(directory: Path) -> str:
    try:
        holder = json.loads(read_bounded(directory / _HOLDER, MAX_HOLDER))
        return f"process {holder['pid']} on {holder['host']}"
    except FileNotFoundError:  # the holder has the lock, but has not written the file yet
        return "just started"
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return "unknown process"


def kept_weights(run_dir: Path) -> dict[tuple[str, int], Path]:
    """Return the weight files of a run by (arch_id, replicate)."""
    found = {}
    for directory in arch_dirs(run_dir):
        with os.scandir(directory) as entries:
            for entry in entries:
                if (match := _WEIGHTS.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                    found[directory.name, int(match[1])] = directory / entry.name
    return dict(sorted(found.items()))


def arch_dirs(run_dir: Path) -> list[Path]:
    """Return the directories of all networks that have one, sorted; links are left out."""
    directory = directory_in(run_dir, ARCHS)
    try:
        with os.scandir(directory) as entries:
            names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and is_arch_id(e.name))
    except FileNotFoundError:
        return []
    return [directory / name for name in names]


def prune_weights(run_dir: Path, keep: Collection[tuple[str, int]]) -> int:
    """Remove the weights of all trials except `keep`, (arch_id, replicate); return the number of files removed.

    May be interrupted and repeated. `keep` must include the running trials: their weights are written before their
    journal entries.
    """
    dropped = [path for trial, path in kept_weights(run_dir).items() if trial not in keep]
    for path in dropped:
        remove_file(path)
    return len(dropped)
