"""Searches that suffer one fault each, and what must come of it and be told."""

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
from tests.end_to_end.commands import (
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

Check = Callable[[Path, Path], str]  # (table, folder to search in) -> what is wrong, empty if nothing


@dataclass(frozen=True)
class Fault:
    """A fault, and how a search must answer it."""

    name: str
    must: str  # what must come of it, in words
    check: Check


def in_one_trial(fault: str, reason: str, detail: str, *options: str) -> Check:
    """One network's trials suffer `fault`: it is tried again, then FAILED, and the search goes on."""

    def check(table: Path, cwd: Path) -> str:
        done = run(*faulty(8), *options, "--run-dir=run", cwd=cwd, env={"FAULT": fault})
        if done.returncode:
            return f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"
        failed = [trial for trial in trials(cwd / "run") if trial.status is TrialStatus.FAILED]
        told = [(t.evaluation.reason, t.evaluation.detail) for t in failed]
        if [r for r, _ in told] != [reason] or detail not in told[0][1]:
            return f"failed: {[(r, d[-200:]) for r, d in told]}"
        return "" if len(finished(cwd / "run")) >= 8 else "trials are missing"

    return check


def in_one_worker(fault: str, told: str) -> Check:
    """Every trial of one worker fails: the worker is replaced, and the search finds what it would have found."""

    def check(table: Path, cwd: Path) -> str:
        search = (*faulty(16), *WORKERS, "algorithm.lag=2")
        done = run(*search, "--run-dir=run", cwd=cwd, env={"FAULT": fault})
        if done.returncode:
            return f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"
        found = [e.message for e in events(cwd / "run") if e.kind == "worker_replaced"]
        if len(found) != 1 or told not in found[0]:
            return f"workers replaced: {found}"
        if "1 worker replaced" not in done.stderr:
            return f"the search does not print it: {done.stderr.strip()[-300:]}"
        run(*search, "--run-dir=whole", cwd=cwd)
        return "" if contents(cwd / "run") == contents(cwd / "whole") else "other trials than undisturbed"

    return check


def full_disk(table: Path, cwd: Path) -> str:
    """Weights cannot be written: the search stops, and goes on once there is space."""
    stopped = run(*faulty(8), "--run-dir=run", cwd=cwd, env={"FAULT": "disk"})
    before = finished(cwd / "run")
    if stopped.returncode != 2 or "no space left on the disk" not in stopped.stderr:
        return f"exit status {stopped.returncode}: {stopped.stderr.strip()[-300:]}"
    resumed = run("--resume", "--run-dir=run", cwd=cwd)
    if resumed.returncode:
        return f"resumed: {resumed.stderr.strip()[-300:]}"
    whole = before.items() <= finished(cwd / "run").items() and not trained_twice(cwd / "run")
    return "" if whole else "trials were lost, or trained twice"


def every_trial_fails(table: Path, cwd: Path) -> str:
    """All trials raise: the search does not spend its budget on that."""
    stopped = run(*faulty(30), "algorithm=random", "--run-dir=run", cwd=cwd, env={"FAULT": "always"})
    told = "of the last 4 trials failed for the same reason, error: ValueError: made up"
    if stopped.returncode != 2 or told not in stopped.stderr:
        return f"exit status {stopped.returncode}: {stopped.stderr.strip()[-300:]}"
    return "" if len(finished(cwd / "run")) <= 6 else "it stopped late"


def ctrl_c(times: int, evaluations: int, seconds: float) -> Check:
    """Ctrl-C while trials run: once finishes them, twice ends now; a resumed search finds what it would have found."""

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
            return "it did not end"
        took, kept = time.monotonic() - signalled, len(finished(cwd / "run"))
        if process.returncode != 130 or "Resume with: nasx search --resume --run-dir run" not in err:
            return f"exit status {process.returncode}: {err.strip()[-300:]}"
        if (times == 1) != (kept > 0) or (times == 2 and took > seconds / 2):
            return f"{kept} trials were kept, and it ended {took:.1f} s after the last signal"
        resumed = run("--resume", "--run-dir=run", cwd=cwd)
        run(*tabular(table, evaluations), "execution=serial", "--run-dir=whole", cwd=cwd)
        same = resumed.returncode == 0 and contents(cwd / "run") == contents(cwd / "whole")
        return "" if same else f"resumed: {resumed.stderr.strip()[-300:] or 'other trials than undisturbed'}"

    return check


def second_search(table: Path, cwd: Path) -> str:
    """A second search on the directory of a running one is refused, and the first does not notice."""
    first = start(*tabular(table, 200, 0.1), "execution=serial", "--run-dir=run", cwd=cwd)
    try:
        wait_for(lambda: len(finished(cwd / "run")) >= 2, first)
        second = run("--resume", "--run-dir=run", cwd=cwd)
    finally:
        kill(first)
    return "" if second.returncode == 2 and "is in use by another search" in second.stderr else second.stderr


def lost_node(table: Path, cwd: Path) -> str:
    """A node of a Ray cluster dies with its trial: that is tried again on the other."""
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
            return "it did not end"
    if process.returncode:
        return f"exit status {process.returncode}: {err.strip()[-300:]}"
    if not any(e.kind == "retry" and "its worker process died" in e.message for e in events(cwd / "run")):
        return "no trial was lost, or the journal does not tell"
    run(*tabular(table, 12), "execution=serial", "algorithm.lag=4", "--run-dir=whole", cwd=cwd)
    return "" if contents(cwd / "run") == contents(cwd / "whole") else "other trials than undisturbed"


@contextmanager
def cluster() -> Iterator[subprocess.Popen[str]]:
    """`scripts.chaos_cluster`, ended with the block."""
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
            process.communicate(timeout=60)  # the end of its stdin ends it
        except subprocess.TimeoutExpired:
            kill(process)


def faulty(evaluations: int) -> tuple[str, ...]:
    """A search of small trainings whose scorer suffers what FAULT says."""
    scorer = ("scorer=activations", "scorer._target_=scripts.chaos_scorer.FaultyScorer")
    return (*LINES, f"algorithm.evaluations={evaluations}", *scorer)


_FAILED = "tried again, then FAILED with its reason"

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
        f"a new worker; {_FAILED}",
        in_one_trial("kill", "error", "its worker process died, at the last of 2 attempts", *WORKERS),
    ),
    Fault(
        "device",
        "a new worker; no trial fails or is lost",
        in_one_worker("device", "CUDA error: an illegal memory access was encountered"),
    ),
    Fault(
        "worker",
        "a new worker after failures in a row; no trial fails or is lost",
        in_one_worker("worker", "in a row failed in this worker, error: RuntimeError: made up: broken"),
    ),
    Fault("node", "its trial is run on another node", lost_node),
    Fault("every-trial", "the search stops and names the common reason", every_trial_fails),
    Fault("disk", "a clear stop; resumed, nothing is lost", full_disk),
    Fault("ctrl-c", "finishes what runs, prints the line that resumes, status 130", ctrl_c(1, 12, 1.0)),
    Fault("ctrl-c-twice", "ends now, prints the line that resumes, status 130", ctrl_c(2, 2, 30.0)),
    Fault("second-search", "refused, naming the first", second_search),
)
