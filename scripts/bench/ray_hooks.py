"""Gain of each hook into private parts of Ray and Tune: a search with all hooks, and searches that lack one.

    python -m scripts.bench ray_hooks [--quick] [--repeats N] [--json FILE]

A hook stays in nasx only if it saves a second per search or 5 ms per trial. Two workers search on synthetic lines, 32
trainings of one epoch, steady state and by generations. All variants take turns, and their order changes from turn to
turn. CPU time is that of the driver, Ray and the workers, sampled every 0.2 s; it is more reliable on a busy machine.

Measured and removed: a hook that skips Tune's count of callbacks, which imports MLflow and W&B. It saved 0 s if these
are not installed and 0.9 s of CPU time with MLflow's client and W&B.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]

from nasx.execution.imports import gc_paused
from nasx.runs.journal import Journal
from scripts.bench.measurement import Measurement, Options

ALL = "all hooks"
MODES = ("steady_state", "generational")
WORKERS, TRIALS, TURNS = 2, 32, 5
WARM = 2 * WORKERS  # trials before all workers run
PERIOD = 0.2  # seconds between samples of processor time
SEARCH = (
    "execution=local",
    "execution.device=cpu",
    f"execution.workers={WORKERS}",
    "split.train_images=200",
    "training.epochs=1",
    "scorer=activations",
    "also_scored={}",
)


class Cost(NamedTuple):
    """Times of one search."""

    wall: float  # seconds
    processor: float  # seconds
    per_trial: float  # ms between the ends of two trials, after the first ones


def nothing(*_: object) -> None:
    """Do nothing, in place of a hook."""


# hook -> replacements: in nasx.execution.ray, and in nasx.execution.tuner, which is imported later
OFF: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "fewer processes": ({"_fewer_processes": nullcontext}, {}),
    "idle workers kept": ({}, {"keep_idle_workers": nothing}),
    "processes used that were started ahead": ({}, {"use_processes_started_ahead": nothing}),
    "workers started ahead": (
        {"PRELOAD": "NASX_UNUSED", "_wait_for_workers": nothing},
        {"use_processes_started_ahead": nothing},
    ),
}


def search(mode: str, without: str, trials: int = TRIALS) -> Cost:
    """Run `nasx search` without a hook and return its costs.

    Args:
        mode: of the algorithm.
        without: name of the hook; ALL for none.
        trials: budget.
    """
    with tempfile.TemporaryDirectory() as directory:
        overrides = [*SEARCH, f"algorithm.mode={mode}", f"algorithm.evaluations={trials}", f"runs_dir={directory}"]
        command = [sys.executable, "-m", "scripts.bench.ray_hooks", without, "search", "--config=lines"]
        started = time.perf_counter()
        driver = psutil.Popen(
            [*command, f"--run-dir={directory}/run", *overrides], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        seconds: dict[int, float] = {}  # of processor time, by process
        while driver.poll() is None:
            seconds |= _processor_seconds(driver)
            time.sleep(PERIOD)
        wall = time.perf_counter() - started
        if driver.returncode:
            raise SystemExit(f"the search without {without} ended with status {driver.returncode}")
        with Journal.open(Path(directory, "run"), read_only=True) as store:
            ends = sorted(datetime.fromisoformat(t.finished).timestamp() for t in store.trials() if t.finished)
    return Cost(wall, sum(seconds.values()), 1000 * (ends[-1] - ends[WARM - 1]) / (len(ends) - WARM))


def _processor_seconds(driver: psutil.Process) -> dict[int, float]:
    """Return the CPU seconds so far, by process id, of the driver and all processes that it has started."""
    seconds = {}
    try:
        for process in [driver, *driver.children(recursive=True)]:
            try:
                times = process.cpu_times()
                seconds[process.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        pass
    return seconds


def benchmark(options: Options) -> Iterator[Measurement]:
    """Yield what each hook saves: seconds per search, and milliseconds per trial."""
    names = [ALL, *OFF]
    turns = options.repeats or (1 if options.quick else TURNS)
    for mode in MODES:
        costs: dict[str, list[Cost]] = {name: [] for name in names}
        for turn in range(turns):
            for place in range(len(names)):
                name = names[(place + turn) % len(names)]
                costs[name].append(search(mode, name, 12 if options.quick else TRIALS))
                print(f"{mode}, {turn}, {name}: {costs[name][-1]}, load {os.getloadavg()[0]:.2f}", file=sys.stderr)
        for name in OFF:
            pairs = list(zip(costs[name], costs[ALL], strict=True))
            processor = statistics.median(a.processor - b.processor for a, b in pairs)
            saved = tuple(a.wall - b.wall for a, b in pairs)
            note = f"{processor:.2f} s of processor time"
            yield Measurement(f"{mode}, {name}: saved per search", "without", saved, better="more", note=note)
            saved = tuple(a.per_trial - b.per_trial for a, b in pairs)
            yield Measurement(f"{mode}, {name}: saved per trial", "without", saved, unit="ms", better="more")


def replace_parts(module: str, parts: Mapping[str, Any]) -> None:
    """Set functions of a module."""
    for name, value in parts.items():
        setattr(import_module(module), name, value)


def run_without(hook: str) -> None:
    """Run the command `nasx` without a hook."""
    from nasx.cli.main import run  # only in the process of the search

    early, late = OFF.get(hook, ({}, {}))
    replace_parts("nasx.execution.ray", early)

    @contextmanager
    def and_replace() -> Iterator[None]:
        with gc_paused():  # the driver imports Tune here, while Ray starts
            yield
        replace_parts("nasx.execution.tuner", late)

    replace_parts("nasx.execution.ray", {"gc_paused": and_replace})
    run()


if __name__ == "__main__":
    run_without(sys.argv.pop(1))
