"""Temporary folders of searches and the Ray processes that belong to them: nothing remains, however a search ends.

A search locks a file in its folder while it runs. A small process, the keeper, waits for the end of the search and then
ends Ray's processes and removes the folder, even after SIGKILL. If the keeper was killed as well, the next search does
it: the lock is free then. Only folders and processes of the same user are touched, and no links are followed.

Run by file name as the keeper: it imports nothing but the standard library. Processes are found in /proc, on Linux.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "nasx-"
OWNER: Final = "owner"  # locked by the search
PROCESSES: Final = "processes"  # of Ray, written by the keeper
SERVERS: Final = {"gcs_server", "raylet"}  # programs that a search starts; all other processes descend from the latter
EVERY: Final = 0.5  # seconds between looks of the keeper
REMOVALS: Final = 20  # attempts: processes that are being killed may still write
Process = tuple[int, int]  # id, time of start: ids are used again


# --- processes


def start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since the start of the machine; None if it has ended."""
    found = _stat(pid)
    return None if found is None or found[0] in "ZX" else int(found[19])


def is_stopped(process: Process) -> bool:
    """Return whether a process is stopped, e.g. by SIGSTOP."""
    found = _stat(process[0])
    return found is not None and found[0] in "Tt" and int(found[19]) == process[1]


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - faster, and run twice a second
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def servers(pid: int, folder: str) -> dict[str, Process]:
    """Return Ray's servers that process `pid` has started with their files in `folder`, by name."""
    found = {}
    for child in _children(pid):
        with suppress(OSError):
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace").split("\0")
            name = Path(command[0]).name
            started = start_time(child)
            if name in SERVERS and started and any(f"{folder}/" in argument for argument in command[1:]):
                found[name] = child, started
    return found


def descendants(processes: set[Process]) -> set[Process]:
    """Return these processes and all that descend from them, except those that have ended."""
    found: set[Process] = set()
    todo = [(pid, started) for pid, started in processes if start_time(pid) == started]
    while todo:
        process = todo.pop()
        if process not in found:
            found.add(process)
            todo += [(child, started) for child in _children(process[0]) if (started := start_time(child)) is not None]
    return found


def kill(processes: set[Process]) -> None:
    """Kill the processes that still run."""
    for pid, started in processes:
        if start_time(pid) == started:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _machine() -> str:
    """Return what process ids refer to: the current start of the machine, and the namespace of a container."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    return ""


# --- folders


@contextmanager
def kept(folder: str) -> Iterator[None]:
    """Own a new, private folder in the block; at its end, or when this process dies, remove it and its processes."""
    descriptor = os.open(f"{folder}/.{OWNER}", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    keeper: subprocess.Popen[bytes] | None = None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        Path(folder, f".{OWNER}").rename(Path(folder, OWNER))  # a lock before the name: a sweep never finds it free
        with suppress(OSError):  # no processes left: the next search removes the folder instead
            keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, folder, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # it outlives a signal to all processes of the search
                cwd="/",
            )
        yield
    finally:
        remove(folder)
        if keeper is not None and keeper.stdin is not None:
            keeper.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                keeper.wait(2 * EVERY)
        os.close(descriptor)


def remove(folder: str) -> None:
    """End the processes of this process's folder, and remove it."""
    kill(descendants(set(servers(os.getpid(), folder).values())) | _recorded(folder))
    _remove_tree(folder)


def _remove_tree(folder: str) -> None:
    for _ in range(REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        time.sleep(0.05)


def sweep(parent: str) -> None:
    """Remove the folders in `parent` that dead searches of this user have left, and end their processes."""
    with suppress(OSError):
        names = [name for name in os.listdir(parent) if name.startswith(PREFIX)]  # noqa: PTH208
        for name in names:
            with suppress(OSError):
                _sweep(f"{parent}/{name}")


def _sweep(folder: str) -> None:
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        return
    descriptor = os.open(f"{folder}/{OWNER}", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        owner = os.fstat(descriptor)
        if not stat.S_ISREG(owner.st_mode) or owner.st_uid != os.getuid():
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises OSError if the search lives
        kill(_recorded(folder))
        _remove_tree(folder)
    finally:
        os.close(descriptor)


def _recorded(folder: str) -> set[Process]:
    """Return the processes that the keeper of a folder has recorded, if their ids are valid here and now."""
    try:
        descriptor = os.open(f"{folder}/{PROCESSES}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return set()
    with os.fdopen(descriptor, errors="replace") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            return set()
        machine, *lines = file.read(1_000_000).splitlines() or [""]
    numbers = [line.split() for line in lines]
    if machine != _machine() or not all(len(n) == 2 and n[0].isdecimal() and n[1].isdecimal() for n in numbers):
        return set()
    return {(int(pid), int(started)) for pid, started in numbers if int(pid) > 1}


def _keep(folder: str, search: int) -> None:
    """Record the processes of a search until it ends, which closes stdin; then end them and remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    known: set[Process] = set()
    recorded: set[Process] = set()
    while not select.select([0], [], [], EVERY)[0]:
        known |= set(servers(search, folder).values())
        known = {(pid, started) for pid, started in known if start_time(pid) == started}
        known |= descendants(known)
        if known != recorded:
            recorded = set(known)
            _record(folder, known)
    kill(known | descendants(known))
    _remove_tree(folder)


def _record(folder: str, processes: set[Process]) -> None:
    lines = [_machine(), *(f"{pid} {started}" for pid, started in sorted(processes))]
    with suppress(OSError):
        descriptor = os.open(f"{folder}/.{PROCESSES}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join(lines))
        Path(folder, f".{PROCESSES}").rename(Path(folder, PROCESSES))


if __name__ == "__main__":
    _keep(sys.argv[1], int(sys.argv[2]))
