"""Number of evaluations that a search needs: nasx, pymoo and Optuna on the tabular NAS-Bench-201 problems.

    python -m scripts.bench.search_quality --table nats_bench.csv [--seeds 20] [--quick] [--json result.json]

Objectives are error and parameters on three datasets; all settings of nasx were chosen on CIFAR-10. A row is a
searcher: the share of the true hypervolume after given numbers of evaluations, mean over the seeds (and worst seed),
and the median number of evaluations to 99 %. Every evaluated genotype counts. In rows with "repeats free", a peer's
repeated encodings of a network and its disconnected cells do not count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nasx.algorithms.local_search import LocalSearch
from nasx.algorithms.nsga2 import NSGA2, NSGA2Paper
from nasx.algorithms.random_search import RandomSearch
from nasx.algorithms.regularized_evolution import RegularizedEvolution
from nasx.trial import Genotype
from scripts.bench.searchers import Searcher, optuna, ours, pymoo
from scripts.bench.tabular import DATASETS, TabularProblem, read

BUDGETS = (100, 200, 500, 1000)
LEVEL = 0.99
DEFAULT = "nasx nsga2"
PEERS = ("pymoo NSGA-II", "Optuna NSGA-II")
# name: (searcher, evaluations); peers get more evaluations, since they need more to reach 99 %
SEARCHERS: Mapping[str, tuple[Searcher, int]] = {
    DEFAULT: (ours(NSGA2), 1000),
    # not the default mode, which is free running with several workers and is measured on a simulated clock (scale.py)
    "nasx nsga2, steady state, 8 workers": (ours(NSGA2, workers=8, mode="steady_state"), 1000),
    "nasx nsga2, steady state, 64 workers": (ours(NSGA2, workers=64, mode="steady_state"), 1000),
    "nasx nsga2, unscreened": (ours(NSGA2, screening=1), 1000),
    "nasx nsga2_paper": (ours(NSGA2Paper), 1000),
    "nasx local_search": (ours(LocalSearch), 1000),
    "nasx regularized_evolution": (ours(RegularizedEvolution), 1000),
    "nasx random": (ours(RandomSearch), 1000),
    PEERS[0]: (pymoo, 3000),
    PEERS[1]: (optuna, 2000),
}
QUICK = (DEFAULT, *PEERS)
FREE = ", repeats free"


def distinct(problem: TabularProblem, asked: Sequence[Genotype]) -> list[Genotype]:
    """Return the first encoding of every network, in order, without disconnected cells."""
    first: dict[Genotype, Genotype] = {}
    for genotype in asked:
        if problem.space.is_connected(genotype):
            first.setdefault(problem.space.canonical(genotype), genotype)
    return list(first.values())


def curves(
    table_path: Path, dataset: str, names: Sequence[str], seeds: int, processes: int
) -> dict[str, list[NDArray[np.float64]]]:
    """Return the share of the true hypervolume by evaluation: by searcher, one array (n_evaluations,) per seed.

    Args:
        table_path: published table, CSV.
        dataset: a name of DATASETS.
        names: searchers.
        seeds: number of seeds.
        processes: seeds at the same time.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    with ProcessPoolExecutor(processes) as pool:
        by_seed = pool.map(partial(_curves_of_seed, table_path, dataset, tuple(names)), range(seeds))
        for shares in track(by_seed, dataset, total=seeds, console=Console(stderr=True)):
            for name, each in shares.items():
                found.setdefault(name, []).append(each)
    return found


def _curves_of_seed(table_path: Path, dataset: str, names: Sequence[str], seed: int) -> dict[str, NDArray[np.float64]]:
    problem, found = _problem(table_path, dataset), {}
    for name in names:
        searcher, evaluations = SEARCHERS[name]
        asked = searcher(problem, seed, evaluations)
        found[name] = problem.shares(asked)
        if name in PEERS:
            found[name + FREE] = problem.shares(distinct(problem, asked))
    return found


@cache
def _problem(table_path: Path, dataset: str) -> TabularProblem:
    return read(table_path, dataset)


def evaluations_to(shares: NDArray[np.float64], level: float) -> float:
    """Return the number of evaluations until the level is reached; infinite if it is not."""
    reached = np.flatnonzero(shares >= level)
    return float(reached[0] + 1) if len(reached) else np.inf


def summary(runs: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Return mean and worst share at each budget, and median and worst number of evaluations to 99 %."""
    needed = [evaluations_to(run, LEVEL) for run in runs]
    at = {budget: [run[min(budget, len(run)) - 1] for run in runs] for budget in BUDGETS}
    return {
        "mean": {budget: float(np.mean(shares)) for budget, shares in at.items()},
        "worst": {budget: float(np.min(shares)) for budget, shares in at.items()},
        "median_evaluations": float(np.median(needed)),
        "worst_evaluations": max(needed),
    }


def verdict(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one line: nasx's evaluations to 99 % relative to the better peer's, and whether nasx is always ahead."""
    ours_needed = rows[DEFAULT]["median_evaluations"]
    peers_needed = min(rows[peer]["median_evaluations"] for peer in PEERS)
    ahead = all(rows[DEFAULT]["mean"][b] > max(rows[peer]["mean"][b] for peer in PEERS) for b in BUDGETS)
    text = "ahead of both peers at every budget" if ahead else "NOT ahead of both peers at every budget"
    return f"{ours_needed / peers_needed:.2f} of the better peer's evaluations to 99 %; {text}"


def table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Draw one row per searcher: mean (worst) share in percent at each budget, evaluations to 99 %."""
    drawn = Table(title=title)
    drawn.add_column("share of the true hypervolume, %, mean (worst seed) at")
    for budget in BUDGETS:
        drawn.add_column(f"{budget:,}", justify="right")
    drawn.add_column("evaluations to 99 %, median (worst)", justify="right")
    for name, row in rows.items():
        shares = [f"{100 * row['mean'][b]:.1f} ({100 * row['worst'][b]:.1f})" for b in BUDGETS]
        needed = [f"{n:,.0f}" if np.isfinite(n) else "-" for n in (row["median_evaluations"], row["worst_evaluations"])]
        drawn.add_row(name, *shares, f"{needed[0]} ({needed[1]})")
    return drawn


def main(
    table_path: Annotated[
        Path, typer.Option("--table", envvar="NASX_NATS_TABLE", exists=True, help="Published table, CSV.")
    ],
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds per searcher; default: 20, or 4 if quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only nasx's default and the peers.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Seeds at the same time.")] = os.cpu_count() or 1,
) -> None:
    """Compare searches on the tabular NAS-Bench-201 problems."""
    names, n_seeds = (QUICK, seeds or 4) if quick else (tuple(SEARCHERS), seeds or 20)
    results = {}
    for dataset in DATASETS:
        found = curves(table_path, dataset, names, n_seeds, processes)
        results[dataset] = {name: summary(runs) for name, runs in found.items()}
        Console().print(table(f"{dataset}, {n_seeds} seeds", results[dataset]))
        Console().print(f"{dataset}: {verdict(results[dataset])}\n")
    if json_path:
        json_path.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    typer.run(main)
