"""Searches with one injected fault each, and their required outcomes and messages."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nasx.trial import TrialStatus
from scripts.chaos_kills import WORKERS
from tests.factories.commands import (
    LINES,
    contents,
    events,
    finished,
    kill,
    run,
    start,
    tabular,
    trained_twice,
    trials,
    wait_for,
)

Check = Callable[[Path, Path], str]  # (table, current directory of the search) -> error message; empty if correct


@dataclass(frozen=True)
class Fault:
    """Fault with its required outcome."""

    name: str
    must: str  # required outcome, for the table
    check: Check


def in_one_trial(fault: str, reason: str, detail: str, *options: str) -> Check:
    """Return a check: all trials of one network fail; the network is retried, then FAILED, and the search continues.

    Args:
        fault: injected by `scripts.chaos_scorer`.
        reason: required in the journal.
        detail: required part of the journal's detail.
        options: of the search.
    """

    def check(table: Path, cwd: Path) -> str:
        done = run(*faulty(8), *options, "--run-dir=run", cwd=cwd, env={"FAULT": fault})
        if done.returncode:
            return f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"
        failed = [trial for trial in trials(cwd / "run") if trial.status is TrialStatus.FAILED]
        recorded = [(t.evaluation.reason, t.evaluation.detail) for t in failed]
        if [r for r, _ in recorded] != [reason] or detail not in recorded[0][1]:
            return f"failed: {[(r, d[-200:]) for r, d in recorded]}"
        return "" if len(finished(cwd / "run")) >= 8 else "trials are missing"

    return check


def in_one_worker(fault: str, message: str) -> Check:
    """Return a check: every trial of one worker fails; the worker is replaced, and the results do not change."""

    def check(table: Path, cwd: Path) -> str:
        search = (*faulty(16), *WORKERS, "algorithm.lag=2")
        done = run(*search, "--run-dir=run", cwd=cwd, env={"FAULT": fault})
        if done.returncode:
            return f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"
        found = [e.message for e in events(cwd / "run") if e.kind == "worker_replaced"]
        if len(found) != 1 or message not in found[0]:
            return f"workers replaced: {found}"
        if "1 worker replaced" not in done.stderr:
            return f"the search does not report it: {done.stderr.strip()[-300:]}"
        run(*search, "--run-dir=whole", cwd=cwd)
        return "" if contents(cwd / "run") == contents(cwd / "whole") else "trials differ from the undisturbed search"

    return check


def full_disk(table: Path, cwd: Path) -> str:
    """Check: weights cannot be written; the search stops, and resumes once there is space."""
    stopped = run(*faulty(8), "--run-dir=run", cwd=cwd, env={"FAULT": "disk"})
    before = finished(cwd / "run")
    if stopped.returncode != 2 or "no space left on the disk" not in stopped.stderr:
        return f"exit status {stopped.returncode}: {stopped.stderr.strip()[-300:]}"
    resumed = run("--resume", "--trust-code", "--run-dir=run", cwd=cwd)
    if resumed.returncode:
        return f"resumed: {resumed.stderr.strip()[-300:]}"
    whole = before.items() <= finished(cwd / "run").items() and not trained_twice(cwd / "run")
    return "" if whole else "trials were lost, or trained twice"


def every_trial_fails(table: Path, cwd: Path) -> str:
    """Check: all trials raise; the search stops before its budget is spent."""
    stopped = run(*faulty(30), "algorithm=random", "--run-dir=run", cwd=cwd, env={"FAULT": "always"})
    message = "of the last 4 trials failed for the same reason, error: ValueError: made up"
    if stopped.returncode != 2 or message not in stopped.stderr:
        return f"exit status {stopped.returncode}: {stopped.stderr.strip()[-300:]}"
    return "" if len(finished(cwd / "run")) <= 6 else "the search stopped too late"


def ctrl_c(times: int, evaluations: int, seconds: float) -> Check:
    """Return a check: Ctrl-C once finishes running trials, twice stops at once; a resumed search has the same results.

    Args:
        times: number of signals.
        evaluations: budget of the search.
        seconds: duration of each trial.
    """

    def check(table: Path, cwd: Path) -> str:
        process = start(*tabular(table, evaluations, seconds), *WORKERS, "--run-dir=run", cwd=cwd)
        wait_for(lambda: any(e.kind == "attempt" for e in events(cwd / "run")), process)
        time.sleep(0.3)
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        signalled = time.monotonic()
        try:
            _, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            kill(process)
            return "the search did not end"
        took, kept = time.monotonic() - signalled, len(finished(cwd / "run"))
        if process.returncode != 130 or "Resume with: nasx search --resume --run-dir run" not in err:
            return f"exit status {process.returncode}: {err.strip()[-300:]}"
        if (times == 1) != (kept > 0) or (times == 2 and took > seconds / 2):
            return f"{kept} trials were kept, and the search ended {took:.1f} s after the last signal"
        resumed = run("--resume", "--run-dir=run", cwd=cwd)
        run(*tabular(table, evaluations), "execution=serial", "--run-dir=whole", cwd=cwd)
        same = resumed.returncode == 0 and contents(cwd / "run") == contents(cwd / "whole")
        return (
            "" if same else f"resumed: {resumed.stderr.strip()[-300:] or 'trials differ from the undisturbed search'}"
        )

    return check


def second_search(table: Path, cwd: Path) -> str:
    """Check: a second search on the directory of a running search is refused."""
    first = start(*tabular(table, 200, 0.1), "execution=serial", "--run-dir=run", cwd=cwd)
    try:
        wait_for(lambda: len(finished(cwd / "run")) >= 2, first)
        second = run("--resume", "--run-dir=run", cwd=cwd)
    finally:
        kill(first)
    return "" if second.returncode == 2 and "is in use by another search" in second.stderr else second.stderr


def lost_node(table: Path, cwd: Path) -> str:
    """Check: a node of a Ray cluster dies; its trial is retried on the other node."""
    with cluster() as two_nodes:
        assert two_nodes.stdin and two_nodes.stdout
        address = two_nodes.stdout.readline().strip()
        ray = ["execution=cluster", f"execution.address={address}", "execution.workers=2", "algorithm.lag=4"]
        process = start(*tabular(table, 12, 2.0), *ray, "--run-dir=run", cwd=cwd)
        try:
            wait_for(lambda: len(finished(cwd / "run")) >= 2, process)
            two_nodes.stdin.write("kill\n")
            two_nodes.stdin.flush()
            _, err = process.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            kill(process)
            return "the search did not end"
    if process.returncode:
        return f"exit status {process.returncode}: {err.strip()[-300:]}"
    if not any(e.kind == "retry" and "its worker process died" in e.message for e in events(cwd / "run")):
        return "the journal has no retry of a lost trial"
    run(*tabular(table, 12), "execution=serial", "algorithm.lag=4", "--run-dir=whole", cwd=cwd)
    return "" if contents(cwd / "run") == contents(cwd / "whole") else "trials differ from the undisturbed search"


@contextmanager
def cluster() -> Iterator[subprocess.Popen[str]]:
    """Run `scripts.chaos_cluster` during the `with` block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.chaos_cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        try:
            process.communicate(timeout=60)  # closes its stdin, which stops it
        except subprocess.TimeoutExpired:
            kill(process)


