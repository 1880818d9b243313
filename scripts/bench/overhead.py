"""Overhead of a search: its start, and the time per trial, for serial execution and for Ray with two workers.

    python -m scripts.bench overhead [--quick] [--json FILE]

Start: from the command until the first training begins, on the digits. Overhead: wall time per trial once all workers
run, minus the trial's own time divided by the number of workers. Trials sleep, so that the cores are free for the work
that is measured.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from nasx.algorithms.random_search import RandomSearch
from nasx.protocols import Execution, Problem
from nasx.runs.journal import Journal
from nasx.trial import Evaluation, Job
from scripts.bench.made_up import Space, search_loop
from scripts.bench.measurement import Measurement, Options

SPACE = Space((5,) * 6)
WORKERS = 2
TARGET = 15.0  # ms per trial with Ray
START_TARGET = 8.0  # s until the first training with Ray
DIGITS = ("--config=digits.yaml", "training.epochs=1", "algorithm.evaluations=3", "space.channels=4", "space.cells=1")
LOCAL = ("execution=local", "execution.device=cpu", f"execution.workers={WORKERS}")


def sleeping(job: Job, seconds: float) -> Evaluation:
    """Sleep, then return the synthetic result of a trial."""
    time.sleep(seconds)
    return SPACE.evaluate(job.genotype)


def overhead(execution: Execution, workers: int, seconds: float, trials: int) -> float:
    """Return the overhead in seconds per trial.

    Args:
        execution: runs the trials.
        workers: number of its workers.
        seconds: duration of each trial.
        trials: number of trials.
    """
    problem = Problem(gene_sizes=SPACE.gene_sizes, n_objectives=2, seed=0, workers=workers)
    with search_loop(SPACE, RandomSearch(problem=problem), trials, workers) as loop:
        stamps: list[float] = []  # time of completion of each trial

        def watch() -> None:
            stamps.extend([time.monotonic()] * (len(loop.trials) - len(stamps)))

        execution.run(loop, partial(sleeping, seconds=seconds), watch)
    warm = 2 * workers  # trials before all workers run
    return (stamps[-1] - stamps[warm - 1]) / (trials - warm) - seconds / workers


def start(execution: tuple[str, ...]) -> float:
    """Return the seconds from the command `nasx search` until its first training begins."""
    with tempfile.TemporaryDirectory() as directory:
        began = time.time()
        command = [sys.executable, "-m", "nasx", "search", *DIGITS, *execution, f"--run-dir={directory}/run"]
        environment = {**os.environ, "NASX_RUNS": directory}
        subprocess.run(command, check=True, capture_output=True, cwd=directory, env=environment)
        with Journal.open(Path(directory, "run"), read_only=True) as store:
            trials = [trial for trial in store.trials() if trial.evaluation.train_seconds]
    return min(
        datetime.fromisoformat(t.finished).timestamp() - t.evaluation.train_seconds - t.evaluation.score_seconds - began
        for t in trials
    )


def benchmark(options: Options) -> Iterator[Measurement]:
    """Yield the overhead per trial and the time to start, serially and with Ray."""
    from nasx.execution.ray import RayExecution  # Ray takes seconds to load
    from nasx.execution.serial import SerialExecution

    logging.disable(logging.WARNING)
    kinds: dict[str, tuple[Execution, int, float | None]] = {
        "serial": (SerialExecution(device="cpu"), 1, None),
        "Ray, 2 workers": (RayExecution(device="cpu", workers=WORKERS), WORKERS, TARGET),
    }
    plans = ((0.1, 60, 1),) if options.quick else ((0.1, 150, 3), (1.0, 40, 3), (10.0, 10, 1))
    for seconds, trials, turns in plans:
        ours: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(turns):
            for name, (execution, workers, _) in kinds.items():
                ours[name].append(1000 * overhead(execution, workers, seconds, trials))
        for name, (*_, target) in kinds.items():
            what = f"overhead per trial of {seconds:g} s, {name}"
            yield Measurement(what, "the limit" if target else "-", tuple(ours[name]), unit="ms", target=target)
    turns = 1 if options.quick else 3
    serial = tuple(start(("execution=serial",)) for _ in range(turns))
    yield Measurement("start until the first training, serial", "-", serial)
    ray = tuple(start(LOCAL) for _ in range(turns))
    yield Measurement("start until the first training, Ray, 2 workers", "the limit", ray, target=START_TARGET)
