"""Worker utilization and time to a good front, on a simulated clock.

    python -m scripts.bench.scale [--workers 8 64 1000 10000] [--trials 16000] [--quick] [--json FILE]
    python -m scripts.bench.scale --to-99 --table nats_bench.csv [--workers 1 8 64] [--seeds 20] [--trials 400]
                                  [--quick] [--json FILE]

Trial times are log-normal (sigma 0.8).

Utilization is the share of the workers' time spent on training until the last trial starts. It is also reported for
the first 1,000 trials, since the lag of the steady state grows during the search. The algorithm, the loop and the
journal are real, and the workers are simulated. Trials take 60 s on average. The driver is one process that handles one
event at a time; an event takes the time measured here, plus the overhead of Ray Tune. A worker waits for the driver and
for the algorithm.

`--to-99` measures how long a search takes to reach 99 % of the true hypervolume on NAS-Bench-201, CIFAR-10 (exact error
against parameters), in units of the mean trial time. It runs only the algorithm and ignores the driver's time.
"""

from __future__ import annotations

import argparse
import heapq
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nasx import pareto
from nasx.algorithms.nsga2 import NSGA2, NSGA2Paper
from nasx.protocols import Problem, SearchAlgorithm
from nasx.trial import Genotype, Job
from scripts.bench.made_up import Space, search_loop
from scripts.bench.search_quality import LEVEL
from scripts.bench.tabular import TabularProblem, read

SIGMA = 0.8  # standard deviation of the logarithm of a trial's time
MEAN = 60.0  # mean trial time in seconds
RAY_TUNE = 0.010  # seconds of the driver's time that Ray Tune takes per trial (scripts.bench.overhead)
EARLY = 1000  # trials
MODES = ("steady_state", "free_running", "generational", "paper")
SPACE = Space((5,) * 16)  # more networks than any search evaluates
DEFAULT_MODE = inspect.signature(NSGA2).parameters["mode"].default
MODES_TO_99 = tuple(dict.fromkeys(("steady_state", "free_running", DEFAULT_MODE)))
DATASET = "CIFAR-10"


@dataclass(frozen=True)
class Utilization:
    """Utilization of one search, and time and memory of its driver."""

    mode: str
    workers: int
    trials: int
    utilization: float  # share of the workers' time
    early: float | None  # the same for only the first trials; None if these are fewer than three per worker
    driver: float  # seconds per trial in the algorithm and the journal
    growth: float  # growth of the driver's memory in bytes per trial


@dataclass(frozen=True)
class TimeTo99:
    """Time and evaluations until 99 % of the true hypervolume; infinite if the search did not reach it."""

    time: float  # in mean trial times
    evaluations: float  # completed by then


def trial_times(trials: int, seed: int) -> list[float]:
    """Return log-normal trial times in units of their mean, (trials,)."""
    times: list[float] = np.random.default_rng(seed).lognormal(-(SIGMA**2) / 2, SIGMA, size=trials).tolist()
    return times


def make(mode: str, workers: int) -> SearchAlgorithm:
    """Return a fresh algorithm: NSGA2Paper for "paper", otherwise NSGA2 in this mode."""
    problem = Problem(gene_sizes=SPACE.gene_sizes, n_objectives=2, seed=0, workers=workers)
    if mode == "paper":
        return NSGA2Paper(population_size=64, problem=problem)
    return NSGA2(population_size=64, mode=mode, problem=problem)  # type: ignore[arg-type]


def simulate(mode: str, workers: int, trials: int) -> Utilization:
    """Run a search on the simulated clock.

    Args:
        mode: one of MODES.
        workers: number of simulated workers.
        trials: budget.
    """
    times = MEAN * np.array(trial_times(trials, seed=1))
    with search_loop(SPACE, make(mode, workers), trials, workers) as loop:
        memory = resident()
        running: list[tuple[float, int, Job]] = []  # end, tie-break, job
        now, driver_free, spent, given = 0.0, 0.0, 0.0, 0
        periods: list[tuple[float, float]] = []  # begin and end of each trial
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
            loop.complete(job, SPACE.evaluate(job.genotype))
            took = time.perf_counter() - began
            spent += took
            driver_free = max(driver_free, now) + took
            idle += 1
        growth = (resident() - memory) / trials
        early = utilization(periods[:EARLY], workers) if 3 * workers <= EARLY else None
        return Utilization(mode, workers, trials, utilization(periods, workers), early, spent / trials, growth)