def faulty(evaluations: int) -> tuple[str, ...]:
    """Return the options of a search with small trainings and `scripts.chaos_scorer`."""
    scorer = ("scorer=activations", "scorer._target_=scripts.chaos_scorer.FaultyScorer")
    return (*LINES, f"algorithm.evaluations={evaluations}", *scorer)


_FAILED = "retried, then FAILED with its reason"

FAULTS = (
    Fault("raise", f"{_FAILED} and traceback", in_one_trial("raise", "error", "ValueError: made up")),
    Fault("nan", "FAILED: no score", in_one_trial("nan", "no_score", "nan")),
    Fault("oom", f"{_FAILED}", in_one_trial("oom", "out_of_memory", "made up: no memory left")),
    Fault(
        "hang",
        f"stopped at search.time_limit, {_FAILED}",
        in_one_trial("hang", "timeout", "took longer than search.time_limit", "search.time_limit=4"),
    ),
    Fault(
        "stall",
        f"stopped at search.stall_limit, {_FAILED}",
        in_one_trial("hang", "timeout", "search.stall_limit", "search.stall_limit=4"),
    ),
    Fault(
        "kill",
        f"the worker is replaced; {_FAILED}",
        in_one_trial("kill", "error", "its worker process died, at the last of 2 attempts", *WORKERS),
    ),
    Fault(
        "device",
        "the worker is replaced; no trial fails or is lost",
        in_one_worker("device", "CUDA error: an illegal memory access was encountered"),
    ),
    Fault(
        "worker",
        "the worker is replaced after failures in a row; no trial fails or is lost",
        in_one_worker("worker", "in a row failed in this worker, error: RuntimeError: made up: broken"),
    ),
    Fault("node", "its trial runs on another node", lost_node),
    Fault("every-trial", "the search stops and reports the common reason", every_trial_fails),
    Fault("disk", "the search stops with a message; after resuming, nothing is lost", full_disk),
    Fault("ctrl-c", "running trials finish, the command to resume is printed, status 130", ctrl_c(1, 12, 1.0)),
    Fault("ctrl-c-twice", "the search stops at once, the command to resume is printed, status 130", ctrl_c(2, 2, 30.0)),
    Fault("second-search", "refused; the message names the first search", second_search),
)
