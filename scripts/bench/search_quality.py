"""How many evaluations a search needs: ours beside pymoo and Optuna on the tabular NAS-Bench-201 problems.

    python -m scripts.bench.search_quality --table nats_bench.csv [--seeds 20] [--quick] [--json result.json]

Error against parameters on three datasets; all settings of nasx were chosen on CIFAR-10. A row is a searcher, its
figures the share of the true hypervolume after so many evaluations, mean over the seeds (and worst seed), and the
median number of evaluations to 99 %. Every network asked counts. "repeats free" gives a peer what it does not have:
encodings of a network that it has asked before, and cells that are no network, cost it nothing.
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
# name: searcher, evaluations: peers get more, since they need more to 99 %
SEARCHERS: Mapping[str, tuple[Searcher, int]] = {
    DEFAULT: (ours(NSGA2), 1000),
    # by default the algorithm is free running with so many workers, which a simulated clock measures (scale.py)
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
    """The first encoding of every network asked, in order; what is no network is left out."""
    first: dict[Genotype, Genotype] = {}
    for genotype in asked:
        if problem.space.is_connected(genotype):
            first.setdefault(problem.space.canonical(genotype), genotype)
    return list(first.values())


def curves(
    table_path: Path, dataset: str, names: Sequence[str], seeds: int, processes: int
) -> dict[str, list[NDArray[np.float64]]]:
    """The share of the true hypervolume by evaluation: one array a searcher and seed."""
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
    """How many evaluations it took to reach the level; infinite where it was not reached."""
    reached = np.flatnonzero(shares >= level)
    return float(reached[0] + 1) if len(reached) else np.inf


def summary(runs: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Mean and worst share at each budget, median and worst number of evaluations to 99 %."""
    needed = [evaluations_to(run, LEVEL) for run in runs]
    at = {budget: [run[min(budget, len(run)) - 1] for run in runs] for budget in BUDGETS}
    return {
        "mean": {budget: float(np.mean(shares)) for budget, shares in at.items()},
        "worst": {budget: float(np.min(shares)) for budget, shares in at.items()},
        "median_evaluations": float(np.median(needed)),
        "worst_evaluations": max(needed),
    }


def verdict(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One line: our evaluations against the better peer's, and whether we are ahead at every budget."""
    ours_needed = rows[DEFAULT]["median_evaluations"]
    peers_needed = min(rows[peer]["median_evaluations"] for peer in PEERS)
    ahead = all(rows[DEFAULT]["mean"][b] > max(rows[peer]["mean"][b] for peer in PEERS) for b in BUDGETS)
    where = "ahead of both peers at every budget" if ahead else "NOT ahead of both peers at every budget"
    return f"{ours_needed / peers_needed:.2f} of the better peer's evaluations to 99 %; {where}"


def table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a searcher: mean (worst) share in percent at each budget, evaluations to 99 %."""
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
        Path, typer.Option("--table", envvar="NASX_NATS_TABLE", exists=True, help="The published table, CSV.")
    ],
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each searcher: 20, or 4 if quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Our default and the peers alone.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Seeds at a time.")] = os.cpu_count() or 1,
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