def utilization(periods: Sequence[tuple[float, float]], workers: int) -> float:
    """Return the share of the workers' time spent on trials until the last trial begins.

    Args:
        periods: begin and end of each trial, in any unit of time.
        workers: number of workers.

    >>> utilization([(0.0, 4.0), (0.0, 1.0), (3.0, 9.0)], workers=2)
    0.6666666666666666
    """
    last = max(begin for begin, _ in periods)
    return sum(min(end, last) - begin for begin, end in periods) / (workers * last)


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def arrivals(
    algorithm: SearchAlgorithm,
    answer: Callable[[Genotype], Sequence[float]],
    times: Sequence[float],
    workers: int,
) -> Iterator[tuple[float, Genotype]]:
    """Run a search on the simulated clock; yield the time and genotype of each result in the order of arrival.

    A free worker asks at once. If `ask` returns None, the worker waits for the next result and asks again.

    Args:
        algorithm: a fresh algorithm.
        answer: returns the costs of a genotype.
        times: duration of each trial, in the order in which the trials start; the search ends after the last one.
        workers: number of workers.

    >>> problem = Problem(gene_sizes=(5,) * 6, n_objectives=1, seed=0, workers=2)
    >>> def ends(**settings):
    ...     algorithm = NSGA2(**settings, problem=problem)
    ...     return [end for end, _ in arrivals(algorithm, lambda genotype: (0.0,), [4.0, 1.0, 2.0, 2.0], workers=2)]
    >>> ends(mode="free_running")
    [1.0, 3.0, 4.0, 5.0]
    >>> ends(mode="steady_state", lag=2)  # trials 2 and 3 wait for the result of trial 0
    [1.0, 4.0, 6.0, 6.0]
    """
    running: list[tuple[float, int, Genotype]] = []  # end, number of the candidate, genotype
    now, started = 0.0, 0
    while True:
        while len(running) < workers and started < len(times) and (candidate := algorithm.ask()) is not None:
            heapq.heappush(running, (now + times[started], candidate.number, candidate.genotype))
            started += 1
        if not running:
            return
        now, number, genotype = heapq.heappop(running)
        algorithm.tell(number, answer(genotype))
        yield now, genotype


def time_to_99(problem: TabularProblem, mode: str, workers: int, trials: int, seed: int) -> TimeTo99:
    """Search until the share of the true hypervolume reaches 99 %.

    Args:
        problem: the table, without noise.
        mode: of NSGA2.
        workers: number of simulated workers.
        trials: budget.
        seed: of the algorithm and of the trial times. All modes get the same times.
    """
    exact = {"is_noisy": False} if "is_noisy" in {field.name for field in fields(Problem)} else {}
    given = Problem(
        gene_sizes=problem.space.gene_sizes,
        n_objectives=2,
        seed=seed,
        key=problem.space.canonical,
        is_connected=problem.space.is_connected,
        workers=workers,
        **exact,  # type: ignore[arg-type]
    )
    algorithm = NSGA2(mode=mode, problem=given)  # type: ignore[arg-type]
    front: list[Genotype] = []
    found = arrivals(algorithm, problem.costs.__getitem__, trial_times(trials, seed), workers)
    for evaluations, (now, genotype) in enumerate(found, start=1):
        front.append(genotype)
        on_front = pareto.front_mask([problem.costs[member] for member in front])
        front = [member for member, is_kept in zip(front, on_front, strict=True) if is_kept]
        if problem.shares(front)[-1] >= LEVEL:
            return TimeTo99(now, evaluations)
    return TimeTo99(np.inf, np.inf)


def measure_utilization(all_workers: Sequence[int], trials: int) -> list[Utilization]:
    """Run one search per number of workers and mode, with at least `trials` trials and five per worker."""
    results = []
    for workers in all_workers:
        for mode in MODES:  # each in its own process, to measure its memory
            numbers = [str(workers), str(max(trials, 5 * workers))]
            command = [sys.executable, "-m", "scripts.bench.scale", "--one", mode, *numbers]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results.append(Utilization(**json.loads(out)))
    return results


