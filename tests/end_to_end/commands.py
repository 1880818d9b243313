"""`nasx` as a user runs it: in a process of its own, which may be killed."""

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
    """A made-up table of all architectures of NAS-Bench-201: error and introspectability rival each other."""
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
    """The options of a search on a table of `write_table`."""
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
    """`nasx search` in a process group of its own; `env` on top of this process's."""
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
    """`nasx search` to its end."""
    process = start(*options, cwd=cwd, env=env)
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        kill(process)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill(process: subprocess.Popen[str], with_signal: int = signal.SIGKILL) -> None:
    """A signal to the whole process group, as a terminal or a batch system sends it."""
    os.killpg(process.pid, with_signal)
    if with_signal == signal.SIGKILL:
        process.communicate()


def contents(run_dir: Path) -> dict:
    """What a run has found, without times: trials in order, the noise, and the files of weights."""
    with Journal.open(run_dir, read_only=True) as store:
        trials, noise = store.trials(), store.noise()
    return {
        "trials": [
            (t.candidate, t.arch_id, t.replicate, t.seed, t.status, t.evaluation.reason, dict(t.metrics))
            for t in trials
        ],
        "noise": noise[-1:],  # one that was interrupted may have recorded it before
        "weights": sorted(path.relative_to(run_dir).as_posix() for path in run_dir.glob("archs/*/*.safetensors")),
    }


def finished(run_dir: Path) -> dict[Key, str]:
    """When each trial of the journal finished, by (arch_id, replicate); empty before there is a journal."""
    store = journal(run_dir)
    if store is None:
        return {}
    with store:
        return {(trial.arch_id, trial.replicate): trial.finished for trial in store.trials()}


def trials(run_dir: Path) -> list[Trial]:
    with Journal.open(run_dir, read_only=True) as store:
        return store.trials()


def events(run_dir: Path) -> list[Event]:
    """What the journal tells; empty before there is one."""
    store = journal(run_dir)
    if store is None:
        return []
    with store:
        return store.events()


def has_journal(run_dir: Path) -> bool:
    """Whether a search came so far that it can be resumed."""
    store = journal(run_dir)
    if store is not None:
        store.close()
    return store is not None


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Until the condition holds. Raises where the process ends before, or it takes longer."""
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
    """The journal of a search that may just have begun; None while there is none."""
    try:
        return Journal.open(run_dir, read_only=True)
    except RunError:
        return None


def trained_twice(run_dir: Path) -> list[Key]:
    """The trials whose training began again after it had finished."""
    done = finished(run_dir)
    begun = [((e.arch_id, e.replicate), e.time) for e in events(run_dir) if e.kind == "attempt"]
    return [trial for trial, time in begun if trial in done and time > done[trial]]
