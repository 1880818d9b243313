"""How many workers a search keeps busy: the real algorithm, loop and journal with simulated workers.

    python -m scripts.bench.scale [--workers 8 64 1000 10000] [--trials N] [--quick] [--json FILE]

Trial times are log-normal (sigma 0.8, mean 60 s), on a simulated clock. The driver is one process that serves one event
after the other: each costs the time measured here, plus what Ray Tune takes on top. A worker waits for it, and for the
algorithm. Utilisation is the share of the workers' time spent training, until the last trial has been handed out; it
is shown for the first 1,000 trials too, since the steady state's lag grows with the search.
"""

from __future__ import annotations

import argparse
import heapq
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from nasx.algorithms.nsga2 import NSGA2, NSGA2Paper
from nasx.protocols import Problem, SearchAlgorithm
from nasx.trial import Job
from scripts.bench.made_up import Space, search_loop

SIGMA, MEAN = 0.8, 60.0  # of a trial's time: of its logarithm, in seconds
RAY_TUNE = 0.010  # seconds a trial that Ray Tune takes of the driver (scripts.bench.overhead)
EARLY = 1000  # trials
MODES = ("steady_state", "free_running", "generational", "paper")
SPACE = Space((5,) * 16)  # more networks than anyone evaluates


@dataclass(frozen=True)
class Result:
    mode: str
    workers: int
    trials: int
    utilisation: float  # share of the workers' time
    early: float | None  # the same for the first trials alone; None where they are not three rounds of the workers
    driver: float  # seconds a trial, the algorithm and the journal
    growth: float  # bytes a trial of the driver's memory


def make(mode: str, workers: int) -> SearchAlgorithm:
    problem = Problem(gene_sizes=SPACE.gene_sizes, n_objectives=2, seed=0, workers=workers)
    if mode == "paper":
        return NSGA2Paper(population_size=64, problem=problem)
    return NSGA2(population_size=64, mode=mode, problem=problem)  # type: ignore[arg-type]


def simulate(mode: str, workers: int, trials: int) -> Result:
    """Run a search on the simulated clock."""
    times = np.random.default_rng(1).lognormal(np.log(MEAN) - SIGMA**2 / 2, SIGMA, size=trials)
    with search_loop(SPACE, make(mode, workers), trials, workers) as loop:
        memory = resident()
        running: list[tuple[float, int, Job]] = []  # when it ends, a tie-break, the job
        now, driver_free, spent, given = 0.0, 0.0, 0.0, 0
        periods: list[tuple[float, float]] = []  # when each trial began and ended
        idle = workers
        while True:
            while idle:
                began = time.perf_counter()
                job = loop.next_job()
                took = time.perf_counter() - began
                spent += took
                driver_free = max(driver_free, now) + took + (RAY_TUNE if job else 0)
                if job is None:
                    break
                periods.append((driver_free, driver_free + times[given]))
                heapq.heappush(running, (driver_free + times[given], given, job))
                given, idle = given + 1, idle - 1
            if not running:
                break
            ends, _, job = heapq.heappop(running)
            now = max(now, ends)
            began = time.perf_counter()
            loop.complete(job, SPACE.answer(job.genotype))
            took = time.perf_counter() - began
            spent += took
            driver_free = max(driver_free, now) + took
            idle += 1
        growth = (resident() - memory) / trials
        early = utilisation(periods[:EARLY], workers) if 3 * workers <= EARLY else None
        return Result(mode, workers, trials, utilisation(periods, workers), early, spent / trials, growth)


def utilisation(periods: Sequence[tuple[float, float]], workers: int) -> float:
    """The share of the workers' time spent on trials that began and ended so, until the last of them began.

    >>> utilisation([(0.0, 4.0), (0.0, 1.0), (3.0, 9.0)], workers=2)
    0.6666666666666666
    """
    last = max(begin for begin, _ in periods)
    return sum(min(end, last) - begin for begin, end in periods) / (workers * last)


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.scale")
    parser.add_argument("--workers", type=int, nargs="*", default=[8, 64, 1000, 10_000])
    parser.add_argument("--trials", type=int, default=16_000, help="of a search, or five a worker where that is more")
    parser.add_argument("--quick", action="store_true", help="8 and 64 workers, 1,000 trials")
    parser.add_argument("--json", type=Path, help="write the results here too")
    parser.add_argument("--one", nargs=3, metavar=("MODE", "WORKERS", "TRIALS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        mode, workers, trials = chosen.one
        print(json.dumps(asdict(simulate(mode, int(workers), int(trials)))))
        return 0
    results = []
    for workers in [8, 64] if chosen.quick else chosen.workers:
        trials = max(EARLY if chosen.quick else chosen.trials, 5 * workers)
        for mode in MODES:  # each in a process of its own, for its memory
            command = [sys.executable, "-m", "scripts.bench.scale", "--one", mode, str(workers), str(trials)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results.append(Result(**json.loads(out)))
    table = Table(title=f"trials of {MEAN:g} s mean, log-normal, sigma {SIGMA:g}")
    for heading in (
        "workers",
        "algorithm",
        "trials",
        "utilisation",
        "first 1,000",
        "driver ms/trial",
        "memory kB/trial",
    ):
        table.add_column(heading, justify="right")
    for r in results:
        name = "nsga2_paper" if r.mode == "paper" else f"nsga2, {r.mode}"
        early = "-" if r.early is None else f"{r.early:.1%}"
        numbers = (f"{r.utilisation:.1%}", early, f"{1000 * r.driver:.2f}", f"{r.growth / 1000:.1f}")
        table.add_row(f"{r.workers:,}", name, f"{r.trials:,}", *numbers)
    Console().print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