def utilization_table(results: Sequence[Utilization]) -> Table:
    """Draw one row per search."""
    table = Table(title=f"trials of {MEAN:g} s mean, log-normal, sigma {SIGMA:g}")
    for heading in (
        "workers",
        "algorithm",
        "trials",
        "utilization",
        "first 1,000",
        "driver ms/trial",
        "memory kB/trial",
    ):
        table.add_column(heading, justify="right")
    for r in results:
        name = "nsga2_paper" if r.mode == "paper" else f"nsga2, {r.mode}"
        early = "-" if r.early is None else f"{r.early:.1%}"
        numbers = (f"{r.utilization:.1%}", early, f"{1000 * r.driver:.2f}", f"{r.growth / 1000:.1f}")
        table.add_row(f"{r.workers:,}", name, f"{r.trials:,}", *numbers)
    return table


def measure_time_to_99(
    problem: TabularProblem, all_workers: Sequence[int], trials: int, seeds: int
) -> dict[tuple[int, str], list[TimeTo99]]:
    """Run `seeds` searches per number of workers and mode.

    Args:
        problem: the table, without noise.
        all_workers: numbers of workers.
        trials: budget of each search.
        seeds: number of searches.
    """
    results = {}
    for workers in all_workers:
        for mode in MODES_TO_99:
            runs = track(range(seeds), f"{workers} workers, {mode}", console=Console(stderr=True))
            results[workers, mode] = [time_to_99(problem, mode, workers, trials, seed) for seed in runs]
    return results


def time_to_99_table(results: dict[tuple[int, str], list[TimeTo99]], trials: int) -> Table:
    """Draw one row per number of workers and mode; `trials` is the budget of each search."""
    seeds = len(next(iter(results.values())))
    table = Table(title=f"{DATASET}, {seeds} seeds: log-normal trial times, sigma {SIGMA:g}; median (worst)")
    for heading in ("workers", "mode", "time to 99 %, mean trials", "evaluations", f"never within {trials:,}"):
        table.add_column(heading, justify="right")
    for (workers, mode), runs in results.items():
        times, evaluations = [run.time for run in runs], [run.evaluations for run in runs]
        never = times.count(np.inf)
        table.add_row(f"{workers:,}", mode, median_worst(times, 1), median_worst(evaluations, 0), f"{never:,}")
    return table


def median_worst(values: Sequence[float], decimals: int) -> str:
    """Format median and worst value; "-" means infinite.

    >>> median_worst([1.0, 2.0, float("inf")], 1)
    '2.0 (-)'
    """
    middle, worst = (f"{v:,.{decimals}f}" if np.isfinite(v) else "-" for v in (median(values), max(values)))
    return f"{middle} ({worst})"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.scale")
    parser.add_argument("--to-99", action="store_true", help="time to 99 %% of the true hypervolume")
    parser.add_argument(
        "--table",
        type=Path,
        default=os.environ.get("NASX_NATS_TABLE"),
        help="with --to-99: the published table, CSV; default: $NASX_NATS_TABLE",
    )
    parser.add_argument("--workers", type=int, nargs="+", help="default: 8 64 1000 10000; 1 8 64 with --to-99")
    parser.add_argument("--seeds", type=int, help="with --to-99: default 20, or 4 if quick")
    parser.add_argument(
        "--trials", type=int, help="of a search; default: 16000, at least five per worker; 400 with --to-99"
    )
    parser.add_argument("--quick", action="store_true", help="8 and 64 workers; 1,000 trials, or 4 seeds with --to-99")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--one", nargs=3, metavar=("MODE", "WORKERS", "TRIALS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.to_99 and (chosen.table is None or not chosen.table.is_file()):
        parser.error(f"--to-99 needs --table, the published table as CSV; no such file: {chosen.table}")
    if chosen.quick:
        chosen.workers = chosen.workers or [8, 64]
        chosen.trials = chosen.trials or (None if chosen.to_99 else EARLY)
    return chosen


def main() -> int:
    chosen = arguments()
    if chosen.one:
        mode, workers, trials = chosen.one
        print(json.dumps(asdict(simulate(mode, int(workers), int(trials)))))
        return 0
    if chosen.to_99:
        trials, seeds = chosen.trials or 400, chosen.seeds or (4 if chosen.quick else 20)
        found = measure_time_to_99(read(chosen.table, DATASET), chosen.workers or [1, 8, 64], trials, seeds)
        table = time_to_99_table(found, trials)
        records = [
            {"workers": workers, "mode": mode, "seed": seed, **asdict(run)}
            for (workers, mode), runs in found.items()
            for seed, run in enumerate(runs)
        ]
    else:
        results = measure_utilization(chosen.workers or [8, 64, 1000, 10_000], chosen.trials or 16_000)
        table, records = utilization_table(results), [asdict(r) for r in results]
    Console().print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps(records, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
