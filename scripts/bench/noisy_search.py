"""Quality of the networks that a tool recommends if the result of every training is noisy.

    python -m scripts.bench.noisy_search --table nats_bench.csv [--seeds 20] [--first-seed 1000] [--budgets 128 256]
        [--problems cifar10 ...] [--tools nasx ...] [--processes 1] [--quick] [--json result.json]
    python -m scripts.bench.noisy_search --problem cifar10 --write-table noisy.csv [--replicates 32] [--seed 1000]
    python -m scripts.bench.noisy_search --problem cifar10 --measure-front front.json

See `noisy_problem.py` for the problems, `noisy_tools.py` for the tools and `noisy_table.py` for the last two forms.
A budget counts trainings, repeated ones included. Figures are means, standard deviations and worst cases over the
seeds:

- true hypervolume of the networks shown, as a share of that of the true front (reference point: 1.1 times its extent);
- optimism: hypervolume of the costs shown, as the same share, minus the true one;
- regret: a user with given weights of the objectives picks the best network by the costs shown. Regret is its true cost
  minus that of the best network of the space. Mean over users with weights .05, .10, ..., .95 and an augmented
  Tchebycheff cost, in units of the true front;
- number of networks shown, and share of them on the true front.

Results of the released nasx and of the peers are kept in build/noisy_search.json: delete it if their scripts change.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nasx.files import write_atomically
from scripts.bench.measurement import Measurement, Options, Skipped
from scripts.bench.noisy_problem import SETTINGS, Figures, read
from scripts.bench.noisy_table import measure_front, write_table
from scripts.bench.noisy_tools import LABELS, TOOLS, unpack_released, version_of

BUDGETS = (128, 256)
PYMOO = tuple(tool for tool in TOOLS if tool.startswith("pymoo"))
QUICK = ("nasx", "random")
CACHE = Path(__file__).parents[2] / "build" / "noisy_search.json"
WORST: Mapping[str, Callable[[Sequence[float]], float]] = {"hypervolume": min, "optimism": max, "regret": max}


@dataclass(frozen=True)
class Job:
    """Search by one tool."""

    table: Path
    problem: str
    tool: str
    seed: int
    budgets: tuple[int, ...]  # ascending; the recommendation is measured at each

    @property
    def keys(self) -> dict[int, str] | None:
        """The key in the cache of the figures at each budget; None for tools that change with the working tree."""
        version = version_of(self.tool)
        if version is None:
            return None
        fingerprint = read(self.table, self.problem).fingerprint
        return {budget: f"{self.tool} {version} {fingerprint} {self.seed} {budget}" for budget in self.budgets}


def run(job: Job) -> dict[int, Figures]:
    """Search once and measure the recommendation at each budget."""
    problem = read(job.table, job.problem)
    return {n: problem.figures(shown) for n, shown in TOOLS[job.tool](problem, job.seed, job.budgets).items()}


def run_all(jobs: Sequence[Job], processes: int, cache: Path | None = CACHE) -> dict[Job, dict[int, Figures]]:
    """Run searches in processes with one thread each, except those with figures in the cache.

    Args:
        jobs: searches.
        processes: searches at the same time.
        cache: JSON file of figures; None: no cache.
    """
    known: dict[str, dict[str, Any]] = json.loads(cache.read_text()) if cache and cache.is_file() else {}
    results: dict[Job, dict[int, Figures]] = {}
    for job in jobs:
        if job.keys and all(key in known for key in job.keys.values()):
            results[job] = {budget: Figures(**known[key]) for budget, key in job.keys.items()}
    for job, figures in track(
        computed([job for job in jobs if job not in results], processes),
        "searching",
        total=len(jobs) - len(results),
        console=Console(stderr=True),
    ):
        results[job] = figures
        if job.keys and cache:
            known |= {key: asdict(figures[budget]) for budget, key in job.keys.items()}
            cache.parent.mkdir(exist_ok=True)
            write_atomically(cache, json.dumps(known).encode())
    return results


def computed(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, dict[int, Figures]]]:
    """Run searches in processes and yield their results in order of completion."""
    if not jobs:
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when a process imports numpy
    with tempfile.TemporaryDirectory() as directory:
        if any(job.tool == "released" for job in jobs):
            unpack_released(Path(directory))
            os.environ["NASX_RELEASED"] = directory
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            running = {pool.submit(run, job): job for job in jobs}
            try:
                for future in as_completed(running):
                    yield running[future], future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def summary(runs: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Return mean, standard deviation and worst case of each figure over the seeds."""
    found = {}
    for name in asdict(runs[0]):
        values = [float(getattr(figures, name)) for figures in runs]
        found[name] = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
        if name in WORST:
            found[name]["worst"] = WORST[name](values)
    return found


