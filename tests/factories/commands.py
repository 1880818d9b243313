"""`nasx` as a user runs it: in its own process, which may be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from nasx.errors import RunError
from nasx.execution.jobs import Key
from nasx.runs.journal import Journal
from nasx.runs.rows import Event
from nasx.trial import Trial

LINES = [
    "--config=lines.yaml",
    "dataset.train_images=200",
    "training.epochs=1",
    "training.batch_size=16",
    "space.channels=2",
]


def write_table(path: Path) -> Path:
    """Write a synthetic table of all architectures of NAS-Bench-201 with conflicting error and introspectability."""
    from itertools import product

    from nasx.spaces.nb201 import NASBench201

    space = NASBench201()
    rows = ["architecture,error,introspectability"]
    for genotype in product(range(5), repeat=6):
        weight = sum((i + 2) * (allele * 7 % 5) for i, allele in enumerate(genotype)) / 135
        ripple = sum(genotype) % 7 / 50
        rows.append(f"{space.describe(genotype)},{0.05 + 0.7 * weight + ripple:.6f},{0.9 * weight - ripple + 0.1:.6f}")
    path.write_text("\n".join(rows) + "\n")
    return path


def tabular(table: Path, evaluations: int, seconds: float = 0.0) -> list[str]:
    """Return the options of a search on a table of `write_table`.

    Args:
        table: CSV file.
        evaluations: budget.
        seconds: duration of each look-up.
    """
    return [
        "--config=nats_bench.yaml",
        f"evaluation.table={table}",
        "evaluation.architecture=architecture",
        "evaluation.metrics.error={column: error, factor: 1, offset: 0}",
        "+evaluation.metrics.introspectability={column: introspectability}",
        "objectives=[error,introspectability]",
        f"evaluation.seconds={seconds}",
        f"algorithm.evaluations={evaluations}",
    ]


def start(*options: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `nasx search` in its own process group; `env` is added to the environment of this process."""
    return subprocess.Popen(
        [sys.executable, "-m", "nasx", "search", *options],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "120", **(env or {})},
    )


def run(
    *options: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run `nasx search` to its end.

    Args:
        options: of the search.
        cwd: current directory.
        env: added to the environment of this process.
        timeout: seconds; the search is killed after them.
    """
    process = start(*options, cwd=cwd, env=env)
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        kill(process)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill(process: subprocess.Popen[str], with_signal: int = signal.SIGKILL) -> None:
    """Send a signal to the whole process group, as a terminal or a batch system does."""
    os.killpg(process.pid, with_signal)
    if with_signal == signal.SIGKILL:
        process.communicate()


def contents(run_dir: Path) -> dict:
    """Return the results of a run without times: trials in order, the noise, and the weight files."""
    with Journal.open(run_dir, read_only=True) as store:
        trials, noise = store.trials(), store.noise()
    return {
        "trials": [
            (t.candidate, t.arch_id, t.replicate, t.seed, t.status, t.evaluation.reason, dict(t.metrics))
            for t in trials
        ],
        "noise": noise[-1:],  # an interrupted search may have recorded it before
        "weights": sorted(path.relative_to(run_dir).as_posix() for path in run_dir.glob("archs/*/*.safetensors")),
    }


def finished(run_dir: Path) -> dict[Key, str]:
    """Return the time at which each trial of the journal finished, by (arch_id, replicate); empty without a journal."""
    store = journal(run_dir)
    if store is None:
        return {}
    with store:
        return {(trial.arch_id, trial.replicate): trial.finished for trial in store.trials()}


def trials(run_dir: Path) -> list[Trial]:
    with Journal.open(run_dir, read_only=True) as store:
        return store.trials()


def events(run_dir: Path) -> list[Event]:
    """Return the events of the journal; empty without a journal."""
    store = journal(run_dir)
    if store is None:
        return []
    with store:
        return store.events()


def has_journal(run_dir: Path) -> bool:
    """Return whether a search has a journal and can be resumed."""
    store = journal(run_dir)
    if store is not None:
        store.close()
    return store is not None


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until the condition holds.

    Args:
        condition: checked every 20 ms.
        process: the search.
        seconds: time limit.

    Raises:
        RuntimeError: The process has ended.
        TimeoutError: The time limit is reached.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise RuntimeError(f"the search has ended: {process.communicate()[1].strip()[-500:]}")
        if time.monotonic() > deadline:
            kill(process)
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.02)


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def journal(run_dir: Path) -> Journal | None:
    """Open the journal of a search that may have just begun; None if there is no journal yet."""
    try:
        return Journal.open(run_dir, read_only=True)
    except RunError:
        return None


def trained_twice(run_dir: Path) -> list[Key]:
    """Return the trials that were started again after they had finished."""
    done = finished(run_dir)
    begun = [((e.arch_id, e.replicate), e.time) for e in events(run_dir) if e.kind == "attempt"]
    return [trial for trial, time in begun if trial in done and time > done[trial]]
