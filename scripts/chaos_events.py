"""Events that end a search from outside, or stop a part of it, for `scripts/chaos`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.factories.commands import kill

RESUMABLE = "Resume with: nasx search --resume"
IN_ONE_PROCESS = ("kill", "sigterm", "sighup", "moved", "deleted")
WITH_RAY = ("raylet", "gcs_server", "frozen")
SIGNALS = {"sigterm": signal.SIGTERM, "sighup": signal.SIGHUP}
PATIENCE = 60.0  # seconds for a search to end
LEFT_AFTER = 10.0  # seconds after which no process and no folder may be left


def choose(rng: random.Random, execution: str) -> str:
    """Return the kind of an event."""
    return rng.choice(IN_ONE_PROCESS + (WITH_RAY if execution == "ray" else ()))


def strike(kind: str, process: subprocess.Popen[str], run_dir: Path) -> str:
    """Let an event happen to a search, and wait for its end. Returns what is wrong with it; empty if nothing is.

    Args:
        kind: of the event.
        process: the search.
        run_dir: its directory, at which it is found again afterwards.
    """
    if kind == "kill":
        kill(process)
        return ""
    if kind in SIGNALS:
        process.send_signal(SIGNALS[kind])
        return _ended(process, 128 + SIGNALS[kind], "nasx: ended by")
    if kind in ("moved", "deleted"):
        return _without_directory(process, run_dir)
    if kind == "frozen":
        for pid in _named(process, "ray::TrialRunner")[:1]:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        return _ended(process, 128 + signal.SIGTERM, "nasx: ended by")
    for pid in _named(process, f"/{kind} "):
        os.kill(pid, signal.SIGKILL)
        return _ended(process, 2, f"nasx: Ray's {kind} has died", or_finished=True)
    kill(process)  # Ray has not started yet
    return ""


def _without_directory(process: subprocess.Popen[str], run_dir: Path) -> str:
    """Take the run directory away; for the search, it does not matter whether it has been moved or deleted."""
    elsewhere = run_dir.with_name(f"{run_dir.name}-elsewhere")
    try:
        run_dir.rename(elsewhere)
    except FileNotFoundError:  # the search has not created it yet
        kill(process)
        return ""
    wrong = _ended(process, 2, "nasx: ", or_finished=True)
    if run_dir.exists():
        return wrong or "the search has created its directory again"
    elsewhere.rename(run_dir)
    return wrong


def _ended(process: subprocess.Popen[str], status: int, message: str, *, or_finished: bool = False) -> str:
    """Return what is wrong with the end of a search; empty if nothing is."""
    try:
        _, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        kill(process)
        return "the search did not end"
    found = process.returncode
    last = err.strip().rpartition("\n")[2]
    if found == 0:  # it had finished
        return ""
    if found == 128 - status and (not err or "Run directory: " in err):  # Python was just starting or ending
        return ""
    if found != status or not last.startswith(message) or "Traceback" in err or "core_worker" in err:
        return f"exit status {found}: {err.strip()[-300:]}"
    return ""


def processes(session: int) -> dict[int, str]:
    """Return the command lines of the processes of a session, by id."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            state, _, _, its_session = (place / "stat").read_text().rpartition(") ")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
    return found


def _named(process: subprocess.Popen[str], name: str) -> list[int]:
    return [pid for pid, command in processes(process.pid).items() if name in command]


def left(sessions: list[int], temporary: Path) -> str:
    """Return the processes of these sessions and the folders that are left after ten seconds; empty if none are."""
    deadline = time.monotonic() + LEFT_AFTER
    while True:
        remaining = [command for session in sessions for command in processes(session).values()]
        folders = [path.name for path in temporary.glob("nasx-*")]
        if not remaining and not folders:
            return ""
        if time.monotonic() > deadline:
            return f"left: {remaining} {folders}"
        time.sleep(0.1)