def table(title: str, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Draw one row for each tool."""
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("mean ± standard deviation (worst seed)")
    for heading in ("true hypervolume", "optimism", "regret", "shown", "optimal"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for tool, row in rows.items():
        cells = [f"{row[n]['mean']:.3f} ± {row[n]['std']:.3f} ({row[n]['worst']:.3f})" for n in WORST]
        optimal = row["optimal"]["mean"] / row["shown"]["mean"]
        drawn.add_row(LABELS[tool], *cells, f"{row['shown']['mean']:.1f}", f"{optimal:.0%}")
    return drawn


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    default = os.environ.get("NASX_NATS_TABLE")
    parser.add_argument("--table", type=Path, default=default, required=default is None, help="published table, CSV")
    parser.add_argument("--seeds", type=int, default=20, help="searches of each tool")
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="trainings")
    parser.add_argument("--problems", nargs="+", choices=SETTINGS, default=tuple(SETTINGS))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=tuple(TOOLS))
    parser.add_argument("--processes", type=int, default=1, help="searches at the same time, one thread each")
    parser.add_argument("--quick", action="store_true", help=f"4 seeds, 128 trainings, cifar10, {' and '.join(QUICK)}")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    tables = parser.add_argument_group("a table for nasx's own commands")
    tables.add_argument("--problem", choices=SETTINGS, default="cifar10")
    tables.add_argument("--write-table", type=Path, metavar="FILE", help="write noisy results as CSV, and stop")
    tables.add_argument("--replicates", type=int, default=32, help="trainings of each network")
    tables.add_argument("--seed", type=int, default=1000, help="search seed of the noise")
    tables.add_argument("--measure-front", type=Path, metavar="FILE", help="measure what `nasx pareto` shows, and stop")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.budgets, options.problems, options.tools = 4, (128,), ("cifar10",), QUICK
    if not options.table.is_file():
        parser.error(f"argument --table: there is no file {options.table}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison, or write a table or measure a front."""
    options = parse(arguments)
    if options.write_table:
        write_table(read(options.table, options.problem), options.write_table, options.replicates, options.seed)
    elif options.measure_front:
        print(json.dumps(asdict(measure_front(read(options.table, options.problem), options.measure_front)), indent=1))
    else:
        compare(options)


def benchmark(options: Options) -> Iterator[Measurement | Skipped]:
    """Yield the regret of nasx and of each peer, and the optimism of nasx, on the problem cifar10."""
    path = os.environ.get("NASX_NATS_TABLE")
    if not path or not Path(path).is_file():
        yield Skipped("regret of the networks recommended", "NASX_NATS_TABLE is not the path of the published table")
        return
    seeds, budget = (range(1000, 1004), 128) if options.quick else (range(1000, 1010), 256)
    tools = ("nasx", "random", *PYMOO) if options.quick else tuple(TOOLS)
    jobs = {(tool, seed): Job(Path(path), "cifar10", tool, seed, (budget,)) for seed in seeds for tool in tools}
    results = run_all(list(jobs.values()), processes=1)
    rows = {tool: summary([results[jobs[tool, seed]][budget] for seed in seeds]) for tool in tools}
    regrets = {tool: row["regret"]["mean"] for tool, row in rows.items()}
    best = min(PYMOO, key=regrets.__getitem__)
    for tool in tools:
        if tool == best or tool not in ("nasx", *PYMOO):
            yield Measurement(
                what=f"regret of the networks recommended, {budget} noisy trainings",
                against=LABELS[tool],
                ours=(regrets["nasx"],),
                theirs=(regrets[tool],),
                unit="",
                target=None if options.quick else 1.0,
                note=f"means of {len(seeds)} seeds",
            )
    optimism = rows["nasx"]["optimism"]["mean"]
    yield Measurement("optimism of the front shown", "the true costs", (optimism,), unit="of the true hypervolume")


def compare(options: argparse.Namespace) -> None:
    """Search with each tool and print a table for each problem and budget."""
    budgets = tuple(sorted(set(options.budgets)))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    found: dict[str, dict[str, Any]] = {}
    for problem in options.problems:
        jobs = {(t, s): Job(options.table, problem, t, s, budgets) for s in seeds for t in options.tools}
        results = run_all(list(jobs.values()), options.processes)
        runs = {t: [results[jobs[t, s]] for s in seeds] for t in options.tools}
        found[problem] = {str(n): {t: summary([f[n] for f in runs[t]]) for t in runs} for n in budgets}
        for n, rows in found[problem].items():
            title = f"{SETTINGS[problem].label}: {n} trainings, {len(seeds)} seeds from {options.first_seed}"
            Console(width=None if sys.stdout.isatty() else 160).print(table(title, rows))
        if options.json:
            each = {t: [{n: asdict(figures) for n, figures in run.items()} for run in runs[t]] for t in runs}
            found[problem]["runs"] = each
            write_atomically(options.json, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
